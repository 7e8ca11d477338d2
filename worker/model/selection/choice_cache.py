"""What an earlier start found out about a model, kept in the model cache: its description and what runs it fastest.

With that and the exported graph, a start needs neither gliner nor torch nor the weights, which are most of its time
and of its memory. The answers are the same: a first start makes its parts from the same description. What is not
sound, or is of other weights, versions, processors or settings, is not used, and the start becomes a first one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from worker.model.pipeline import Described
from worker.model.runtimes import OF_EXPORT, Candidate, Runtime, of_export
from worker.model.sources.checksums import sound
from worker.model.sources.resolve import Resolved
from worker.text.splitters import Splitter

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
RuntimeName = Literal["auto", "torch", "cudagraphs", "onnx", "openvino"]

PACKAGES = (
    "gleaner-ner-service",
    "gliner",
    "numpy",
    "onnxruntime",
    "openvino",
    "tokenizers",
    "torch",
    "transformers",
)
"""Another version of one of these may change how a model reads, which runtime is fastest, or whether it agrees."""
VERSION = 4
"""To be counted up when the graph or the description changes: what older versions kept is then left alone."""
EXPORT = "onnx"
GRAPH = "model.onnx"
CHOICE = "choice-{}.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What settings and machine ask for.

    Attributes:
        device: the one that is used.
        card: what a CUDA device is called.
        most_tokens: tokens that a row may have; 0: by the model.
        splitter: what cuts texts into words.
    """

    device: str
    runtime: RuntimeName
    precision: Precision
    threads: int
    card: str = ""
    most_tokens: int = 0
    splitter: str = Splitter.MODEL


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was found out."""

    candidate: Candidate
    model: Described


@dataclass(frozen=True, slots=True)
class Selection:
    """What runs a model, and what goes around it."""

    run_by: Runtime
    found: Remembered


_STORED = TypeAdapter(Remembered)


def place(cache_dir: Path, model: Resolved) -> Path:
    """The folder for what is derived from these weights and this tokenizer."""
    name = "-".join(part for part in (model.revision, model.backbone, f"v{VERSION}") if part)
    return cache_dir / "runtimes" / "".join(letter if letter.isalnum() else "-" for letter in name)


def again(folder: Path, asked: Asked) -> Selection | None:
    """What an earlier start chose, loaded from the export; None where it is not there, not sound, or is torch."""
    found, path = recall(folder, asked), export(folder)
    if found is None or path is None or found.candidate.runtime not in OF_EXPORT:
        return None
    try:
        return Selection(of_export(found.candidate, path, asked.threads), found)
    except Exception as error:  # noqa: BLE001  # whatever is wrong with it, the next thing is to choose again
        log.warning("runtime.choice_unusable", extra={"reason": f"{type(error).__name__}: {error}"})
        return None


def export(folder: Path) -> Path | None:
    """The exported graph, if it is there and is what was written."""
    return folder / EXPORT / GRAPH if sound(folder / EXPORT) else None


def recall(folder: Path, asked: Asked) -> Remembered | None:
    """What was found out when the same was asked of such a machine."""
    try:
        digest, _, body = _choice(folder, asked).read_bytes().partition(b"\n")
        if digest != _digest(body):
            raise ValueError("its checksum is another")
        return _STORED.validate_json(body)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("runtime.choice_unusable", extra={"reason": f"{type(error).__name__}: {error}"})
    return None


def remember(folder: Path, asked: Asked, found: Remembered) -> None:
    """Keep it for the next start."""
    path = _choice(folder, asked)
    partial, body = path.with_suffix(".partial"), _STORED.dump_json(found)
    try:
        partial.write_bytes(_digest(body) + b"\n" + body)
        partial.replace(path)
    except OSError as error:  # a full disk: the next start tries them all again
        log.warning("runtime.choice_unwritten", extra={"reason": type(error).__name__})


def installed(package: str) -> bool:
    """Whether the package can be had, without importing it."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _choice(folder: Path, asked: Asked) -> Path:
    """By this machine, these packages, this question."""
    versions = [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES if installed(package)]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        cpu = [line for line in lines if line.split("\t")[0] in ("model name", "flags", "Features")]
    except OSError:
        cpu = []
    return folder / CHOICE.format(_digest("\n".join([*versions, *cpu, str(asked)]).encode())[:12].decode())
