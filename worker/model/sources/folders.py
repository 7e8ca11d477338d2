"""The files of a model's folder: those that are read, by name, and those that must not be there.

Files that are not in `SIZES` are never fetched and never loaded, so a model is data: JSON, a vocabulary, and
tensors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from worker.model.errors import ModelBrokenError, PickleRefusedError
from worker.model.sources import weight_files
from worker.model.sources.weight_files import WEIGHTS as WEIGHTS

CONFIG = "gliner_config.json"
TOKENIZER = "tokenizer_config.json"
CALIBRATION = "calibration.json"
LABELS = "labels_tokenizer"
"""Folder in a bi-encoder's folder with the tokenizer of its label encoder."""
ENCODER = "encoder_config/config.json"
"""An extractor's configuration of its encoder."""
_MIB = 2**20
_TOKENIZER_SIZES: Mapping[str, int] = {
    TOKENIZER: 16 * _MIB,
    "special_tokens_map.json": 4 * _MIB,
    "added_tokens.json": 4 * _MIB,
    "tokenizer.json": 64 * _MIB,
    "vocab.json": 32 * _MIB,
    "vocab.txt": 32 * _MIB,
    "merges.txt": 32 * _MIB,
    "spm.model": 16 * _MIB,
    "spiece.model": 16 * _MIB,
    "sentencepiece.model": 16 * _MIB,
    "sentencepiece.bpe.model": 16 * _MIB,
    "tokenizer.model": 16 * _MIB,
}
SIZES: Mapping[str, int] = {
    CONFIG: 4 * _MIB,
    WEIGHTS: weight_files.MAX_BYTES,
    CALIBRATION: _MIB,
    "config.json": 4 * _MIB,
    ENCODER: 4 * _MIB,
    **_TOKENIZER_SIZES,
    **{f"{LABELS}/{name}": size for name, size in _TOKENIZER_SIZES.items()},
}
"""The files of a model, and the most bytes of each. mT5's tokenizer.json, a big one, has 17 MB."""
SUBFOLDERS = frozenset(name.partition("/")[0] for name in SIZES if "/" in name)
"""Folders in a model's folder."""
SMALL = tuple(name for name in SIZES if name != WEIGHTS)
MAX_FILES = 10_000
"""Most files and folders in a model's folder: more is another kind of folder, and hashing it would take a day."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".h5", ".hdf5", ".keras",
           ".msgpack", ".npy", ".npz")  # fmt: skip
CODE = (".py", ".pyc", ".pyo", ".pyd", ".pyx", ".pyz", ".dll", ".dylib", ".exe", ".sh", ".jar", ".whl", ".egg")
DOCUMENTS = (".md", ".gitattributes", ".gitignore")
"""Endings of documentation, which is not part of a model's revision."""
_LIBRARY = re.compile(r"\.so(\.\d+)*$")


def list_files(folder: Path) -> dict[str, Path]:
    """Return every file of a model's folder by its path in it, without hidden ones.

    Raises:
        ModelBrokenError: a link points out of the folder, or there are too many files.
    """
    files: dict[str, Path] = {}
    roots, count = _link_roots(folder), 0
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*folders, *names]):
            path, count = Path(here, name), count + 1
            if count > MAX_FILES:
                raise ModelBrokenError(f"{folder}: more than {MAX_FILES:,} files; is this a model's folder?")
            if name.startswith("."):
                continue
            _refuse_escape(path, roots)
            if name in names and path.is_file():
                files[path.relative_to(folder).as_posix()] = path
    return files


def max_file_bytes(name: str) -> int:
    """Return the most bytes that a file of this name may have; 0 for a file that is not part of a model."""
    return SIZES.get(name, weight_files.MAX_BYTES if weight_files.is_weights(name) else 0)


