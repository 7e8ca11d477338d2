"""A document's cost in the worker is linear in its size, and its work ends when it should."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from time import thread_time

import pytest

from jobs.schema import Document, DocumentErrorCode, DocumentStatus, Options, Redact
from jobs.shards import encode_results
from jobs.tasks import Tasks
from tests.support.engine import SPEC, WORD, FakeEngine
from worker.model.tokenizer import FastTokenizer
from worker.protocols import Dropped, Failed, ShardRef, Span, Spans
from worker.text.bounds import CHECK_EVERY, Budget, Limits, TooCostlyError
from worker.text.merging import Findings, merge_windows
from worker.text.redaction import EntityRange, RedactionRules, redact_text
from worker.text.windows import CutRules, JobContext, Plan, cut_document

OWNER = ShardRef("job", 0)
PIECES = Path(__file__).parents[4] / "models" / "gleaner-small" / "tokenizer.json"
CHARACTERS = 128 * 1024
MOST_GROWTH = 2.4
"""At twice the size. Measured over two doublings, where a neighbour in the processor's cache counts half."""
UNLIMITED = Limits(windows=1 << 30, entities=1 << 30, document_bytes=1 << 40)
TRIES = 40
"""Most of which run only under a neighbour's load, or where the growth is really too high."""

KINDS = {
    "letters": "a",
    "words": "a ",
    "digits": "1,234.5 ",
    "closers": ")",
    "quotes": '"',
    "apostrophes": "'",
    "mixed closers": ")\"']}»”’›」』）",  # noqa: RUF001
    "openers": "([{«“",
    "dots": ".",
    "dots and blanks": ". ",
    "wide dots": "。",
    "questions": "?!",
    "dashes": "-",
    "dashed words": "a-",
    "underscores": "_",
    "blanks": "x" + " " * 63,
    "line breaks": "x\n",
    "paragraphs": "x\n\n",
    "paragraph separators": "x\u2029",
    "Chinese": "日本語",
    "Chinese sentences": "日。",
    "combining marks": "\u0316\u0300",
    "decomposed": "e\u0301",
    "Hindi": "हिन्दी ",
    "Thai": "สวัสดี",
    "Hangul jamo": "\u1112\u1161\u11ab",
    "emoji": "👨\u200d👩\u200d👧",
    "zero width": "\u200b",
    "joiners": "a\u200d",
    "controls": "\x00\x01",
    "abbreviations": "Dr. ",
    "initials": "J. R. R.) ",
    "mixed": "Dr. Ada (who) said: “No.” e\u0301 – 日。\n",  # noqa: RUF001
}


@pytest.fixture(scope="module")
def tokenizer() -> FastTokenizer:
    """Return the shipped model's tokenizer."""
    return FastTokenizer(SPEC, PIECES.read_text(encoding="utf-8"), WORD)


def repeat_unit(unit: str, characters: int) -> str:
    """Return a text that repeats a unit."""
    return ("x " + unit * characters)[:characters]


def assert_linear(run: Callable[[int], object], size: int) -> None:
    """Four times half the size takes about four times the processor time; the least of several tries counts."""
    small, large = size // 2, 2 * size
    best: dict[int, float] = {}
    for _ in range(TRIES):
        for n in (small, large):
            gc.collect()
            gc.disable()  # cycles are looked for more often than twice where there are twice as many objects
            began = thread_time()
            run(n)
            best[n] = min(best.get(n, 1e9), thread_time() - began)
            gc.enable()
        if best[large] <= MOST_GROWTH**2 * best[small] + 0.005:
            return
    pytest.fail(f"{best[small]:.3f} s, but {best[large]:.3f} s for four times as much")


