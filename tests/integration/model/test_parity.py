"""The same answer alone or in any company: windows and micro-batches against gliner's own `predict_entities`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from gliner import GLiNER

from jobs.schema import DEFAULT_THRESHOLD, Document, DocumentErrorCode, DocumentResult, Labels, Options
from jobs.tasks import Tasks
from tests.support.texts import FILLER, LABEL_SETS, passage, sentence
from worker.batching.batcher import MicroBatcher
from worker.model.engine import EngineOptions, load_model
from worker.model.sources.resolve import resolve_model
from worker.protocols import Engine, Outcome, ShardRef
from worker.text.merging import Findings, merge_windows
from worker.text.windows import JobContext, Plan, cut_document
from worker.text.words import WindowKind

SHIPPED = Path(__file__).parents[3] / "models" / "gleaner-small"
TOLERANCE = 1e-3
WAIT_S = 280.0

pytestmark = pytest.mark.timeout(300)  # a minute on two free cores; others may be using them


@dataclass(frozen=True)
class Case:
    """A text with its labels and options."""

    text: str
    labels: Labels
    options: Options


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Load the shipped model, exact."""
    return load_model(resolve_model(str(SHIPPED), None, Path("unused")), EngineOptions("cpu", "fp32"))


@pytest.fixture(scope="module")
def library() -> Any:
    """Load the same model with gliner itself."""
    return GLiNER.from_pretrained(str(SHIPPED), local_files_only=True)


def predict(library: Any, case: Case) -> dict[tuple[int, int, str], float]:
    """Return gliner's spans and scores for the text alone."""
    labels = {label: description or label for label, description in case.labels.items()}
    options = case.options
    threshold = DEFAULT_THRESHOLD if options.threshold is None else options.threshold
    entities = library.predict_entities(
        case.text, labels, threshold=threshold, flat_ner=options.flat, multi_label=options.multi_label
    )
    return {(e["start"], e["end"], e["label"]): e["score"] for e in entities}


def plan_of(engine: Engine, case: Case, job: int = 0) -> Plan:
    """Cut the text as Gleaner would."""
    return cut_document(
        Document(0, "0", case.text), JobContext(ShardRef(f"job{job}", 0), Tasks(case.labels), case.options), engine
    )


def extract(engine: Engine, cases: Sequence[Case], budget: int = 2048) -> list[DocumentResult]:
    """All cases, each its own job, through one micro-batcher."""
    plans = [plan_of(engine, case, job) for job, case in enumerate(cases)]
    batcher = MicroBatcher(engine, budget)
    futures: list[Future[tuple[Outcome, ...]]] = [
        batcher.submit(f"job{job}", plan.windows) for job, plan in enumerate(plans)
    ]
    with batcher:
        return [
            merge_windows(plan, Findings.collect(plan, f.result(WAIT_S)), 1)
            for plan, f in zip(plans, futures, strict=True)
        ]


def scores(result: DocumentResult) -> dict[tuple[int, int, str], float]:
    """Return a result as `predict` does."""
    assert result.error is None
    return {(e.start, e.end, e.label): e.score for e in result.entities}


def assert_same(expected: dict[tuple[int, int, str], float], result: DocumentResult) -> None:
    """Check for equal spans and labels, and scores within 1e-3."""
    assert expected == pytest.approx(scores(result), abs=TOLERANCE)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """120 texts of 3 to 150 words, six label sets, several thresholds and modes."""
    random = Random(7)
    options = [
        Options(),
        Options(),
        Options(threshold=0.3),
        Options(flat=False, threshold=0.2),
        Options(multi_label=True, threshold=0.1),
    ]
    return [
        Case(
            passage(random, random.choice((1, 1, 1, 8, 8, 15, 15, 30, 30, 130))),
            random.choice(LABEL_SETS),
            random.choice(options),
        )
        for _ in range(120)
    ]