def refuse_code(folder: Path | str, names: Iterable[str]) -> None:
    """Refuse files with code or pickles, wherever they are in the folder.

    Raises:
        ModelBrokenError: there is code.
        PickleRefusedError: there are pickles, or weights in a format that may contain them.
    """
    everything = sorted(names)
    code = [name for name in everything if is_code(name)]
    if code:
        raise ModelBrokenError(
            f"{folder}: {', '.join(code[:5])}: a model must be data, and this is code. Remove it; models "
            "that need additional code are not supported."
        )
    pickles = [name for name in everything if is_pickle(name)]
    if pickles:
        raise PickleRefusedError(
            f"{folder}: pickles ({', '.join(pickles[:5])}), and a pickle can run any code. Delete them: they "
            "are not the model's weights, or duplicate its safetensors."
        )


def is_code(name: str) -> bool:
    """Return whether this is the name of a file with code."""
    return name.lower().endswith(CODE) or bool(_LIBRARY.search(name.lower()))


def is_pickle(name: str) -> bool:
    """Return whether this is the name of a pickle, or of a file that may contain one."""
    return name.lower().endswith(PICKLES)


def require_files(folder: Path, names: Iterable[str], bare: bool = False) -> None:
    """Raise unless a model's required files are present, and none is too large.

    The tokenizer of a `bare` model is added later, from elsewhere.

    Raises:
        ModelBrokenError: a file is missing or too large.
    """
    present = set(names)
    if CONFIG not in present and ENCODER not in present:
        raise ModelBrokenError(f"{folder}: no {CONFIG}; is this a GLiNER model?")
    if TOKENIZER not in present and not bare:
        raise ModelBrokenError(f"{folder}: no {TOKENIZER}. Copy the files of its backbone's tokenizer there.")
    for name in sorted(present):
        if max_file_bytes(name):
            refuse_large(str(folder), name, (folder / name).stat().st_size)


def refuse_large(source: str, name: str, size: int | None) -> None:
    """Refuse a file that is too large.

    Raises:
        ModelBrokenError: the file is larger than `max_file_bytes`.
    """
    if (size or 0) > max_file_bytes(name):
        raise ModelBrokenError(f"{source}: {name} has {size:,} bytes; at most {max_file_bytes(name):,} allowed.")


def refuse_odd_names(source: str, names: Iterable[str]) -> None:
    """Refuse object names that would be unsafe as paths on this machine.

    Raises:
        ModelBrokenError: a name is absolute, contains `..`, or has unusual characters.
    """
    for name in names:
        parts = name.split("/")
        odd = any(part in ("", ".", "..") for part in parts) or PurePosixPath(name).is_absolute()
        if odd or re.search(r"[\\\x00-\x1f\x7f]|^[A-Za-z]:", name):
            raise ModelBrokenError(
                f"{source}: the name {name!r} could point out of the model's folder. Remove that object."
            )


def read_small_file(path: Path) -> bytes:
    """Return the content of a file other than the weights.

    Raises:
        ModelBrokenError: it is too large, or cannot be read.
    """
    limit = SIZES[path.name]
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ModelBrokenError(f"{path}: cannot be read ({type(error).__name__}).") from error
    if len(content) > limit:
        raise ModelBrokenError(f"{path}: larger than the {limit:,} bytes allowed.")
    return content


def _link_roots(folder: Path) -> list[Path]:
    """Return the folders that links may point into: the hub's cache stores a snapshot's files elsewhere."""
    home = folder.resolve()
    roots = [home]
    if home.parent.name == "snapshots":
        roots.append(home.parents[1] / "blobs")
    if home.parent.name == "complete":
        roots += [home.parents[1] / name for name in ("hub", "objects", "weights")]
    return roots


def _refuse_escape(path: Path, roots: Iterable[Path]) -> None:
    if not path.is_symlink():
        return
    target = path.resolve()
    if not any(target.is_relative_to(root) for root in roots):
        raise ModelBrokenError(
            f"{path}: this link points out of the model's folder. Replace it by the file itself."
        )
