"""Every runtime against gliner's own answers, and how one of them is chosen and remembered."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from threading import get_native_id
from typing import Any

import numpy as np
import pytest
import torch
from gliner import GLiNER

from jobs.process.cpu import cpu_count
from jobs.schema import Options
from tests.conftest import ROOT
from tests.integration.model.test_parity import SHIPPED, Case, extract, predict, scores
from tests.support.texts import LABEL_SETS, passage
from worker.model.engine import EngineOptions, GlinerEngine, load_model
from worker.model.errors import ModelBrokenError
from worker.model.runtimes import Candidate
from worker.model.runtimes.openvino import LANE_NICENESS
from worker.model.runtimes.torch import TorchRuntime
from worker.model.selection import choice_cache, onnx_export, parity, select
from worker.model.sources.checksums import MANIFEST
from worker.model.sources.resolve import Resolved, resolve_model
from worker.protocols import Engine

NEAR = 0.05
TOLERANCE = {"fp32": 1e-3, "bf16": NEAR, "int8": 2 * NEAR}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def shipped() -> Resolved:
    """Return the shipped model."""
    return resolve_model(str(SHIPPED), None, Path("unused"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model cache; the first test that needs an export fills it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cases() -> list[tuple[Case, dict[Any, float]]]:
    """Return texts with six label sets and gliner's spans for each alone."""
    random = Random(11)
    library = GLiNER.from_pretrained(str(SHIPPED), local_files_only=True)
    texts = [
        Case(passage(random, random.choice((3, 12, 30, 60))), random.choice(LABEL_SETS), Options())
        for _ in range(24)
    ]
    return [(case, predict(library, case)) for case in texts]


def differing(engine: Engine, cases: list[tuple[Case, dict[Any, float]]], tolerance: float) -> list[Any]:
    """Spans that are missing, added, or scored otherwise, but for those near the threshold in sloppy precisions."""
    near = 0.0 if tolerance < NEAR else tolerance
    differences = []
    for (case, expected), result in zip(cases, extract(engine, [case for case, _ in cases], 1024), strict=True):
        ours = scores(result)
        for key in expected.keys() | ours.keys():
            [least] = (score + near for score in case.options.label_thresholds([""]))
            if key in expected and key in ours:
                if abs(expected[key] - ours[key]) > tolerance:
                    differences.append((key, expected[key], ours[key]))
            elif max(expected.get(key, 0.0), ours.get(key, 0.0)) > least:
                differences.append((key, expected.get(key), ours.get(key)))
    return differences


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8")],
)
def test_mixed_label_sets_on_every_runtime(
    shipped: Resolved, cache: Path, cases: list[tuple[Case, dict[Any, float]]], runtime: Any, precision: Any
) -> None:
    """Six label sets in a micro-batch: the library's spans; in 16 or 8 bits but for those near the threshold."""
    if runtime == "openvino" and precision not in (*_openvino_precisions(), "int8"):
        pytest.skip("this CPU does not compute in that precision")
    engine = load_model(shipped, EngineOptions("cpu", precision, runtime, cache))

    assert (engine.spec.runtime, engine.spec.precision) == (runtime, precision)
    assert differing(engine, cases, TOLERANCE[precision]) == []
    assert engine.warm_up() >= 256


FILL = """
import resource, sys
from pathlib import Path
from worker.protocols import OutOfMemory
from worker.model.engine import EngineOptions, load_model
from worker.model.sources.resolve import resolve_model

options = EngineOptions("cpu", "fp32", sys.argv[2], Path(sys.argv[3]))
engine = load_model(resolve_model(sys.argv[1], None, Path("unused")), options)
row = engine._make_window(256)
before = engine.forward(engine.collate([row] * 2))[0].scores["logits"]
large = engine.collate([row] * 200)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20, hard))
try:
    engine.forward(large)
except OutOfMemory:
    print("full")
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
engine.release_memory()
print(abs(engine.forward(engine.collate([row] * 2))[0].scores["logits"] - before).max() < 1e-4)
"""