def test_any_company_gives_the_librarys_own_answer(engine: Engine, library: Any, cases: list[Case]) -> None:
    """Texts in two different mixes of micro-batches: same spans and labels as one by one, same scores."""
    expected = [predict(library, case) for case in cases]
    assert sum(map(len, expected)) > 250

    order = list(range(len(cases)))
    for budget in (4096, 700):
        results = extract(engine, [cases[i] for i in order], budget)
        for i, result in zip(order, results, strict=True):
            assert_same(expected[i], result)
            assert (result.windows, result.truncated, result.warnings) == (1, False, ())
        Random(budget).shuffle(order)


def test_rows_with_different_numbers_of_labels(engine: Engine, library: Any) -> None:
    """Rows with one and with eighteen labels share a forward pass (gliner up to 0.2.27 crashed: its issue 382)."""
    text = "Angela Merkel met Tim Cook of Apple in Berlin on Monday."
    cases = [Case(text, labels, Options(threshold=0.1)) for labels in LABEL_SETS]

    for case, result in zip(cases, extract(engine, cases), strict=True):
        assert_same(predict(library, case), result)


def test_a_threshold_for_each_label(engine: Engine, library: Any) -> None:
    """Each label's own threshold counts before overlaps are settled: no hidden span pushes out a shown one."""
    text = "Angela Merkel met Tim Cook of Apple in Berlin on Monday."
    labels: Labels = {"person": None, "location": None}
    strict, lax = (Case(text, labels, Options(threshold=t)) for t in (0.9995, 0.5))
    mixed = Case(text, labels, Options(threshold={"person": 0.9995, "location": 0.5}))

    [result] = extract(engine, [mixed])

    wanted = {k: v for k, v in predict(library, strict).items() if k[2] == "person"}
    wanted |= {k: v for k, v in predict(library, lax).items() if k[2] == "location"}
    assert_same(wanted, result)


def test_wherever_a_sentence_stands_its_entities_are_found(engine: Engine, library: Any) -> None:
    """Every entity of a sentence alone is found in an 8,000-word text: at its start, at window edges, at its end.

    Offsets are right in all three units, behind emoji and letters of every width.
    """
    random = Random(3)
    labels = LABEL_SETS[1]
    parts: list[str] = []
    planted: list[tuple[int, str]] = []
    words = length = 0
    while words < 8_000:
        part = sentence(random)
        planted.append((length, part))
        for piece in (part, *(random.choice(FILLER) for _ in range(random.choice((0, 1, 5, 9, 20))))):
            parts.append(piece)
            length += len(piece) + 1
            words += len(piece.split())
    planted.append((length, last := sentence(random)))
    text = " ".join([*parts, last])
    plan = plan_of(engine, Case(text, labels, Options()))
    alone = {part: predict(library, Case(part, labels, Options())) for _, part in planted}

    with MicroBatcher(engine, 2048) as batcher:
        outcomes = batcher.submit("job", plan.windows).result(WAIT_S)
    result = merge_windows(plan, Findings.collect(plan, outcomes), 1)

    wanted = {(start + at, end + at, label) for at, part in planted for start, end, label in alone[part]}
    assert len(wanted) > 240
    assert _edges_inside(plan, planted) > 8
    assert set() == wanted - set(scores(result))
    for unit, width in (("codepoint", "utf-32-le"), ("utf16", "utf-16-le"), ("byte", "utf-8")):
        options = plan.options.model_copy(update={"offset_unit": unit})
        size = {"utf-32-le": 4, "utf-16-le": 2, "utf-8": 1}[width]
        encoded = text.encode(width)
        for entity in merge_windows(replace(plan, options=options), Findings.collect(plan, outcomes), 1).entities:
            assert entity.text == encoded[entity.start * size : entity.end * size].decode(width)


