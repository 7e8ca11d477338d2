from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.submission.packing import pack_documents, pack_job
from gateway.submission.parsing import Head
from jobs.codec import Codec
from jobs.ledger import associated_data
from jobs.schema import Document, Options, Priority
from jobs.shards import decode_documents

CODEC = Codec()
LABELS = {"person": None}


@given(st.lists(st.text(max_size=400), min_size=1, max_size=200), st.booleans())
def test_shards_hold_every_document_once_in_order(texts: list[str], named: bool) -> None:
    """Unpacked again, the shards are the documents, with their ids, sizes and number of characters."""
    documents = [Document(i, f"id-{i}" if named else str(i), text) for i, text in enumerate(texts)]

    packed = pack_documents(CODEC, "job", documents, LABELS)

    payloads = (CODEC.decode(blob, associated_data("in", "job", n)) for n, blob in enumerate(packed.blobs))
    shards = [decode_documents(payload) for payload in payloads]
    assert [document for shard in shards for document in shard] == documents
    assert [count for count, _ in packed.sizes] == [len(shard) for shard in shards]
    assert packed.characters == sum(map(len, texts))
    assert packed.doc_ids == ([(f"id-{i}", i) for i in range(len(texts))] if named else [])


def test_a_packed_job_has_its_head_and_the_sums_of_its_shards() -> None:
    """Labels, options and metadata are sealed for the job; an option of a newer wire version raises the version."""
    documents = pack_documents(CODEC, "job", [Document(0, "0", "Ada"), Document(1, "1", "Bob")], LABELS)
    head = Head("m", LABELS, Options(merge_adjacent=True), Priority.STANDARD, 60.0, 60.0, {"a": "b"}, None)

    job = pack_job(CODEC, head, documents)

    assert (job.documents, job.cost) == (2, sum(cost for _, cost in documents.sizes))
    assert orjson.loads(CODEC.decode(job.opts, associated_data("opts", "job"))) == {
        "labels": LABELS,
        "options": {"merge_adjacent": True},
    }
    assert orjson.loads(CODEC.decode(job.meta, associated_data("meta", "job"))) == {"a": "b"}
    assert job.version > documents.version
