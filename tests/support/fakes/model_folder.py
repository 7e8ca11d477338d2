"""A folder with the files of a model, small and without meaning, for what only reads and copies files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from worker.model.sources.checksums import hash_files
from worker.model.sources.folders import CALIBRATION, CONFIG, TOKENIZER, WEIGHTS


def write_model_folder(folder: Path) -> Path:
    """Write the files of a model, among them paths of another machine; return the folder."""
    folder.mkdir()
    config = {"encoder_config": {"model_type": "bert"}, "model_name": "/models/of/author", "span_mode": "markerV0"}
    (folder / CONFIG).write_text(json.dumps(config))
    (folder / TOKENIZER).write_text(json.dumps({"vocab_file": "/etc/passwd", "do_lower_case": True}))
    (folder / CALIBRATION).write_text("{}")
    (folder / "config.json").write_text("{}")
    save_file({"w": np.zeros(3, np.float32)}, folder / WEIGHTS)
    return folder


def hash_folder(folder: Path) -> dict[str, str]:
    """Return the hashes of the folder's files when they were checked."""
    return hash_files({path.name: path for path in folder.iterdir()})