def _edges_inside(plan: Plan, planted: Sequence[tuple[int, str]]) -> int:
    """Count the planted sentences that touch or straddle an edge of a large window."""
    assert plan.grid is not None
    positions, text = [plan.grid.locate_window(index) for index in range(len(plan.windows))], plan.grid.text
    edges = {text.starts[p.first] for p in positions if p.kind is WindowKind.LARGE}
    edges |= {text.ends[p.last - 1] for p in positions if p.kind is WindowKind.LARGE}
    return sum(any(at <= edge <= at + len(part) for edge in edges) for at, part in planted)


def test_a_character_that_the_model_does_not_see_shifts_nothing(engine: Engine) -> None:
    """Behind a variation selector, as in most emoji hearts, gliner's own spans are a word off; ours are not."""
    heart, selector = "\u2764", "\ufe0f"
    text = f'"We love Paris {heart}", wrote Ada Lovelace about the iPhone!'
    cases = [
        Case(case, LABEL_SETS[1], Options(threshold=0.3)) for case in (text, text.replace(heart, heart + selector))
    ]

    plain, selected = extract(engine, cases)

    assert "Ada Lovelace" in [entity.text for entity in plain.entities]
    assert [(e.text, e.label, e.score) for e in selected.entities] == [
        (e.text, e.label, pytest.approx(e.score, abs=TOLERANCE)) for e in plain.entities
    ]
    [alone] = extract(engine, [Case(selector, LABEL_SETS[1], Options())])
    assert (alone.error, alone.entities) == (None, ())


def test_two_hundred_labels_are_all_asked(engine: Engine) -> None:
    """The library alone finds nothing with 200 labels, which leave the text no room; ours are asked in passes."""
    labels: Labels = {f"kind number {i}": None for i in range(197)} | {
        "person": None,
        "place": None,
        "company": None,
    }
    case = Case("Angela Merkel met Tim Cook of Apple in Berlin.", labels, Options())

    [result] = extract(engine, [case])

    assert result.windows > 1
    assert {"Angela Merkel", "Tim Cook"} <= {e.text for e in result.entities if e.label == "person"}


def test_long_words_do_not_push_out_the_end(engine: Engine) -> None:
    """225 words of many pieces fit gliner's word limit, not its 512 pieces: the tail, lost there, is read here."""
    case = Case(
        " ".join(["antidisestablishmentarianism"] * 225) + ". Tim Cook lives in Berlin.", LABEL_SETS[1], Options()
    )

    [result] = extract(engine, [case])

    assert result.windows > 1
    assert {"Tim Cook", "Berlin"} <= {e.text for e in result.entities}
    assert not result.truncated


@pytest.mark.parametrize("giant", ["x" * 300_000, "antidisestablishmentarianism-" * 60 + "x"])
def test_a_giant_word_breaks_nothing_around_it(engine: Engine, giant: str) -> None:
    """A blob, and a word of more pieces than a row: the rest is found as if alone."""
    case = Case(f"Tim Cook lives in Berlin. {giant} Angela Merkel met him in Paris.", LABEL_SETS[1], Options())

    [result] = extract(engine, [case])

    assert {"Tim Cook", "Berlin", "Angela Merkel", "Paris"} <= {e.text for e in result.entities}
    assert result.truncated == bool(result.warnings) == giant.startswith("anti")


def test_threshold_zero_is_answered_in_seconds(engine: Engine) -> None:
    """Every span of a full window for 18 labels: gliner's own pairwise choice would hold the worker for minutes."""
    case = Case("word " * 250, LABEL_SETS[5], Options(threshold=0.0, flat=False))

    [result] = extract(engine, [case])

    assert result.error is None
    assert len(result.entities) > 100


def test_an_unreadable_neighbour_changes_nothing(engine: Engine, library: Any) -> None:
    """A refused document gets its error; a good one in the same batch, the library's result."""
    good = Case("Tim Cook lives in Berlin.", LABEL_SETS[1], Options())

    blank, result = extract(engine, [replace(good, text=" "), good])

    assert blank.error is not None
    assert DocumentErrorCode.EMPTY_TEXT is blank.error.code
    assert_same(predict(library, good), result)
