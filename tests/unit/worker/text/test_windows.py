from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.schema import Document, DocumentError, DocumentErrorCode, DocumentResult, DocumentStatus, Labels, Options
from jobs.tasks import Classification, RelationType, Task, Tasks
from tests.support.engine import ALL_TASKS, SPEC, FakeEngine, small_engine
from worker.protocols import (
    ClassPrompt,
    Failed,
    Outcome,
    PromptFormat,
    RelationPrompt,
    ShardRef,
    row_length,
)
from worker.text.merging import Findings, merge_windows
from worker.text.windows import CutRules, JobContext, Plan, WindowPosition, cut_document
from worker.text.words import MIN_OVERLAP_WORDS, WindowKind

OWNER = ShardRef("job_1", 0)
LABELS: Labels = {"person": None, "place": None}


def plan_for(text: str, engine: FakeEngine, labels: Labels = LABELS, **options: object) -> Plan:
    """Return the engine's plan for a text."""
    return cut_document(
        Document(0, "a", text), JobContext(OWNER, Tasks(labels), Options.model_validate(options)), engine
    )


def positions(plan: Plan) -> list[WindowPosition]:
    """Return the positions of all windows."""
    return [plan.grid.locate_window(index) for index in range(len(plan.windows))] if plan.grid else []


def run(plan: Plan, engine: FakeEngine) -> DocumentResult:
    """Each window through the engine, alone."""
    outcomes: list[Outcome] = [
        tuple(engine.decode((window,), engine.forward(engine.collate([window])))[0]) for window in plan.windows
    ]
    return merge_windows(plan, Findings.collect(plan, outcomes), attempts=1)


def extract(text: str, engine: FakeEngine, labels: Labels = LABELS, **options: object) -> DocumentResult:
    """Cut, run, merge."""
    return run(plan_for(text, engine, labels, **options), engine)


def test_a_text_that_fits_is_one_window_of_its_own_words() -> None:
    """The common case: the window equals gliner's row, in tokens with the prompt and special tokens."""
    [window] = plan_for("Ada met Bob.", FakeEngine()).windows

    assert window.words == ("Ada", "met", "Bob", ".")
    assert window.prompts == ("person", "place")
    assert window.row_tokens == 2 + 1 + 2 * 2 + 4


@given(
    words=st.lists(
        st.sampled_from(["Ada", "went", "Lovelace", ".", "incomprehensibilities", "a", "x" * 400]), max_size=150
    ),
    labels=st.dictionaries(st.text("abcdefgh", min_size=1, max_size=30), st.none(), min_size=1, max_size=30),
)
def test_no_window_is_ever_too_long_and_no_word_or_label_is_left_out(words: list[str], labels: Labels) -> None:
    """Whatever text and labels: rows stay within words and tokens, and every word is asked for every label."""
    engine = small_engine(max_row_tokens=100)
    plan = plan_for(" ".join(words), engine, labels)
    spec = engine.spec

    covered = {(i, label) for p in positions(plan) for i in range(p.first, p.last) for label in p.labels}
    if plan.error is None:
        assert {(i, label) for i in range(len(words)) for label in range(len(labels))} == covered
    else:
        assert not words
    for window in plan.windows:
        assert len(window.words) <= spec.max_words
        assert window.row_tokens <= spec.max_row_tokens
        is_oversized = len(window.words) == 1 and len(window.words[0]) == 400
        real = 3 + sum(engine.count(window.words)) + sum(1 + n for n in engine.count(window.prompts))
        assert is_oversized or window.row_tokens == real


def test_windows_overlap_by_four_times_the_longest_entity() -> None:
    """Consecutive windows of a long text share at least max(48, 4 x max_width) words, sentences or not."""
    for text in ("word " * 2000, "This is a sentence of nine words. " * 200):
        places = [p for p in positions(plan_for(text, FakeEngine())) if p.kind is WindowKind.LARGE]

        assert len(places) > 5
        assert all(a.last - b.first >= MIN_OVERLAP_WORDS for a, b in pairwise(places))


