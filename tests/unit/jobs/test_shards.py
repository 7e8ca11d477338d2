from __future__ import annotations

from dataclasses import replace

import orjson
from hypothesis import given
from hypothesis import strategies as st

from jobs import shards
from jobs.schema import (
    Document,
    DocumentError,
    DocumentErrorCode,
    DocumentResult,
    DocumentStatus,
    Entity,
    Explanation,
    Options,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
documents = st.builds(
    Document,
    index=st.integers(0, 10**6),
    id=texts,
    text=texts,
    labels=st.none() | st.dictionaries(texts, st.none() | texts, max_size=3),
    options=st.none() | st.just({"threshold": 0.25}),
    error=st.none() | st.builds(DocumentError, st.sampled_from(list(DocumentErrorCode)), texts),
)
results = st.builds(
    DocumentResult,
    index=st.integers(0, 10**6),
    id=texts,
    status=st.sampled_from(list(DocumentStatus)),
    entities=st.lists(
        st.builds(
            Entity,
            st.integers(0, 99),
            st.integers(0, 99),
            texts,
            texts,
            st.floats(0, 1),
            redacted=st.none(),
            explain=st.none()
            | st.builds(
                Explanation,
                st.lists(st.tuples(texts, st.floats(0, 1)), max_size=2).map(tuple),
                st.tuples(st.integers(0, 99), st.integers(0, 99)),
                st.none() | st.floats(0, 1),
            ),
        ),
        max_size=3,
    ).map(tuple),
    windows=st.integers(0, 99),
    truncated=st.booleans(),
    warnings=st.lists(texts, max_size=2).map(tuple),
    attempts=st.integers(0, 9),
    error=st.none() | st.builds(DocumentError, st.sampled_from(list(DocumentErrorCode)), texts),
    text=st.none() | texts,
)


@given(st.lists(texts, max_size=60), st.integers(1, 8), st.integers(1, 100))
def test_cutting_keeps_every_document_in_order(bodies: list[str], most: int, characters: int) -> None:
    """No document is lost, doubled or moved, and a shard is over its size only where it is a single document."""
    whole = [Document(i, str(i), text) for i, text in enumerate(bodies)]
    cut = list(shards.cut_shards(whole, most, characters))
    assert [d for shard in cut for d in shard] == whole
    for shard in cut:
        assert 0 < len(shard) <= most
        assert len(shard) == 1 or sum(len(d.text) for d in shard) <= characters


def test_a_huge_job_stays_below_the_most_shards() -> None:
    """100,000 documents, long and short in the worst order, are fewer than 10,000 shards."""
    half = shards.MAX_SHARD_CHARACTERS // 2 + 1
    worst = (Document(i, str(i), "x" * (half if i % 100 == 0 else 1)) for i in range(100_000))
    assert sum(1 for _ in shards.cut_shards(worst)) <= shards.MAX_SHARDS


@given(st.lists(documents, max_size=5))
def test_payloads_survive_the_store(rows: list[Document]) -> None:
    """A document is read back as it was written."""
    assert list(shards.decode_documents(shards.encode_documents(rows))) == rows


@given(st.lists(results, max_size=5))
def test_results_survive_the_store(rows: list[DocumentResult]) -> None:
    """A result is read back as it was written."""
    assert list(shards.decode_results(shards.encode_results(rows))) == rows


@given(results, st.integers(0, 99))
def test_redacted_results_survive_the_store(result: DocumentResult, at: int) -> None:
    """Redacted positions are stored in a separate column, so that older readers find the rest unchanged."""
    moved = tuple(entity._replace(redacted=(at, at + 1), explain=None) for entity in result.entities)
    redacted = replace(result, entities=moved, redacted_text="[X]", text=None)
    blob = shards.encode_results([redacted])
    assert shards.decode_results(blob) == (redacted,)
    assert all(len(entity) == 5 for entity in orjson.loads(blob)[0].get("n", ()))


def test_a_job_says_what_its_worker_must_know() -> None:
    """Older workers take every job that asks for nothing newer; options that are not requested are not stored."""
    plain = Document(0, "0", "x", options={"threshold": 0.2})
    odd = Document(1, "1", "x", options={"explain": False})
    assert shards.wire_options(Options(flat=False)) == {"flat": False}
    assert shards.wire_version([plain], Options(return_text=True, threshold=0.1)) == 1
    assert shards.wire_version([plain, odd], Options()) == 2  # named, and so stored
    assert shards.wire_version([], Options(redact=True)) == 2
    assert shards.wire_version([], Options(merge_adjacent=False)) == 3
    assert shards.wire_version([]) == 1


TEXTS = st.text(max_size=20) | st.sampled_from(['},{"i":', '"},{"i":0}', '\\"},{"i":1', "},{", "]"])


@given(
    texts=st.lists(st.tuples(TEXTS, TEXTS), max_size=5),
    cuts=st.integers(1, 40),
    skip=st.integers(0, 6),
)
def test_rows_are_cut_wherever_the_pieces_end(texts: list[tuple[str, str]], cuts: int, skip: int) -> None:
    """Rows read one at a time are the rows read at once, whatever is in texts, ids, labels and options."""
    documents = [
        Document(n, doc_id or "id", text, {"i": None, text: doc_id}, {"threshold": {"i": 0.5, text: 0.5}})
        for n, (doc_id, text) in enumerate(texts)
    ]
    entity = [Entity(0, 1, text, doc_id, 0.5) for doc_id, text in texts]
    results = [
        DocumentResult(n, doc_id or "id", DocumentStatus.SUCCEEDED, tuple(entity), warnings=(text,), text=text)
        for n, (doc_id, text) in enumerate(texts)
    ]
    for blob, decode, rows in (
        (shards.encode_documents(documents), shards.decode_document, documents),
        (shards.encode_results(results), shards.decode_result, results),
    ):
        pieces = [blob[at : at + cuts] for at in range(0, len(blob), cuts)]
        cut = list(shards.split_rows(pieces, skip))
        assert [decode(row) for row, _ in cut] == rows[skip:]
        assert [shards.row_index(row) for row, _ in cut] == [row.index for row in rows[skip:]]
        assert [last for _, last in cut] == [row is rows[-1] for row in rows[skip:]]


def test_an_older_gateway_reads_errors_it_does_not_know() -> None:
    """New codes stand beside one that every version knows; and a newer version's are read as that one."""
    error = DocumentError(DocumentErrorCode.TOO_COSTLY, "why")
    row = orjson.loads(shards.encode_results([DocumentResult(0, "0", DocumentStatus.FAILED, error=error)]))[0]
    assert (row["e"], row["ec"]) == (["input_too_long", "why"], "too_costly")
    [result] = shards.decode_results(orjson.dumps([{**row, "ec": "of_tomorrow"}]))
    assert result.error == DocumentError(DocumentErrorCode.INPUT_TOO_LONG, "why")
