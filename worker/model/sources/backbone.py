"""A model without tokenizer or encoder -> a complete folder, with both from the hub repository of its backbone.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from worker.model.errors import ModelBrokenError, ModelNotFoundError
from worker.model.sources.configs import load
from worker.model.sources.folders import CALIBRATION, CONFIG, SIZES, TOKENIZER, WEIGHTS

log = logging.getLogger(__name__)

FILES = tuple(name for name in SIZES if name not in (CONFIG, WEIGHTS, CALIBRATION))
"""A tokenizer in any of its forms and the encoder's shape: never its weights, which the model has itself."""
_HUB_ID = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class Backbone:
    """The files of a backbone that a model takes; `commit` names them."""

    folder: Path
    commit: str


def find(
    source: str, folder: Path, revision: str | None, fetch: Callable[[str, str | None, Sequence[str]], Path]
) -> Backbone | None:
    """Return the backbone of a model that lacks a tokenizer or an encoder's shape; None where it has both.

    Args:
        source: the model, for messages.
        folder: its files.
        revision: the backbone's commit, or None for its main branch.
        fetch: brings a hub repository's files of these names at a revision; a snapshot, named by its commit.

    Raises:
        ModelBrokenError: the configuration names no repository, or that has not what is needed.
        ModelNotFoundError: the repository cannot be had.
    """
    config = load(folder / CONFIG)
    missing = [] if (folder / TOKENIZER).is_file() else [TOKENIZER]
    missing += [] if config.get("encoder_config") else ["encoder_config"]
    if not missing:
        return None
    lack, name = f"{source}: has no {' and no '.join(missing)}", config.get("model_name")
    remedy = (
        "Copy the tokenizer's files of its backbone into the model's folder, and the content of the backbone's "
        f"config.json as encoder_config into its {CONFIG}"
    )
    if not isinstance(name, str) or not _HUB_ID.fullmatch(name):
        raise ModelBrokenError(f"{lack}, and model_name in its {CONFIG} is no hub id to take them from. {remedy}.")
    try:
        snapshot = fetch(name, revision, FILES)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{lack}; they come from its backbone, {name}, which cannot be had. {remedy}, or allow the way to the "
            f"hub. ({error})"
        ) from error
    needed = {TOKENIZER: TOKENIZER, "encoder_config": "config.json"}
    absent = [needed[part] for part in missing if not (snapshot / needed[part]).is_file()]
    if absent:
        raise ModelBrokenError(f"{lack}, and its backbone, {name}, has no {' and no '.join(absent)}. {remedy}.")
    if revision is None:
        log.warning("model.backbone_unpinned", extra={"backbone": name, "revision": snapshot.name})
    return Backbone(snapshot, snapshot.name)


def join(folder: Path, backbone: Backbone | None, weights: Path, whole: Path) -> Path:
    """Return a folder in the cache with all that a model needs, made unless it is there.

    Args:
        folder: the model's files.
        backbone: where what they lack is from.
        weights: the model's weights in one file.
        whole: the folder to make, below the cache, named by all that goes into it.
    """
    whole.parent.mkdir(parents=True, exist_ok=True)
    config = json.dumps(_configure(folder, backbone))
    with FileLock(f"{whole}.lock"):
        if not _is_whole(whole, config):
            _join(folder, backbone, weights, config, whole)
    return whole


def _is_whole(whole: Path, config: str) -> bool:
    """Return whether a folder has this configuration, and no links to what was removed."""
    if not whole.is_dir() or not all(path.exists() for path in whole.iterdir()):
        return False
    return (whole / CONFIG).is_file() and (whole / CONFIG).read_text(encoding="utf-8") == config


def _configure(folder: Path, backbone: Backbone | None) -> dict[str, Any]:
    """Return a model's configuration with what it lacks."""
    config: dict[str, Any] = load(folder / CONFIG)
    if backbone and not config.get("encoder_config"):
        encoder, tokens = load(backbone.folder / "config.json"), config.get("vocab_size")
        if isinstance(tokens, int) and tokens > 0:
            encoder["vocab_size"] = tokens  # as gliner does: the model's table has its own tokens, too
        config["encoder_config"] = encoder
    if not (folder / TOKENIZER).is_file():
        # The backbone's tokenizer lacks the model's own tokens: gliner adds them, in the order of training, where
        # it is not told that they are there.
        config |= {"class_token_index": -1, "vocab_size": -1}
    return config


def _join(folder: Path, backbone: Backbone | None, weights: Path, config: str, whole: Path) -> None:
    partial = whole.with_name(f"{whole.name}.partial")
    for old in (partial, whole):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir()
    for source in (*([backbone.folder] if backbone else []), folder):  # what both have is the model's
        for path in (source / name for name in SIZES if name not in (CONFIG, WEIGHTS)):
            if path.is_file():
                target = partial / path.name
                target.unlink(missing_ok=True)
                target.symlink_to(path.resolve())
    (partial / WEIGHTS).symlink_to(weights.resolve())
    (partial / CONFIG).write_text(config, encoding="utf-8")
    partial.replace(whole)