def test_windows_begin_and_end_with_sentences() -> None:
    """No window starts or stops inside a sentence if one ends in reach."""
    plan = plan_for("Ten small words stand in this very sentence, I count. " * 100, FakeEngine())

    assert all(p.first % 12 == 0 and p.last % 12 == 0 for p in positions(plan))


def test_sentences_are_also_read_alone_unless_switched_off() -> None:
    """A long text's sentences have separate windows; without the sentence pass there are only large ones."""
    document = Document(0, "a", "Ada went home. " * 30)

    both = cut_document(document, JobContext(OWNER, Tasks(LABELS)), small_engine())
    large = cut_document(document, JobContext(OWNER, Tasks(LABELS)), small_engine(), CutRules(sentence_pass=False))

    assert sum(p.kind is WindowKind.SENTENCE for p in positions(both)) == 30
    assert all(p.kind is WindowKind.LARGE for p in positions(large))


@pytest.mark.parametrize("filler", ["so it went on and on", "so it went. And on it goes."])
def test_an_entity_is_found_wherever_it_stands(filler: str) -> None:
    """An entity of the longest width, put before every word of a long text, is found whole each time."""
    engine = small_engine()
    words = (filler + " ").lower() * 12
    offsets = [0, *(i + 1 for i, c in enumerate(words) if c == " ")]
    for offset in offsets:
        text = f"{words[:offset]}Ada King Lovelace {words[offset:]}"
        result = extract(text, engine)

        assert [("Ada King Lovelace", offset)] == [(e.text, e.start) for e in result.entities]


@pytest.mark.parametrize(
    ("unit", "encode"),
    [
        ("codepoint", lambda text: list(text)),
        ("utf16", lambda text: [text.encode("utf-16-le")[i : i + 2] for i in range(0, 2 * len(text) * 2, 2)]),
        ("byte", lambda text: [bytes([b]) for b in text.encode()]),
    ],
)
def test_offsets_are_in_the_units_asked_for(unit: str, encode: object) -> None:
    """`text[start:end] == entity.text` in every unit, after emoji and wide letters."""
    assert callable(encode)
    text = "héllo 🎉 wörld Ada 你好 Bob 🚀 " * 10
    result = extract(text, small_engine(), offset_unit=unit)

    assert {"Ada", "Bob"} == {e.text for e in result.entities}
    assert len(result.entities) == 20
    assert all(encode(e.text)[: e.end - e.start] == encode(text)[e.start : e.end] for e in result.entities)


def test_reject_refuses_a_long_text() -> None:
    """`long_text: reject` fails the document, with the numbers and without the text."""
    result = extract("Ada " * 30, small_engine(), long_text="reject")

    assert result.error is not None
    assert DocumentErrorCode.INPUT_TOO_LONG is result.error.code
    assert result.error.detail.startswith("30 words (30 tokens) do not fit")
    assert not plan_for("Ada " * 20, small_engine(), long_text="reject").error


def test_truncate_says_what_it_left_out() -> None:
    """`long_text: truncate` reads one window, marks the result and says how much was read."""
    result = extract("ada " * 19 + "Bob " * 11, small_engine(), long_text="truncate")

    assert (result.windows, result.truncated) == (1, True)
    assert result.warnings == ("Only the first 20 of 30 words were read.",)
    assert [e.text for e in result.entities] == ["Bob"]


def test_a_short_text_is_not_truncated() -> None:
    """`truncate` changes nothing where all fits."""
    assert not extract("Ada went", small_engine(), long_text="truncate").truncated


def test_one_giant_word_costs_only_its_own_tail() -> None:
    """A word longer than the model's row gets a separate window and a warning, and its neighbours are found."""
    result = extract(f"Ada saw {'x' * 5000} then Bob left", small_engine())

    assert [e.text for e in result.entities] == ["Ada", "Bob"]
    assert result.truncated
    assert "1 word(s)" in result.warnings[0]


def test_many_labels_are_asked_in_several_passes() -> None:
    """Labels that do not fit beside the text are split, each asked once; nothing is dropped."""
    labels: Labels = {f"label number {i}": None for i in range(200)}
    plan = plan_for("Ada went to Rome", FakeEngine(), labels)

    assert len(plan.windows) > 1
    assert list(range(200)) == sorted(i for position in positions(plan) for i in position.labels)
    assert run(plan, FakeEngine()).status is DocumentStatus.SUCCEEDED


