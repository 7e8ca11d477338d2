"""Results of an earlier start's selection in the model cache: the model's description and its fastest runtime.

With these and the exported graph, a start needs neither gliner nor torch nor the weights, which take most of its
time and memory. The answers are the same: a first start builds its pipeline from the same description. An entry
that is damaged, or of other weights, versions, processors or settings, is ignored, and the runtime is selected
again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from worker.model.description import ModelDescription
from worker.model.runtimes import EXPORT_RUNTIMES, Candidate, WindowRuntime, load_exported
from worker.model.sources.checksums import is_intact
from worker.model.sources.resolve import Resolved
from worker.model.splitters import Splitter

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
RuntimeName = Literal["auto", "torch", "cudagraphs", "onnx", "openvino"]

PACKAGES = ("gleaner-ner-service", "gliner", "numpy", "onnxruntime", "openvino", "tokenizers", "torch",
            "transformers")  # fmt: skip
"""Packages whose version may change a model's tokens, the fastest runtime, or the agreement of its scores."""
VERSION = 4
"""Incremented when the graph or the description changes: exports and choices of older versions are then ignored."""
EXPORT = "onnx"
GRAPH = "model.onnx"
CHOICE = "choice-{}.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RuntimeRequest:
    """The settings and the machine that a runtime is selected for; part of the cache's key.

    `device` is `cpu` or `cuda`, `card` the name of the CUDA device, `threads` the number of cores to use.
    """

    device: str
    runtime: RuntimeName
    precision: Precision
    threads: int
    card: str = ""
    max_row_tokens: int = 0
    splitter: str = Splitter.MODEL


@dataclass(frozen=True, slots=True)
class CachedChoice:
    """The part of a selection that is cached as JSON."""

    candidate: Candidate
    model: ModelDescription


@dataclass(frozen=True, slots=True)
class Selection:
    """A loaded runtime, and the choice that it is from."""

    runtime: WindowRuntime
    choice: CachedChoice


_STORED = TypeAdapter(CachedChoice)


def cache_folder(cache_dir: Path, model: Resolved) -> Path:
    """Return the folder for everything derived from these weights and this tokenizer."""
    name = "-".join(part for part in (model.revision, model.backbone, f"v{VERSION}") if part)
    return cache_dir / "runtimes" / "".join(letter if letter.isalnum() else "-" for letter in name)


def load_choice(folder: Path, request: RuntimeRequest) -> Selection | None:
    """Load the export that an earlier start chose; None where it is missing, damaged, or the choice was torch."""
    choice, path = read_choice(folder, request), find_export(folder)
    if choice is None or path is None or choice.candidate.runtime not in EXPORT_RUNTIMES:
        return None
    try:
        return Selection(load_exported(choice.candidate, path, request.threads), choice)
    except Exception as error:  # noqa: BLE001  # whatever the reason, the runtime is selected again
        log.warning("runtime.choice_unusable", extra={"reason": f"{type(error).__name__}: {error}"})
        return None


def find_export(folder: Path) -> Path | None:
    """Return the exported graph; None where it is missing or damaged."""
    return folder / EXPORT / GRAPH if is_intact(folder / EXPORT) else None


def read_choice(folder: Path, request: RuntimeRequest) -> CachedChoice | None:
    """Return the choice for an equal request on such a machine; None where there is none, or it is damaged."""
    try:
        digest, _, body = _choice_path(folder, request).read_bytes().partition(b"\n")
        if digest != _hex_digest(body):
            raise ValueError("the checksum does not match")
        return _STORED.validate_json(body)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("runtime.choice_unusable", extra={"reason": f"{type(error).__name__}: {error}"})
    return None


def write_choice(folder: Path, request: RuntimeRequest, choice: CachedChoice) -> None:
    """Write the choice for later starts; a failure is logged only."""
    path = _choice_path(folder, request)
    partial, body = path.with_suffix(".partial"), _STORED.dump_json(choice)
    try:
        partial.write_bytes(_hex_digest(body) + b"\n" + body)
        partial.replace(path)
    except OSError as error:  # such as a full disk: the next start selects again
        log.warning("runtime.cache_write_failed", extra={"reason": type(error).__name__})


def is_installed(package: str) -> bool:
    """Return whether the package is installed, without importing it."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _hex_digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _choice_path(folder: Path, request: RuntimeRequest) -> Path:
    """Return the path of the choice for this machine, these packages and this request."""
    versions = [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES if is_installed(package)]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        cpu = [line for line in lines if line.split("\t")[0] in ("model name", "flags", "Features")]
    except OSError:
        cpu = []
    return folder / CHOICE.format(_hex_digest("\n".join([*versions, *cpu, str(request)]).encode())[:12].decode())