@pytest.mark.parametrize("kind", KINDS)
def test_cutting_takes_linear_time(tokenizer: FastTokenizer, kind: str) -> None:
    """Of whatever a text consists: words, sentences, tokens and windows come in time linear in its length."""

    def run(size: int) -> None:
        document = Document(0, "0", repeat_unit(KINDS[kind], size))
        assert (
            cut_document(
                document, JobContext(OWNER, Tasks({"p": None})), tokenizer, CutRules(limits=UNLIMITED)
            ).error
            is None
        )

    assert_linear(run, CHARACTERS // 8)


def find_everything(plan: Plan) -> Findings:
    """Return every span of up to two words, under every label, as at threshold 0."""
    assert plan.grid is not None
    findings = Findings(plan)
    for at in range(len(plan.windows)):
        position = plan.grid.locate_window(at)
        length = position.last - position.first
        findings.add(
            tuple(
                Span(start, end, label, 0.2 + (7 * start + 3 * end + label) % 50 / 100)
                for start in range(length)
                for end in range(start + 1, min(start + 2, length) + 1)
                for label in range(len(position.labels))
            )
        )
    return findings


@pytest.mark.parametrize("options", [{}, {"flat": False, "multi_label": True}, {"explain": True}, {"redact": True}])
@pytest.mark.parametrize("kind", ["words", "closers", "decomposed", "emoji", "mixed"])
def test_merging_takes_linear_time(tokenizer: FastTokenizer, kind: str, options: dict[str, object]) -> None:
    """Entities everywhere, combined, explained, hidden and encoded, in time linear in their number."""
    parsed = Options.model_validate({**options, "offset_unit": "byte"})
    labels = {"p": None}
    plans = {
        size: cut_document(
            Document(0, "0", repeat_unit(KINDS[kind], size)),
            JobContext(OWNER, Tasks(labels), parsed),
            tokenizer,
            CutRules(limits=UNLIMITED),
        )
        for size in (4096, 16384)
    }

    def run(size: int) -> None:
        result = merge_windows(plans[size], find_everything(plans[size]), 1)
        assert result.status is DocumentStatus.SUCCEEDED
        assert encode_results([result])

    assert_linear(run, 8192)


@pytest.mark.parametrize("mode", [{"mode": "hash"}, {"numbered": True}, {"mode": "mask"}])
@pytest.mark.parametrize("kind", ["letters", "combining marks", "joiners", "mixed"])
def test_hiding_takes_linear_time(kind: str, mode: dict[str, object]) -> None:
    """Entities in one long written word, each of which grows to its ends; and values of nothing but marks."""
    how = Redact.model_validate(mode)

    def run(size: int) -> None:
        text = repeat_unit(KINDS[kind], size)
        entities = [EntityRange(at, at + 1, "p", 0.5) for at in range(0, size, 7)] + [
            EntityRange(2, size // 2, "q", 0.6)
        ]
        redact_text(text, entities, RedactionRules(how, "byte", b"key"))

    assert_linear(run, CHARACTERS // 8)


def test_many_labels_are_grouped_in_linear_time(tokenizer: FastTokenizer) -> None:
    """The passes for thousands of labels."""

    def run(size: int) -> None:
        labels = {f"label number {at}": None for at in range(size)}
        assert cut_document(Document(0, "0", "Ada"), JobContext(OWNER, Tasks(labels)), tokenizer).error is None

    assert_linear(run, 4000)


@pytest.mark.parametrize("unit", ["a", "é", "日", "-", "a-", "1"])
def test_a_giant_word_is_read_no_further_than_a_row(tokenizer: FastTokenizer, unit: str) -> None:
    """The tokenizer, which nothing can interrupt, sees the beginning of a word that no row has room for."""
    word = unit * (1 << 20)
    ids, counts = tokenizer.encode([word])
    assert len(ids) == counts[0] <= 2 * SPEC.max_row_tokens + 4096


class Clock:
    """Processor seconds that pass by each look at them."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_budget_is_spent_by_the_work_between_its_blocks_only() -> None:
    """Time outside of `spend` belongs to other documents; a loop checks every `CHECK_EVERY` steps."""
    clock = Clock(0.0)
    budget = Budget(10, clock=clock)
    with budget.spend():
        clock.now += 6
        budget.check()
    clock.now += 100
    with budget.spend():
        clock.now += 3
        assert len([*budget.iterate(range(CHECK_EVERY - 1))]) == CHECK_EVERY - 1
        clock.now += 2
        assert len([*budget.iterate(range(CHECK_EVERY - 1))]) == CHECK_EVERY - 1
        with pytest.raises(TooCostlyError):
            list(budget.iterate(range(CHECK_EVERY)))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 13, 21])
def test_work_ends_wherever_it_is(steps: int) -> None:
    """A lease that ends is noticed in cutting and in merging, after any number of looks."""
    plan = cut_document(Document(0, "0", "Ada met. " * 4000), JobContext(OWNER, Tasks({"p": None})), FakeEngine())
    findings = find_everything(plan)
    for work in (
        lambda budget: cut_document(
            plan.document, JobContext(OWNER, Tasks({"p": None})), FakeEngine(), budget=budget
        ),
        lambda budget: merge_windows(plan, findings, 1, budget),
    ):
        looks = 0

        def check() -> None:
            nonlocal looks
            looks += 1
            if looks == steps:
                raise Dropped

        try:
            work(Budget(on_check=check))
        except Dropped:
            continue
        assert looks < steps


def test_too_many_windows_are_refused_before_they_are_made() -> None:
    """Label passes multiply windows; the error says by how many."""
    labels = {f"{at} " + "x" * 100: None for at in range(100)}
    few = Limits(windows=500)
    plan = cut_document(
        Document(0, "0", "a " * 2000), JobContext(OWNER, Tasks(labels)), FakeEngine(), CutRules(limits=few)
    )
    assert 0 < len(plan.windows) <= 500
    assert "large windows only" in plan.warnings[0]
    plan = cut_document(
        Document(0, "0", "a " * 20_000), JobContext(OWNER, Tasks(labels)), FakeEngine(), CutRules(limits=few)
    )
    assert plan.error is not None
    assert plan.error.code is DocumentErrorCode.INPUT_TOO_LONG
    assert "passes over it" in plan.error.detail
    assert not plan.windows


def test_the_best_entities_stay_and_the_result_says_how_many_do_not() -> None:
    """By number and size; nothing is left out in silence; an entity that could not be hidden fails the document."""
    text = "Ada met Bob. " * 500

    def read(limits: Limits, **options: object) -> tuple[int, float, tuple[str, ...], object]:
        parsed = Options.model_validate({"flat": False, "multi_label": True, **options})
        plan = cut_document(
            Document(0, "0", text),
            JobContext(OWNER, Tasks({"p": None, "q": None}), parsed),
            FakeEngine(),
            CutRules(limits=limits),
        )
        result = merge_windows(plan, find_everything(plan), 1)
        least = min((entity.score for entity in result.entities), default=0.0)
        return len(result.entities), least, result.warnings, result.error and result.error.code

    count, least, warnings, _ = read(Limits())
    assert count > 5000
    assert (least < 0.25, warnings) == (True, ())
    count, least, warnings, _ = read(Limits(entities=300))
    assert 0 < count <= 300
    assert least > 0.6
    assert "were left out" in warnings[0]
    count, _, warnings, _ = read(Limits(document_bytes=20_000))
    assert 100 < count < 300
    assert "were left out" in warnings[0]
    assert read(Limits(entities=300), redact=True)[3] is DocumentErrorCode.TOO_MANY_ENTITIES


def test_findings_stay_small_whatever_comes() -> None:
    """However many windows, at most twice the combined spans are held; equal scores do not empty it."""
    plan = cut_document(
        Document(0, "0", "Ada"),
        JobContext(OWNER, Tasks({"p": None})),
        FakeEngine(),
        CutRules(limits=Limits(entities=50)),
    )
    findings = Findings(plan)
    for _ in range(50):
        findings.add(tuple(Span(at, at + 1, 0, 0.5) for at in range(20)))
        assert findings.span_count <= 200
    assert sum(map(len, findings.spans_by_window())) == 100
    assert findings.left_out == 900
    findings.add(Failed(DocumentErrorCode.OUT_OF_MEMORY, "full"))
    assert findings.failed is not None


def test_spans_in_columns_are_the_spans() -> None:
    """Also the explanation of an explained one."""
    spans = [Span(1, 2, 0, 0.1, ((1, 0.05),)), Span(2, 4, 1, 0.7)]
    packed = Spans(spans, 3)
    assert [*packed] == spans
    assert packed[-1] == spans[-1]
    assert (packed[:1], len(packed), packed.left_out) == (spans[:1], 2, 3)