def test_a_label_that_fits_no_row_is_refused() -> None:
    """A label longer than the model's row is an error, not a silent cut."""
    plan = plan_for("Ada", small_engine(), {"ok": None, "big": "word " * 400})

    assert plan.error is not None
    assert DocumentErrorCode.INPUT_TOO_LONG is plan.error.code
    assert plan.error.detail.startswith("Label 2")


def test_descriptions_are_asked_and_labels_are_returned() -> None:
    """The model reads the description; the entity carries the label."""
    plan = plan_for("Ada", FakeEngine(), {"per": "a human being"})

    assert plan.windows[0].prompts == ("a human being",)
    assert [e.label for e in run(plan, FakeEngine()).entities] == ["per"]


def test_labels_with_the_same_description_go_to_different_passes() -> None:
    """Gliner refuses equal prompts in one row; ours are asked one after the other."""
    plan = plan_for("Ada", FakeEngine(), {"a": "someone", "b": "someone"})

    assert [window.prompts for window in plan.windows] == [("someone",), ("someone",)]


def test_a_label_cannot_smuggle_in_the_models_markers() -> None:
    """A label that holds the marker would be read as two labels; it is asked for without it, and that is said."""
    plan = plan_for("Ada", FakeEngine(), {"x<<ENT>>y": None})

    assert plan.windows[0].prompts == ("x y",)
    assert len(plan.warnings) == 1


def test_thresholds_follow_their_labels() -> None:
    """A threshold per label reaches the model with its label; unnamed labels have 0.5."""
    [window] = plan_for("Ada", FakeEngine(), threshold={"place": 0.9}).windows

    assert window.thresholds == (0.5, 0.9)


def test_a_documents_own_labels_and_options_replace_the_jobs() -> None:
    """Labels as a whole, options one by one."""
    document = Document(3, "a", "Ada", labels={"x": None}, options={"flat": False})
    plan = cut_document(document, JobContext(OWNER, Tasks(LABELS), Options(threshold=0.7)), FakeEngine())

    [window] = plan.windows
    assert (window.prompts, window.thresholds, window.flat, window.document) == (("x",), (0.7,), False, 3)


@pytest.mark.parametrize(
    ("text", "code"),
    [("", "empty_text"), (" \n\t", "empty_text"), ("\u2003", "empty_text"), ("a \ud800 b", "invalid_text")],
)
def test_unreadable_texts_fail_alone(text: str, code: str) -> None:
    """Blank texts and lone surrogates get their error and no window."""
    plan = plan_for(text, FakeEngine())
    result = merge_windows(plan, Findings.collect(plan, []), attempts=2)

    assert not plan.windows
    assert result.error is not None
    assert (code, DocumentStatus.FAILED, 2) == (result.error.code.value, result.status, result.attempts)


def test_an_error_from_the_gateway_passes_through() -> None:
    """A document refused before comes back with that error."""
    error = DocumentError(DocumentErrorCode.DOCUMENT_TOO_LARGE, "too large")
    plan = cut_document(Document(0, "a", "", error=error), JobContext(OWNER, Tasks(LABELS)), FakeEngine())

    assert error == merge_windows(plan, Findings.collect(plan, []), attempts=1).error


def test_one_failed_window_fails_the_document() -> None:
    """A document is never answered in part."""
    plan = plan_for("Ada " * 30, small_engine())
    outcomes: list[Outcome] = [() for _ in plan.windows]
    outcomes[-1] = Failed(DocumentErrorCode.OUT_OF_MEMORY, "too small")

    result = merge_windows(plan, Findings.collect(plan, outcomes), attempts=1)

    assert (result.status, result.entities) == (DocumentStatus.FAILED, ())
    assert result.error == DocumentError(DocumentErrorCode.OUT_OF_MEMORY, "too small")


