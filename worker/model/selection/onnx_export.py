"""A model's graph in ONNX form, for runtimes other than torch: exported once per revision, cached, checked."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock

from worker.model.collate import Arrays
from worker.model.deberta import with_lean_encoder
from worker.model.graph import Graph
from worker.model.selection.choice_cache import EXPORT, GRAPH, find_export
from worker.model.sources.cached_folders import replace_folder
from worker.model.sources.checksums import write_manifest

OPSET = 19


class ExportError(Exception):
    """The graph cannot be exported, or the cache cannot be written; the message says why."""


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that only one worker on this machine exports and selects.

    Raises:
        ExportError: the folder cannot be written.
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


def export_graph(graph: Graph, example: Arrays, folder: Path) -> Path:
    """Return the ONNX file, exported unless the cache has an intact one. The folder must be locked.

    The graph, on the CPU, is traced with `example`: rows of different lengths and numbers of labels.

    Raises:
        ExportError: this graph has no ONNX form, or the disk is full.
    """
    path = find_export(folder)
    if path is None:
        try:
            replace_folder(folder / EXPORT, partial(_write_onnx, graph, example))
            path = folder / EXPORT / GRAPH
        except Exception as error:  # torch raises many kinds
            raise ExportError(f"{type(error).__name__}: {str(error)[:300]}") from error
    return path


def _write_onnx(graph: Graph, example: Arrays, folder: Path) -> None:
    lean = with_lean_encoder(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about constants in the graph; agreement is measured
        with torch.inference_mode():
            torch.onnx.export(
                lean.eval(),  # torch exports all modules in the mode of the outermost one: no dropout
                tuple(torch.from_numpy(example[name]) for name in graph.inputs),
                str(folder / GRAPH),
                input_names=list(graph.inputs),
                output_names=["logits"],
                dynamic_axes=_dynamic_axes(graph.inputs),
                opset_version=OPSET,
                dynamo=False,
            )
    write_manifest(folder)


def _dynamic_axes(inputs: Sequence[str]) -> dict[str, dict[int, str]]:
    special = {
        "text_lengths": {0: "rows"},
        "span_idx": {0: "rows", 1: "spans"},
        "span_mask": {0: "rows", 1: "spans"},
    }
    axes = {name: special.get(name, {0: "rows", 1: "tokens"}) for name in inputs}
    return {**axes, "logits": {0: "rows", 1: "words", 2: "third", 3: "fourth"}}
