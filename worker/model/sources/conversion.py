"""Weights that cannot be loaded as they lie, pickles and shards, become one safetensors file in the model cache.

That happens once, under a lock. The cache's manifest has the SHA-256 of the sources and of the result. A pickle is
opened in another process only (`worker.model.sources.unpickling`), which has no secrets and may do nothing but
write the result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import orjson
from filelock import FileLock

from worker.model.errors import ModelBrokenError, PickleRefusedError
from worker.model.sources import checksums, safetensors
from worker.model.sources.weight_files import MAX_BYTES, WEIGHTS, WeightFiles

log = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 2**20
PROGRAM = Path(__file__).with_name("unpickling.py")
SPARE_BYTES = 2**20
"""What a result may have beyond twice the size of its sources: tensors may share parts of their memory."""
SLOWEST = 2**22
"""Bytes a second that a conversion makes at least, after its first minutes."""
MAX_ANSWER = 64 * 1024


def provide(folder: Path, weights: WeightFiles, hashes: Mapping[str, str], cache_dir: Path) -> tuple[Path, str]:
    """Return a safetensors file with all the weights, and its SHA-256; it is made unless the cache has it.

    Args:
        folder: where the files of `weights` are.
        weights: pickles, or shards.
        hashes: SHA-256 of those files, by name.
        cache_dir: the model cache.

    Raises:
        PickleRefusedError: a pickle holds something else than weights.
        ModelBrokenError: the files are damaged, contradict each other, or there is no room.
    """
    sources = {name: hashes[name] for name in weights.names}
    key = hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:32]
    made = cache_dir / "weights" / key
    made.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{made}.lock"):
        if not checksums.sound(made):
            shutil.rmtree(made, ignore_errors=True)
            _make(folder, weights, sources, made)
    return made / WEIGHTS, checksums.sealed(made)[WEIGHTS]


def _make(folder: Path, weights: WeightFiles, sources: Mapping[str, str], made: Path) -> None:
    partial = made.with_name(f"{made.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        paths = [(folder / name).resolve() for name in weights.names]
        size = sum(path.stat().st_size for path in paths)
        _require_room(partial, size)
        if weights.pickled:
            log.info("model.converting", extra={"files": list(weights.names), "bytes": size})
            convert(paths, weights.names, partial / WEIGHTS, min(2 * size + SPARE_BYTES, MAX_BYTES))
        else:
            join(paths, partial / WEIGHTS)
        if any(checksums.hash_file(path) != sources[name] for path, name in zip(paths, weights.names, strict=True)):
            raise ModelBrokenError(f"{folder}: {weights.names[0]} changed while it was read. Start again.")
        safetensors.read_shapes(partial / WEIGHTS)
        checksums.seal(partial, sources)
        partial.replace(made)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ModelBrokenError(
            f"{folder.parent}: {free:,} bytes are free, and the weights need {size:,} more there. Make room, or "
            "set GLEANER_MODEL_CACHE to a larger volume."
        )


def convert(paths: Sequence[Path], names: Sequence[str], target: Path, most: int) -> None:
    """Convert pickled weights in a confined process.

    Args:
        paths: the pickles.
        names: what to call them in messages.
        target: the safetensors file to write, in a folder where nothing else is written.
        most: bytes the result may have.

    Raises:
        PickleRefusedError: they hold something else than weights, or the process ended without a word.
        ModelBrokenError: torch cannot be imported, or the disk is full.
    """
    # Their own names, so that messages say what the user knows; a hub's cache names files by their content.
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        (target.parent / f"{number}").mkdir()
        (target.parent / f"{number}" / name).symlink_to(path)
    sources = [str(target.parent / f"{number}" / name) for number, name in enumerate(names)]
    seconds = 180 + sum(path.stat().st_size for path in paths) / SLOWEST
    with tempfile.TemporaryFile(dir=target.parent) as said:  # a file, whose size the process cannot exceed
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(PROGRAM), str(target), str(most), *sources],
            env={"OMP_NUM_THREADS": "1"},
            cwd=target.parent,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            took = f"{names[0]}: converting it took more than {seconds:.0f} s"
            raise PickleRefusedError(f"{took}. {_REMEDY}") from None
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        answer = _parse(said.read(MAX_ANSWER))
    for number in range(len(names)):
        shutil.rmtree(target.parent / f"{number}")
    if "fault" in answer:
        raise ModelBrokenError(f"{names[0]}: it cannot be converted on this machine: {answer['fault']}.")
    if "tensors" not in answer or process.returncode != 0:
        reason = answer.get("error") or f"{names[0]}: the process that converted it ended with {process.returncode}"
        raise PickleRefusedError(f"{reason}. {_REMEDY}")
    level = logging.INFO if answer["confined"] else logging.WARNING  # the kernel has no filter for the process
    log.log(level, "model.converted", extra={"tensors": answer["tensors"], "confined": answer["confined"]})


_REMEDY = "The model was not loaded. Ask its publisher for safetensors, or take another model."


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(raw)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def join(paths: Sequence[Path], target: Path) -> None:
    """Write one safetensors file with the tensors of all shards, in pieces of at most `CHUNK_BYTES`.

    Raises:
        ModelBrokenError: a shard is damaged, or two have a tensor of the same name.
    """
    tensors: dict[str, tuple[dict[str, Any], Path, int]] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        entries, start = safetensors.read_header(path)
        metadata |= entries.pop(safetensors.METADATA, {})
        twice = entries.keys() & tensors.keys()
        if twice:
            raise ModelBrokenError(f"{path}: the tensor {min(twice)[:80]!r} is in another shard, too.")
        tensors |= {name: (entry, path, start) for name, entry in entries.items()}
    # The widest numbers first, so that each tensor begins at a multiple of its numbers' width.
    ranked = sorted(tensors.items(), key=lambda item: (-safetensors.WIDTHS[item[1][0]["dtype"]], item[0]))
    header, at = dict[str, Any](), 0
    for name, (entry, _, _) in ranked:
        begin, end = entry["data_offsets"]
        header[name] = {**entry, "data_offsets": [at, at + end - begin]}
        at += end - begin
    raw = orjson.dumps({safetensors.METADATA: metadata, **header})
    raw += b" " * (-len(raw) % 8)
    with target.open("xb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for _, (entry, path, start) in ranked:
            begin, end = entry["data_offsets"]
            _copy(path, start + begin, end - begin, file)


def _copy(path: Path, start: int, length: int, target: IO[bytes]) -> None:
    with path.open("rb") as source:
        source.seek(start)
        while length:
            chunk = source.read(min(length, CHUNK_BYTES))
            if not chunk:
                raise ModelBrokenError(f"{path}: cut short while it was read. Start again.")
            target.write(chunk)
            length -= len(chunk)
