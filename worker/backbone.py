"""A hub model without tokenizer or encoder -> a complete folder, with both from the repository of its backbone.

Older GLiNER models, urchade's v2.1 among them, hold weights and `gliner_config.json` alone and name the encoder
they were trained from. gliner would look for it on the hub whenever it loads one. Here it is fetched once, with the
model, at a commit that can be pinned; then the folder loads without a network, or from inside an image.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from worker.model_configs import load
from worker.model_errors import ModelBrokenError
from worker.model_files import CALIBRATION, CONFIG, SIZES, TOKENIZER, WEIGHTS

log = logging.getLogger(__name__)

FILES = tuple(name for name in SIZES if name not in (CONFIG, WEIGHTS, CALIBRATION))
"""A tokenizer in any of its forms and the encoder's shape: never its weights, which the model has itself."""
_HUB_ID = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*")


def complete(
    folder: Path, revision: str | None, cache_dir: Path, fetch: Callable[[str, str | None, Sequence[str]], Path]
) -> Path:
    """The folder itself if nothing is missing, else one with everything in it.

    Args:
        folder: a snapshot, named by its commit.
        revision: the backbone's commit, or None for its main branch.
        cache_dir: where the complete folder is kept.
        fetch: brings a hub repository's files of these names at a revision; a snapshot, named by its commit.

    Raises:
        ModelBrokenError: the configuration names no repository, or its files are not what is needed.
    """
    config = load(folder / CONFIG)
    if (folder / TOKENIZER).is_file() and config.get("encoder_config"):
        return folder
    name = config.get("model_name")
    if not isinstance(name, str) or not _HUB_ID.fullmatch(name):
        raise ModelBrokenError(
            f"{folder / CONFIG}: model_name is no hub id, and the tokenizer is not there either."
        )
    backbone = fetch(name, revision, FILES)
    if revision is None:
        log.warning("model.backbone_unpinned", extra={"backbone": name, "revision": backbone.name})
    whole = cache_dir / "complete" / f"{folder.name}-{backbone.name}"
    whole.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{whole}.lock"):
        if not whole.is_dir():
            _join(folder, backbone, config, whole)
    return whole


def _join(folder: Path, backbone: Path, config: dict[str, Any], whole: Path) -> None:
    partial = whole.with_name(f"{whole.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for source in (backbone, folder):  # what both have is the model's
        for path in (source / name for name in SIZES):
            if path.is_file():
                target = partial / path.name
                target.unlink(missing_ok=True)
                target.symlink_to(path.resolve())
    if not config.get("encoder_config"):
        if not (backbone / "config.json").is_file():
            raise ModelBrokenError(f"{folder}: its backbone has no config.json, and the model no encoder_config.")
        config["encoder_config"] = load(backbone / "config.json")
    if not (folder / TOKENIZER).is_file():
        # The backbone's tokenizer lacks the model's own tokens: gliner adds them, in the order of training, where
        # it is not told that they are there.
        config |= {"class_token_index": -1, "vocab_size": -1}
    (partial / CONFIG).unlink()
    (partial / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    partial.replace(whole)
