"""The cost of documents is known before a model sees them: quotas, estimates and scaling go by it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import shards
from jobs.cost import Costs, iterate_prompts, prompt_cost
from jobs.schema import Document, DocumentError, DocumentErrorCode, Labels
from jobs.tasks import Classification, RelationType, Tasks
from tests.support.engine import SPEC, WORD
from worker.model.tokenizer import FastTokenizer
from worker.protocols import ShardRef
from worker.text.windows import JobContext, cut_document

PIECES = Path(__file__).parents[3] / "models" / "gleaner-small" / "tokenizer.json"
FEW: Labels = dict.fromkeys(("person", "organisation", "place", "date", "product"))


def document(text: str, labels: Labels | None = None) -> Document:
    """Return a document."""
    return Document(0, "0", text, labels=labels)


def test_a_text_with_few_labels_costs_its_characters() -> None:
    """Long or short, as it always did."""
    costs = Costs(Tasks(FEW))
    assert [costs.document_cost(document("a " * n)) for n in (1, 50, 50_000)] == [2, 100, 100_000]
    error = DocumentError(DocumentErrorCode.EMPTY_TEXT, "empty")
    assert costs.document_cost(Document(0, "0", "", error=error)) == 0


def words(count: int, letters: int) -> str:
    """Random words, which no tokenizer knows."""
    random = Random(count)
    return " ".join("".join(random.choices(ascii_lowercase, k=letters)) for _ in range(count))


@pytest.mark.parametrize("labels", [
    FEW,
    {f"kind of thing number {at}": None for at in range(40)},
    {f"{at} {words(25, 4)}": None for at in range(100)},
    {f"label {at}": "an event that has a place and a time, with those who took part " * 4 for at in range(30)},
])  # fmt: skip
def test_passes_are_estimated_without_a_tokenizer(labels: Labels) -> None:
    """Within a factor of two of the shipped model's own tokenizer."""
    tokenizer = FastTokenizer(SPEC, PIECES.read_text(encoding="utf-8"), WORD)
    plan = cut_document(document("a " * 4000), JobContext(ShardRef("job", 0), Tasks(labels)), tokenizer)
    assert plan.grid is not None
    passes, estimate = len(plan.grid.passes), prompt_cost(iterate_prompts(Tasks(labels))).passes
    assert passes / 2 <= estimate <= 2 * passes
    assert Costs(Tasks(labels)).document_cost(document("a " * 4000)) == 8000 * estimate


def test_many_labels_cost_even_with_a_short_text() -> None:
    """They are read with each; a document's own labels count as the job's do."""
    many: Labels = {f"{at} {words(25, 4)}": None for at in range(100)}
    assert Costs(Tasks(many)).document_cost(document("Ada")) > 5000
    assert Costs(Tasks(FEW)).document_cost(document("Ada", labels=many)) == Costs(Tasks(many)).document_cost(
        document("Ada")
    )
    assert Costs(Tasks(many)).document_cost(document("Ada", labels=FEW)) == 3


def test_relations_and_classes_are_read_with_a_text_as_labels_are() -> None:
    """By their descriptions, the job's as well as the document's own."""
    relations = {"works for": RelationType(description="is employed by"), "knows": RelationType()}
    tasks = Tasks({"person": None}, relations, {"tone": Classification(labels={"calm": None, "cross": "angry"})})
    texts = [text for text, _ in iterate_prompts(tasks)]
    assert texts == ["person", "is employed by", "knows", "tone", "calm", "angry"]
    classes = {f"{at} {words(25, 4)}": None for at in range(100)}
    topic = {"topic": Classification(labels=classes)}
    of_job = Costs(Tasks({}, {}, topic)).document_cost(document("Ada"))
    assert (
        of_job == Costs(Tasks(FEW)).document_cost(Document(0, "0", "Ada", labels={}, classifications=topic)) > 5000
    )


@given(st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=60))
def test_shards_are_cut_by_cost(sizes: list[tuple[int, bool]]) -> None:
    """No shard has more than it may but for a single document."""
    many: Labels = {f"{at} {words(10, 4)}": None for at in range(60)}
    costs = Costs(Tasks(FEW))
    whole = [
        Document(at, str(at), "x" * size, labels=many if has_labels else None)
        for at, (size, has_labels) in enumerate(sizes)
    ]
    parts = list(shards.cut_shards(whole, 8, 20_000, weigh=costs.shard_weight))
    assert [document for part in parts for document in part] == whole
    assert all(len(part) == 1 or sum(map(costs.shard_weight, part)) <= 20_000 for part in parts)


@pytest.mark.parametrize("size", [1, 2000, 8000, shards.MAX_SHARD_CHARACTERS // 8 + 1])
def test_costly_labels_do_not_make_too_many_shards(size: int) -> None:
    """The maximum documents of a job or a stream fit into 10,000 shards."""
    many: Labels = {f"{at} {words(25, 4)}": "x" * 1000 for at in range(100)}
    costs = Costs(Tasks(many))
    count = min(100_000, (256 << 20) // size)
    text = "x" * size
    documents = (Document(at, "", text) for at in range(count))
    assert sum(1 for _ in shards.cut_shards(documents, weigh=costs.shard_weight)) <= shards.MAX_SHARDS
