"""Results are read page by page, in bounded memory, and in any pieces the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.access.auth import Authenticator
from gateway.errors import GatewayError, StreamAbortedError
from gateway.reading import results as module
from gateway.reading.decode_memory import CAPACITY_BYTES, DecodeMemory
from gateway.reading.encoding import ReadOptions
from gateway.reading.job_reader import JobReader
from gateway.reading.job_waiter import CHECK_EVERY_S
from gateway.reading.results import Results, ResultsReader
from gateway.reading.rows import encode_json, encode_ndjson_line
from gateway.reading.views import queued_job
from jobs.ledger import Call, FoundDocument, LedgerUnavailableError, Page, StoredShard, associated_data
from jobs.observability.metrics import GatewayMetrics
from jobs.results import Cursor
from jobs.schema import DocumentResult, DocumentStatus, Entity, Job, JobStatus
from jobs.shards import encode_results
from tests.support.fakes.awaiting import until
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER, make_open_authenticator
from tests.support.ledger import CODEC, new_job

pytestmark = pytest.mark.anyio

JOB_ID = "job_" + "0" * 26
ENDED = replace(queued_job(new_job(JOB_ID, tenant="acme"), created=1), status=JobStatus.SUCCEEDED)


def make_result(index: int, entities: int = 1) -> DocumentResult:
    """Return a document's result; every third failed."""
    status = DocumentStatus.FAILED if index % 3 == 2 else DocumentStatus.SUCCEEDED
    return DocumentResult(
        index, f"d{index}", status, tuple(Entity(n, n + 1, "x", "a", 0.5) for n in range(entities))
    )


def store_shard(number: int, results: list[DocumentResult]) -> StoredShard:
    """Return a finished shard as the ledger stores it."""
    return StoredShard(
        number, "d", 1, CODEC.encode(encode_results(results), associated_data("out", JOB_ID, number))
    )


class PagingLedger(ScriptedLedger):
    """Serves a job's shards, a few per page, as `read_page` does."""

    def __init__(self, shards: list[StoredShard], job: Job = ENDED, per_page: int = 2) -> None:
        super().__init__()
        self.shards, self.job, self.per_page = shards, job, per_page
        self.failure: BaseException | None = None

    async def run(self, call: Call[Any]) -> Any:
        """Return the page that begins with the requested shard."""
        self.script.calls.append(call)
        if self.failure is not None:
            raise self.failure
        first = int(call.args[1])
        return Page(self.job, tuple(self.shards[first : first + self.per_page]), len(self.shards))


def make_results(
    ledger: ScriptedLedger, recheck: Callable[..., Awaitable[None]] | None = None
) -> tuple[Results, DecodeMemory]:
    """Return a reader of results, and the memory that it decodes in."""
    authenticator: Any = make_open_authenticator(ledger, GatewayMetrics(CollectorRegistry()))
    if recheck is not None:
        authenticator = Recheck(recheck)
    memory = DecodeMemory()
    jobs = JobReader(ledger, None, authenticator)  # type: ignore[arg-type]  # nothing waits for a job
    return Results(jobs, CODEC, memory, authenticator), memory


class Recheck:
    """An authenticator that checks callers again as a test says."""

    def __init__(self, recheck: Callable[..., Awaitable[None]]) -> None:
        self.recheck_caller = recheck


async def read_all(reader: ResultsReader) -> bytes:
    """Read everything, as a fast client does."""
    first = await reader.read_first()
    return b"".join([chunk async for chunk in reader.stream(first)])


