from __future__ import annotations

from dataclasses import replace

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.submission.packing import PackedDocuments, pack_documents, pack_head
from gateway.submission.parsing.job import Head
from jobs.codec import Codec
from jobs.ledger import associated_data
from jobs.schema import Document, Options, Priority
from jobs.shards import decode_documents
from jobs.tasks import Classification, RelationType, Tasks

CODEC = Codec()
TASKS = Tasks({"person": None})


@given(st.lists(st.text(max_size=400), min_size=1, max_size=200), st.booleans())
def test_shards_hold_every_document_once_in_order(texts: list[str], named: bool) -> None:
    """Unpacked again, the shards are the documents, with their ids, sizes and number of characters."""
    documents = [Document(i, f"id-{i}" if named else str(i), text) for i, text in enumerate(texts)]

    packed = pack_documents(CODEC, "job", documents, TASKS)

    payloads = (CODEC.decode(blob, associated_data("in", "job", n)) for n, blob in enumerate(packed.blobs))
    shards = [decode_documents(payload) for payload in payloads]
    assert [document for shard in shards for document in shard] == documents
    assert [count for count, _ in packed.sizes] == [len(shard) for shard in shards]
    assert packed.characters == sum(map(len, texts))
    assert packed.doc_ids == ([(f"id-{i}", i) for i in range(len(texts))] if named else [])


def test_documents_and_costs_are_summed_over_the_shards() -> None:
    """The sums are those of the parts, whatever the number of shards."""
    packed = PackedDocuments("job", [(2, 30), (1, 5)], version=1, characters=35)
    assert (packed.count, packed.cost) == (3, 35)


def test_the_head_is_sealed_for_its_job() -> None:
    """Labels, options and metadata are bound to the job; without metadata nothing is stored."""
    head = Head("m", TASKS, Options(merge_adjacent=True), Priority.STANDARD, 60.0, 60.0, {"a": "b"}, None)

    opts, meta = pack_head(CODEC, "job", head)

    assert orjson.loads(CODEC.decode(opts, associated_data("opts", "job"))) == {
        "labels": {"person": None},
        "options": {"merge_adjacent": True},
    }
    assert orjson.loads(CODEC.decode(meta, associated_data("meta", "job"))) == {"a": "b"}
    assert pack_head(CODEC, "job", replace(head, metadata={}))[1] == b""
    tasks = Tasks(
        {"person": None}, {"knows": RelationType(threshold=0.4)}, {"tone": Classification(labels={"a": None})}
    )
    opts, _ = pack_head(CODEC, "job", replace(head, tasks=tasks))
    assert Tasks.from_wire(orjson.loads(CODEC.decode(opts, associated_data("opts", "job")))) == tasks
