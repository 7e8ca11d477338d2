"""A model's graph in ONNX form, for runtimes other than torch: exported once per revision, cached, checked."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from filelock import FileLock

from worker.model.collate import Arrays
from worker.model.deberta import with_lean_encoder
from worker.model.graph import Graph
from worker.model.selection.choice_cache import EXPORT, GRAPH, export
from worker.model.sources.checksums import seal

OPSET = 19


class ExportError(Exception):
    """The graph cannot be exported, or the cache cannot be written; the message says which."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other workers on this machine out until we have made what they need, too.

    Raises:
        ExportError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        lock.acquire()
    except OSError as error:
        raise ExportError(f"{folder}: {type(error).__name__}") from error
    try:
        yield
    finally:
        lock.release()


def exported(graph: Graph, example: Arrays, folder: Path) -> Path:
    """The ONNX file, from the cache if it is there and sound. The folder must be locked.

    Args:
        graph: the forward pass; on the CPU.
        example: inputs to trace it with: rows of unlike lengths, unlike numbers of labels.
        folder: from `remembered.place`.

    Raises:
        ExportError: this graph has no ONNX form, or the disk is full.
    """
    found = export(folder)
    if found is None:
        target, partial = folder / EXPORT, folder / f"{EXPORT}.partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _export(graph, example, partial / GRAPH)
            seal(partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.replace(target)
            found = target / GRAPH
        except Exception as error:  # torch has many kinds, none of them ours to know
            shutil.rmtree(partial, ignore_errors=True)
            raise ExportError(f"{type(error).__name__}: {str(error)[:300]}") from error
    return found


def _export(graph: Graph, example: Arrays, path: Path) -> None:
    lean = with_lean_encoder(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about what is fixed in the graph; agreement is measured
        with torch.inference_mode():
            torch.onnx.export(
                _LogitsAlone(lean).eval(),  # torch leaves all within it as it found the outermost: dropout and all
                tuple(torch.from_numpy(example[name]) for name in graph.inputs),
                str(path),
                input_names=list(graph.inputs),
                output_names=["logits"],
                dynamic_axes=_axes(graph.inputs),
                opset_version=OPSET,
                dynamo=False,
            )


def _axes(inputs: Sequence[str]) -> dict[str, dict[int, str]]:
    own = {"text_lengths": {0: "rows"}, "span_idx": {0: "rows", 1: "spans"}, "span_mask": {0: "rows", 1: "spans"}}
    axes = {name: own.get(name, {0: "rows", 1: "pieces"}) for name in inputs}
    return {**axes, "logits": {0: "rows", 1: "words", 2: "third", 3: "fourth"}}


class _LogitsAlone(torch.nn.Module):
    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._graph(*tensors)[0]
        return logits