def is_free(memory: DecodeMemory) -> bool:
    """Return whether nothing is reserved."""
    reservation = memory.try_reserve("nobody", CAPACITY_BYTES)
    if reservation is not None:
        reservation.release()
    return reservation is not None


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=6),
    limit=st.integers(1, 9),
    per_page=st.integers(1, 3),
    failed=st.booleans(),
)
def test_pages_of_any_size_are_together_all_results(
    sizes: list[int], limit: int, per_page: int, failed: bool
) -> None:
    """No result is missing or comes twice, whatever the limit, the filter and the ledger's own pages."""
    numbers = iter(range(sum(sizes)))
    shards = [store_shard(n, [make_result(next(numbers)) for _ in range(size)]) for n, size in enumerate(sizes)]
    statuses = frozenset({DocumentStatus.FAILED} if failed else ())

    async def read_pages() -> list[int]:
        results, memory = make_results(PagingLedger(shards, per_page=per_page))
        indexes: list[int] = []
        cursor: Cursor | None = Cursor()
        while cursor is not None:
            options = ReadOptions(encode_json, cursor, limit, statuses, separator=b",", paged=True)
            reader = ResultsReader(results, CALLER, JOB_ID, options)
            page = orjson.loads(b"[" + await read_all(reader) + b"]")
            assert len(page) <= limit
            assert is_free(memory)
            indexes += [result["index"] for result in page]
            cursor = reader.next_cursor
        return indexes

    expected = [n for n in range(sum(sizes)) if not failed or n % 3 == 2]
    assert asyncio.run(read_pages()) == expected


async def test_a_large_job_is_streamed_in_chunks_and_leaves_no_memory_reserved() -> None:
    """The first bytes come at once, the rest as the client reads."""
    shards = [store_shard(n, [make_result(8 * n + at, entities=400) for at in range(8)]) for n in range(6)]
    results, memory = make_results(PagingLedger(shards))
    reader = ResultsReader(results, CALLER, JOB_ID, ReadOptions(encode_ndjson_line))
    first = await reader.read_first()
    assert not reader.done
    assert module.MAX_WHOLE_BYTES <= len(first) < 2 * module.MAX_WHOLE_BYTES
    lines = b"".join([chunk async for chunk in reader.stream(first)]).splitlines()
    assert [orjson.loads(line)["index"] for line in lines] == list(range(48))
    assert reader.complete
    assert reader.next_cursor is None
    assert is_free(memory)


async def test_a_running_job_s_results_end_where_it_is() -> None:
    """The cursor continues there later."""
    running = replace(ENDED, status=JobStatus.RUNNING)
    ledger = PagingLedger([store_shard(0, [make_result(0)])], running)
    results, _ = make_results(ledger)

    async def read_page(call: Call[Any]) -> Page:
        return Page(running, tuple(ledger.shards) if int(call.args[1]) == 0 else (), 3)

    ledger.run = read_page  # type: ignore[method-assign,assignment]
    reader = ResultsReader(results, CALLER, JOB_ID, ReadOptions(encode_json))
    await read_all(reader)
    assert (reader.complete, reader.next_cursor) == (False, Cursor(1, 0))


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (GatewayError("job_purged", "removed"), "job_purged"),
        (LedgerUnavailableError("down"), "LedgerUnavailableError"),
    ],
)
async def test_a_stream_that_cannot_go_on_is_cut(failure: Exception, reason: str) -> None:
    """It must not look as if it had ended; what it held is released."""
    shards = [store_shard(n, [make_result(n, entities=5000)]) for n in range(6)]
    ledger = PagingLedger(shards)
    results, memory = make_results(ledger)
    reader = ResultsReader(results, CALLER, JOB_ID, ReadOptions(encode_json))
    first = await reader.read_first()
    ledger.failure = failure
    with pytest.raises(StreamAbortedError, match=reason):
        async for _ in reader.stream(first):
            pass
    assert is_free(memory)


async def test_a_read_that_fails_at_once_holds_no_memory() -> None:
    """The error is the response's; nothing has been sent."""
    ledger = PagingLedger([])
    results, memory = make_results(ledger)
    ledger.failure = GatewayError("job_not_found", "no")
    with pytest.raises(GatewayError, match="job_not_found"):
        await ResultsReader(results, CALLER, JOB_ID, ReadOptions(encode_json)).read_first()
    assert is_free(memory)


async def test_a_stream_that_is_cancelled_holds_no_memory() -> None:
    """The client went away while the next shards were fetched."""
    ledger = PagingLedger([store_shard(n, [make_result(n, entities=5000)]) for n in range(6)])
    results, memory = make_results(ledger)
    reader = ResultsReader(results, CALLER, JOB_ID, ReadOptions(encode_json))
    first = await reader.read_first()
    ledger.failure = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        async for _ in reader.stream(first):
            pass
    assert is_free(memory)