def test_entities_are_sorted_and_the_text_returned_only_on_request() -> None:
    """Sorted by start, end, label; `return_text` keeps the text in the result."""
    result = extract("Ada met Bob and Cid", FakeEngine(), return_text=True)

    assert [e.text for e in result.entities] == ["Ada", "Bob", "Cid"]
    assert result.text == "Ada met Bob and Cid"
    assert extract("Ada", FakeEngine()).text is None


@pytest.mark.parametrize(("labels", "weight"), [(1, 1.0), (4, 1.0), (8, 2.0), (10, 2.5)])
def test_labels_of_a_token_model_count(labels: int, weight: float) -> None:
    """A row that asks for more labels than the warm-up measured takes more of a micro-batch's budget."""
    engine = small_engine(max_row_tokens=200)
    engine.spec = replace(engine.spec, labels_included=4)
    [window] = cut_document(
        Document(0, "0", "Anna met Bo."),
        JobContext(ShardRef("job", 0), Tasks({f"label {i}": None for i in range(labels)})),
        engine,
    ).windows

    assert window.weight == weight
    assert window.cost == row_length(ceil(window.row_tokens * weight))


KNOWS = {"knows": RelationType()}
TONE = {"tone": Classification(labels={"good": None, "bad": None})}


@pytest.mark.parametrize(
    ("tasks", "detail"),
    [
        (Tasks(LABELS, KNOWS), "The model cannot do relations; it can do entities."),
        (
            Tasks(LABELS, KNOWS, TONE),
            "The model cannot do relations and classifications; it can do entities.",
        ),
    ],
)
def test_a_task_that_the_model_cannot_do_fails_the_document(tasks: Tasks, detail: str) -> None:
    """The gateway refuses what no worker can do; another worker's model may have been able to."""
    plan = cut_document(Document(0, "a", "Ada met Bob"), JobContext(OWNER, tasks), FakeEngine())
    assert plan.error == DocumentError(DocumentErrorCode.UNSUPPORTED_TASK, detail)
    ours = Document(0, "a", "Ada met Bob", relations={}, classifications={})
    assert cut_document(ours, JobContext(OWNER, tasks), FakeEngine()).error is None


def test_a_window_carries_all_that_is_asked() -> None:
    """Relations by the indexes of the window's labels, with the threshold of the options where they have none."""
    relations = {"knows": RelationType(), "in": RelationType(head=("place",), threshold=0.9)}
    context = JobContext(OWNER, Tasks(LABELS, relations, TONE), Options(relation_threshold=0.3))
    [window] = cut_document(Document(0, "a", "Ada met Bob"), context, FakeEngine(ALL_TASKS)).windows
    assert window.relations == (RelationPrompt("knows", 0.3), RelationPrompt("in", 0.9, frozenset((1,))))
    assert window.classes == (ClassPrompt("tone", ("good", "bad"), (None, None), False),)


def test_without_labels_a_long_text_is_read_in_large_windows_only() -> None:
    """Its sentences are read for entities."""
    engine = FakeEngine(replace(ALL_TASKS, max_words=20, max_row_tokens=60))
    text = "Ada met Bob. " * 30
    large = cut_document(Document(0, "a", text), JobContext(OWNER, Tasks({}, {}, TONE)), engine)
    both = cut_document(Document(0, "a", text), JobContext(OWNER, Tasks(LABELS, {}, TONE)), engine)
    assert {position.kind for position in positions(large)} == {WindowKind.LARGE}
    assert len(both.windows) > len(large.windows) > 1


def test_a_warning_says_that_labels_in_several_passes_are_not_related() -> None:
    """Entities of different passes are never in one row."""
    spec = replace(SPEC, prompt_format=PromptFormat.RELATIONS, tasks=(Task.ENTITIES, Task.RELATIONS))
    engine = FakeEngine(replace(spec, max_row_tokens=60, relation_marker="<<REL>>"))
    labels = dict.fromkeys(f"{letter}" * 30 for letter in "abcdefgh")
    plan = cut_document(Document(0, "a", "w " * 20), JobContext(OWNER, Tasks(labels, KNOWS)), engine)
    assert plan.warnings == ("The labels took 2 passes; no relation connects entities of different passes.",)
