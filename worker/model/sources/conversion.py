"""Pickled or sharded weights -> one safetensors file in the model cache.

Converted once, under a lock. The cache's manifest has the SHA-256 of the sources and of the result. A pickle is
opened only in a separate process (`worker.model.sources.unpickling`), which has no secrets and may do nothing but
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

from worker.model.errors import ModelBrokenError, PickleRefusedError
from worker.model.sources import checksums, safetensors
from worker.model.sources.cached_folders import ensure_folder
from worker.model.sources.weight_files import MAX_BYTES, WEIGHTS, WeightFiles

log = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 2**20
PROGRAM = Path(__file__).with_name("unpickling.py")
SPARE_BYTES = 2**20
"""Bytes that a result may have beyond twice the size of its sources: tensors may share parts of their memory."""
MIN_BYTES_PER_S = 2**22
"""Lowest speed of a conversion, after its first minutes, before it is stopped."""
MAX_REPLY = 64 * 1024


def ensure_safetensors(
    folder: Path, weights: WeightFiles, hashes: Mapping[str, str], cache_dir: Path
) -> tuple[Path, str]:
    """Return a safetensors file with all the weights, and its SHA-256; converted unless the cache has it.

    Args:
        folder: the folder of the files of `weights`.
        weights: pickles, or shards.
        hashes: SHA-256 of those files, by name.
        cache_dir: the model cache.

    Raises:
        PickleRefusedError: a pickle contains anything but weights.
        ModelBrokenError: the files are damaged or contradict each other, or the disk is too small.
    """
    sources = {name: hashes[name] for name in weights.names}
    key = hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:32]
    target = cache_dir / "weights" / key

    def convert(partial: Path) -> None:
        _convert_files(folder, weights, sources, partial)

    ensure_folder(target, convert)
    return target / WEIGHTS, checksums.read_manifest(target)[WEIGHTS]


def _convert_files(folder: Path, weights: WeightFiles, sources: Mapping[str, str], target: Path) -> None:
    paths = [(folder / name).resolve() for name in weights.names]
    size = sum(path.stat().st_size for path in paths)
    _check_disk(target, size)
    if weights.pickled:
        log.info("model.converting", extra={"files": list(weights.names), "bytes": size})
        convert_pickles(paths, weights.names, target / WEIGHTS, min(2 * size + SPARE_BYTES, MAX_BYTES))
    else:
        join_shards(paths, target / WEIGHTS)
    if any(checksums.hash_file(path) != sources[name] for path, name in zip(paths, weights.names, strict=True)):
        raise ModelBrokenError(f"{folder}: {weights.names[0]} changed while it was read. Restart the worker.")
    safetensors.read_shapes(target / WEIGHTS)
    checksums.write_manifest(target, sources)


def _check_disk(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ModelBrokenError(
            f"{folder.parent}: {free:,} bytes are free, and the weights need {size:,}. Free some space, or "
            "set GLEANER_MODEL_CACHE to a larger volume."
        )


def convert_pickles(paths: Sequence[Path], names: Sequence[str], target: Path, max_bytes: int) -> None:
    """Convert pickled weights in a confined process to a safetensors file, in a folder that is not used otherwise.

    Messages have the `names` of the pickles.

    Raises:
        PickleRefusedError: they contain anything but weights, or the process ended without a reply.
        ModelBrokenError: torch cannot be imported, or the disk is full.
    """
    seconds = 180 + sum(path.stat().st_size for path in paths) / MIN_BYTES_PER_S
    with (
        tempfile.TemporaryDirectory(dir=target.parent) as links,
        tempfile.TemporaryFile(dir=target.parent) as output,  # a file, whose size is limited
    ):
        # Links with the original names, which the user knows from messages; a hub's cache names files by content.
        sources = [Path(links, name) for name in names]
        for source, path in zip(sources, paths, strict=True):
            source.symlink_to(path)
        try:
            process = subprocess.run(
                [sys.executable, "-I", "-B", PROGRAM, target, str(max_bytes), *sources],
                env={"OMP_NUM_THREADS": "1"},
                cwd=target.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            reason = f"{names[0]}: converting it took more than {seconds:.0f} s"
            raise PickleRefusedError(f"{reason}. {_REMEDY}") from None
        output.seek(0)
        reply = _parse_reply(output.read(MAX_REPLY))
    if "fault" in reply:
        raise ModelBrokenError(f"{names[0]}: cannot be converted on this machine: {reply['fault']}.")
    if "tensors" not in reply or process.returncode != 0:
        reason = reply.get("error") or f"{names[0]}: the process that converted it ended with {process.returncode}"
        raise PickleRefusedError(f"{reason}. {_REMEDY}")
    level = logging.INFO if reply["confined"] else logging.WARNING  # the kernel has no filter for the process
    log.log(level, "model.converted", extra={"tensors": reply["tensors"], "confined": reply["confined"]})


_REMEDY = "The model was not loaded. Ask its publisher for safetensors, or use another model."


def _parse_reply(raw: bytes) -> dict[str, Any]:
    try:
        reply = orjson.loads(raw)
    except ValueError:
        return {}
    return reply if isinstance(reply, dict) else {}


def join_shards(paths: Sequence[Path], target: Path) -> None:
    """Write one safetensors file with the tensors of all shards, in chunks of at most `CHUNK_BYTES`.

    Raises:
        ModelBrokenError: a shard is damaged, or two contain a tensor of the same name.
    """
    tensors: dict[str, tuple[dict[str, Any], Path, int]] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        entries, start = safetensors.read_header(path)
        metadata |= entries.pop(safetensors.METADATA, {})
        repeated = entries.keys() & tensors.keys()
        if repeated:
            raise ModelBrokenError(f"{path}: the tensor {min(repeated)[:80]!r} is also in another shard.")
        tensors |= {name: (entry, path, start) for name, entry in entries.items()}
    # The widest numbers first, so that each tensor begins at a multiple of its numbers' width.
    ranked = sorted(tensors.items(), key=lambda item: (-safetensors.WIDTHS[item[1][0]["dtype"]], item[0]))
    header, offset = dict[str, Any](), 0
    for name, (entry, _, _) in ranked:
        begin, end = entry["data_offsets"]
        header[name] = {**entry, "data_offsets": [offset, offset + end - begin]}
        offset += end - begin
    raw = orjson.dumps({safetensors.METADATA: metadata, **header})
    raw += b" " * (-len(raw) % 8)
    with target.open("xb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for _, (entry, path, start) in ranked:
            begin, end = entry["data_offsets"]
            _copy_range(path, start + begin, end - begin, file)


def _copy_range(path: Path, start: int, length: int, target: IO[bytes]) -> None:
    with path.open("rb") as source:
        source.seek(start)
        while length:
            chunk = source.read(min(length, CHUNK_BYTES))
            if not chunk:
                raise ModelBrokenError(f"{path}: truncated while it was read. Restart the worker.")
            target.write(chunk)
            length -= len(chunk)