async def test_a_revoked_key_ends_its_streams() -> None:
    """It is checked every few seconds while the stream lasts."""
    checks: list[str] = []

    async def recheck(_: object) -> None:
        checks.append("checked")
        raise GatewayError("unauthenticated", "revoked")

    shards = [store_shard(n, [make_result(n, entities=5000)]) for n in range(6)]
    results, memory = make_results(PagingLedger(shards), recheck)
    reader = ResultsReader(results, CALLER, JOB_ID, ReadOptions(encode_json))
    first = await reader.read_first()
    reader._checked_at -= CHECK_EVERY_S
    with pytest.raises(StreamAbortedError, match="unauthenticated"):
        async for _ in reader.stream(first):
            pass
    assert checks == ["checked"]
    assert is_free(memory)


async def test_a_client_that_stops_reading_holds_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data is decoded again when it reads on, and is the same."""
    monkeypatch.setattr(module, "STALL_S", 0.0)
    shards = [store_shard(0, [make_result(n, entities=400) for n in range(60)])]
    results, memory = make_results(PagingLedger(shards))
    reader = ResultsReader(results, CALLER, JOB_ID, ReadOptions(encode_ndjson_line))
    chunks = [await reader.read_first()]
    await until(lambda: reader._reservation is None)
    assert is_free(memory)
    lines = b"".join([chunk async for chunk in reader.stream(chunks[0])]).splitlines()
    assert [orjson.loads(line)["index"] for line in lines] == list(range(60))


async def test_a_cancelled_read_holds_its_memory_until_its_thread_ends() -> None:
    """A thread cannot be stopped: others must not decode in the same memory meanwhile."""
    shards = [store_shard(0, [make_result(n, entities=400) for n in range(60)])]
    results, memory = make_results(PagingLedger(shards))
    reader = ResultsReader(results, CALLER, JOB_ID, ReadOptions(encode_ndjson_line))
    reading = asyncio.create_task(reader.read_first())
    await until(lambda: reader._reservation is not None)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await until(lambda: is_free(memory))


@pytest.mark.parametrize(
    ("doc_id", "index", "expected"),
    [("d1", 1, 1), ("d7", 1, None), ("d1", 5, None)],
)
async def test_a_document_is_found_by_its_id(doc_id: str, index: int, expected: int | None) -> None:
    """The ledger names the shard by a hash or an index; the id itself decides."""
    shard = store_shard(0, [make_result(n) for n in range(3)])
    results, memory = make_results(ScriptedLedger(find_document=FoundDocument(ENDED, index, shard)))
    document = await results.read_document(CALLER, JOB_ID, doc_id)
    assert document is None if expected is None else isinstance(document, bytes)
    if isinstance(document, bytes):
        assert orjson.loads(document)["index"] == expected
    assert is_free(memory)


async def test_a_document_that_is_in_no_shard_is_not_found() -> None:
    """The job has no such id."""
    results, memory = make_results(ScriptedLedger(find_document=FoundDocument(ENDED, 0, None)))
    assert await results.read_document(CALLER, JOB_ID, "x") is None
    assert is_free(memory)


async def test_a_large_document_is_read_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are never all in memory at once."""
    monkeypatch.setattr(module, "MAX_WHOLE_BYTES", 1000)
    large = store_shard(0, [make_result(0), make_result(1, entities=400)])
    ledger = PagingLedger([large])
    results, _ = make_results(ScriptedLedger(find_document=FoundDocument(ENDED, 1, large)))
    reader = await results.read_document(CALLER, JOB_ID, "d1")
    assert isinstance(reader, ResultsReader)
    reader._results = make_results(ledger)[0]
    assert orjson.loads(await read_all(reader))["index"] == 1


def test_the_authenticator_of_a_test_is_one_of_the_gateway() -> None:
    """The method that `Recheck` replaces exists."""
    assert callable(Authenticator.recheck_caller)
