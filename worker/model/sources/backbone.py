"""A model without tokenizer or encoder -> a complete folder, with both from the hub repository of its backbone.

Older GLiNER models, urchade's v2.1 among them, contain only weights and `gliner_config.json`, and name the encoder
they were trained from. gliner would fetch that from the hub at every load. Here it is fetched once, with the model,
at a commit that can be pinned; then the folder loads without a network, or from inside an image.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from worker.model.errors import ModelBrokenError, ModelNotFoundError
from worker.model.sources.cached_folders import ensure_folder
from worker.model.sources.configs import load_json
from worker.model.sources.folders import CALIBRATION, CONFIG, SIZES, TOKENIZER, WEIGHTS

log = logging.getLogger(__name__)

FILES = tuple(name for name in SIZES if "/" not in name and name not in (CONFIG, WEIGHTS, CALIBRATION))
"""A tokenizer in any of its formats and the encoder's configuration; never its weights, which the model has."""
_HUB_ID = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*")


def fetch_backbone(
    source: str, folder: Path, revision: str | None, fetch: Callable[[str, str | None, Sequence[str]], Path]
) -> Path | None:
    """Return the backbone's files for a model without tokenizer or encoder configuration; None where it has both.

    The folder is named by their commit.

    Args:
        source: the model, for messages.
        folder: the folder of its files.
        revision: the backbone's commit, or None for its main branch.
        fetch: returns a snapshot with a hub repository's files of these names at a revision; named by its commit.

    Raises:
        ModelBrokenError: the configuration names no repository, or that lacks a needed file.
        ModelNotFoundError: the repository is not available.
    """
    config = load_json(folder / CONFIG)
    missing = [] if (folder / TOKENIZER).is_file() else [TOKENIZER]
    missing += [] if config.get("encoder_config") else ["encoder_config"]
    if not missing:
        return None
    problem, name = f"{source}: has no {' and no '.join(missing)}", config.get("model_name")
    remedy = (
        "Copy the tokenizer's files of its backbone into the model's folder, and the content of the backbone's "
        f"config.json as encoder_config into its {CONFIG}"
    )
    if not isinstance(name, str) or not _HUB_ID.fullmatch(name):
        raise ModelBrokenError(f"{problem}, and model_name in its {CONFIG} is not a hub id. {remedy}.")
    try:
        snapshot = fetch(name, revision, FILES)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{problem}; they come from its backbone, {name}, which is not available. {remedy}, or allow access to "
            f"the hub. ({error})"
        ) from error
    needed = {TOKENIZER: TOKENIZER, "encoder_config": "config.json"}
    absent = [needed[part] for part in missing if not (snapshot / needed[part]).is_file()]
    if absent:
        raise ModelBrokenError(f"{problem}, and its backbone, {name}, has no {' and no '.join(absent)}. {remedy}.")
    if revision is None:
        log.warning("model.backbone_unpinned", extra={"backbone": name, "revision": snapshot.name})
    return snapshot


def assemble_folder(folder: Path, backbone: Path | None, weights: Path, whole: Path) -> None:
    """Create a folder in the cache with all files that a model needs, unless it exists.

    Args:
        folder: the model's files.
        backbone: the source of missing ones.
        weights: the model's weights in one file.
        whole: the folder to create in the cache, named by the revisions of its contents.
    """
    config = json.dumps(_complete_config(folder, backbone))

    def link(partial: Path) -> None:
        _link_files((folder, backbone) if backbone else (folder,), weights, partial)
        (partial / CONFIG).write_text(config, encoding="utf-8")

    ensure_folder(whole, link, lambda existing: _is_whole(existing, config))


def _is_whole(whole: Path, config: str) -> bool:
    """Return whether a folder has this configuration, and no broken links."""
    if not whole.is_dir() or not all(path.exists() for path in whole.rglob("*")):
        return False
    return (whole / CONFIG).is_file() and (whole / CONFIG).read_text(encoding="utf-8") == config


def _complete_config(folder: Path, backbone: Path | None) -> dict[str, Any]:
    """Return a model's configuration with its missing parts."""
    config: dict[str, Any] = load_json(folder / CONFIG)
    if backbone and not config.get("encoder_config"):
        encoder, tokens = load_json(backbone / "config.json"), config.get("vocab_size")
        if isinstance(tokens, int) and tokens > 0:
            encoder["vocab_size"] = tokens  # as gliner does: the model's embeddings include its own tokens
        config["encoder_config"] = encoder
    if not (folder / TOKENIZER).is_file():
        # The backbone's tokenizer lacks the model's own tokens: with these values gliner adds them, in the order of
        # training.
        config |= {"class_token_index": -1, "vocab_size": -1}
    return config


def _link_files(folders: Sequence[Path], weights: Path, target: Path) -> None:
    """Link to the files of the folders, of equal names to the first; not to their configurations of gliner."""
    for name in SIZES:
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path and name not in (CONFIG, WEIGHTS):
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).symlink_to(path.resolve())
    (target / WEIGHTS).symlink_to(weights.resolve())