@pytest.mark.parametrize("runtime", ["torch", "onnx", "openvino"])
def test_a_full_memory_is_known_and_survived(cache: Path, runtime: str) -> None:
    """Running out of memory differs from a broken pass; a smaller pass then gives the same result as before."""
    run = subprocess.run(
        [sys.executable, "-c", FILL, str(SHIPPED), runtime, str(cache)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert run.stdout.split() == ["full", "True"], run.stderr


def test_small_passes_run_beside_those_of_all_lanes(shipped: Resolved, cache: Path) -> None:
    """On a compiled graph that is theirs, with the scores that they have alone, and so have the others."""
    engine = load_model(shipped, EngineOptions("cpu", "fp32", "openvino", cache))
    assert isinstance(engine, GlinerEngine)
    large, small = (engine.collate([engine._make_window(words)]) for words in (256, 20))
    expected = [engine.forward(batch)[0].scores["logits"] for batch in (large, small)]
    assert small.arrays["input_ids"].size <= engine.express_tokens < large.arrays["input_ids"].size

    batches = [*[large] * engine.lanes, small]
    with ThreadPoolExecutor(len(batches)) as pool:
        for _ in range(10):
            for batch, scored in zip(batches, pool.map(engine.forward, batches), strict=True):
                np.testing.assert_allclose(scored[0].scores["logits"], expected[batch is small], atol=1e-4)


def test_lanes_leave_the_cores_to_short_passes_and_to_python(shipped: Resolved, cache: Path) -> None:
    """Threads that compute passes of any size have a lower priority, and no other has."""
    engine = load_model(shipped, EngineOptions("cpu", "fp32", "openvino", cache))
    threads = [int(entry.name) for entry in Path("/proc/self/task").iterdir()]
    process_niceness = os.getpriority(os.PRIO_PROCESS, get_native_id())
    added = [os.getpriority(os.PRIO_PROCESS, thread) - process_niceness for thread in threads]
    assert set(added) == {0, LANE_NICENESS}
    assert added.count(LANE_NICENESS) >= engine.lanes


def _openvino_precisions() -> tuple[str, ...]:
    from worker.model.runtimes.openvino import supported_precisions

    return supported_precisions()


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Return the captured log records."""
    with caplog.at_level(logging.INFO, "worker.model.selection.select"):
        yield caplog


def test_the_choice_is_tried_once_and_remembered(
    shipped: Resolved,
    cache: Path,
    cases: list[tuple[Case, dict[Any, float]]],
    events: pytest.LogCaptureFixture,
) -> None:
    """The first start tries all candidates and says how they did; the second one only loads the chosen one."""
    first = load_model(shipped, EngineOptions("cpu", cache_dir=cache))
    [event] = [record for record in events.records if record.getMessage() == "runtime.tried"]
    tried = {(trial["runtime"], trial["precision"]): trial for trial in vars(event)["trials"]}
    assert {("torch", "fp32"), ("onnx", "fp32"), ("openvino", "fp32")} <= set(tried)
    assert [trial["refused"] for trial in tried.values()] == [None] * len(tried)
    assert (first.spec.runtime, first.spec.precision) in tried
    assert differing(first, cases, NEAR) == []

    events.clear()
    second = load_model(shipped, EngineOptions("cpu", cache_dir=cache))

    assert not events.records
    assert second.spec == first.spec


AGAIN = """
import json, sys
from pathlib import Path
from worker.model.selection.parity import build_timing_batches
from worker.model.engine import EngineOptions, load_model
from worker.model.sources.resolve import resolve_model

options = EngineOptions("auto", "fp32", "openvino", Path(sys.argv[2]))
engine = load_model(resolve_model(sys.argv[1], None, Path("unused")), options)
spans = [engine.decode(batch, engine.forward(batch)) for batch in map(engine.collate, build_timing_batches(engine))]
heavy = {"gliner", "torch", "transformers"} & set(sys.modules)
print(json.dumps([sorted(heavy), repr(engine.spec), spans]))
"""


def test_a_later_start_needs_neither_gliner_nor_torch_and_answers_the_same(shipped: Resolved, cache: Path) -> None:
    """A start from an export has the same limits, words, tokens and spans."""
    request = choice_cache.RuntimeRequest("cpu", "openvino", "fp32", cpu_count())
    first = GlinerEngine(select.select_runtime(shipped, request, choice_cache.cache_folder(cache, shipped)), "cpu")
    run = subprocess.run(
        [sys.executable, "-c", AGAIN, str(SHIPPED), str(cache)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    heavy, spec, later = json.loads(run.stdout)

    assert heavy == []
    assert spec == repr(first.spec)
    batches = [first.collate(windows) for windows in parity.build_timing_batches(first)]
    for batch, spans in zip(batches, later, strict=True):
        for ours, theirs in zip(first.decode(batch, first.forward(batch)), spans, strict=True):
            assert [[*span] for span in ours] == [[*s[:3], pytest.approx(s[3], abs=1e-5), ()] for s in theirs]
    assert sum(len(row) for spans in later for row in spans) > 10


@pytest.mark.parametrize("harm", ["damaged", "of another kind"])
def test_what_was_remembered_is_used_only_as_it_was_written(
    shipped: Resolved, cache: Path, events: pytest.LogCaptureFixture, harm: str
) -> None:
    """A damaged choice is measured again; the start after that uses the new one."""
    load_model(shipped, EngineOptions("cpu", "fp32", "onnx", cache))
    folder, request = (
        choice_cache.cache_folder(cache, shipped),
        choice_cache.RuntimeRequest("cpu", "onnx", "fp32", cpu_count()),
    )
    [path] = (path for path in folder.glob("choice-*") if b'"onnx"' in path.read_bytes()[:99])
    whole = path.read_bytes()
    body = whole.partition(b"\n")[2].replace(b'"tagged":false', b'"tagged":"perhaps"')
    path.write_bytes(whole[:-9] if harm == "damaged" else sha256(body).hexdigest().encode() + b"\n" + body)
    assert choice_cache.load_choice(folder, request) is None

    events.clear()
    load_model(shipped, EngineOptions("cpu", "fp32", "onnx", cache))

    assert "runtime.tried" in [record.getMessage() for record in events.records]
    assert path.read_bytes() == whole
    assert choice_cache.load_choice(folder, request)


def test_another_backbone_has_another_place(shipped: Resolved, tmp_path: Path) -> None:
    """The tokenizer may come from another repository: exports made with a different one are not used."""
    places = {choice_cache.cache_folder(tmp_path, replace(shipped, backbone=commit)) for commit in ("", "a1", "b2")}
    assert len(places) == 3


def test_a_damaged_export_is_made_again(shipped: Resolved, cache: Path) -> None:
    """An export whose checksum differs is not loaded."""
    load_model(shipped, EngineOptions("cpu", "fp32", "onnx", cache))
    folder = choice_cache.cache_folder(cache, shipped) / choice_cache.EXPORT
    damaged = (folder / choice_cache.GRAPH).read_bytes()[:-1] + b"x"
    (folder / choice_cache.GRAPH).write_bytes(damaged)

    load_model(shipped, EngineOptions("cpu", "fp32", "onnx", cache))

    assert (folder / choice_cache.GRAPH).read_bytes() != damaged
    assert set(json.loads((folder / MANIFEST).read_text())) == {choice_cache.GRAPH}


def test_what_cannot_be_exported_is_passed_over_unless_asked_for(
    shipped: Resolved, tmp_path: Path, events: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that may choose logs why and runs on torch; a runtime requested by name is an error."""

    def refuse(*_: object) -> None:
        raise ValueError("no such operator")

    write = Path.write_bytes

    def write_elsewhere(path: Path, content: bytes) -> int:
        if path.is_relative_to(tmp_path):
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(onnx_export, "_write_onnx", refuse)
    monkeypatch.setattr(Path, "write_bytes", write_elsewhere)  # the choice cannot be kept, either

    assert load_model(shipped, EngineOptions("cpu", "fp32", cache_dir=tmp_path)).spec.runtime == "torch"
    [event] = [record for record in events.records if record.getMessage() == "runtime.tried"]
    assert "no such operator" in str(vars(event)["trials"])
    with pytest.raises(ModelBrokenError, match="no such operator"):
        load_model(shipped, EngineOptions("cpu", "fp32", "openvino", tmp_path))


def test_a_runtime_that_disagrees_is_never_chosen(
    shipped: Resolved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast: its scores are not torch's in 32 bits."""
    run = TorchRuntime.run

    def wrong(self: Any, arrays: Any) -> Any:
        return {"logits": run(self, arrays)["logits"] + 0.5 * (self._dtype is torch.bfloat16)}

    monkeypatch.setattr(TorchRuntime, "run", wrong)
    both = [Candidate("torch", precision) for precision in ("fp32", "bf16")]

    monkeypatch.setattr(select, "allowed_candidates", lambda *_: both)
    assert load_model(shipped, EngineOptions("cpu", cache_dir=tmp_path)).spec.precision == "fp32"
    monkeypatch.setattr(select, "allowed_candidates", lambda *_: [both[1]] * 2)
    with pytest.raises(ModelBrokenError, match="scores differ"):
        load_model(shipped, EngineOptions("cpu", cache_dir=tmp_path))


def test_a_disturbed_first_timing_does_not_decide(
    shipped: Resolved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate that other work on the machine slows at first is compared again, and the faster one is chosen."""
    both = [Candidate("torch", precision) for precision in ("fp32", "bf16")]
    readings = {"fp32": iter([1.0, 1.0, *[1.0] * 8]), "bf16": iter([1.4, 1.4, *[0.5] * 8])}
    read = select.Selector._time_runtime

    def read_with_noise(self: Any, runtime: Any) -> Any:
        precision = "bf16" if runtime._dtype is torch.bfloat16 else "fp32"
        return read(self, runtime)[0], next(readings[precision])

    monkeypatch.setattr(select, "allowed_candidates", lambda *_: both)
    monkeypatch.setattr(select.Selector, "_time_runtime", read_with_noise)
    assert load_model(shipped, EngineOptions("cpu", cache_dir=tmp_path)).spec.precision == "bf16"


def test_a_cache_that_cannot_be_written_leaves_torch(shipped: Resolved, tmp_path: Path) -> None:
    """No place for an export: torch, with the weights where they are; asked for by name, it is said so."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")

    assert load_model(shipped, EngineOptions("cpu", "fp32", cache_dir=blocked)).spec.runtime == "torch"
    with pytest.raises(ModelBrokenError, match="cannot be exported"):
        load_model(shipped, EngineOptions("cpu", "fp32", "openvino", blocked))


def test_eight_bits_are_never_chosen() -> None:
    """They change answers: only who asks for them gets them, and only with OpenVINO."""
    assert select.allowed_candidates("cpu", "auto", "int8") == [Candidate("openvino", "int8")]
    assert "int8" not in {candidate.precision for candidate in select.allowed_candidates("cpu", "auto", "auto")}


@pytest.mark.parametrize(
    ("precision", "runtime", "message"),
    [
        ("bf16", "onnx", "GLEANER_RUNTIME=onnx"),
        ("fp16", "auto", "GLEANER_PRECISION=fp16"),
        ("int8", "torch", "GLEANER_PRECISION=int8"),
        ("auto", "cudagraphs", "not available on this cpu"),
    ],
)
def test_what_this_device_cannot_do_is_said(precision: Any, runtime: Any, message: str, shipped: Resolved) -> None:
    """Settings that no runtime can follow."""
    with pytest.raises(ValueError, match=message):
        load_model(shipped, EngineOptions("cpu", precision, runtime))
