"""Fetch a model into a folder of an image: bake.py FOLDER SOURCE REVISION BACKBONE_REVISION.

Writes FOLDER/baked; without a source FOLDER stays empty. The same files make the same layer: their times are 0.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path


def main(folder: Path, source: str, revision: str, backbone_revision: str) -> None:
    """Fetch and check the model, as a worker does at its start.

    Raises:
        ModelError: the source does not hold a model, or it is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if source:
        from worker.model.sources.resolve import SourceOptions, resolve_model

        with tempfile.TemporaryDirectory() as cache:
            options = SourceOptions(backbone_revision or None)
            model = resolve_model(source, revision or None, Path(cache), options)
            shutil.copytree(model.folder, folder / "baked")
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (0, 0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
