"""The client against a real HTTP server: its requests and its reading of responses, sync and async."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import gleaner
from gleaner import AsyncClient, Client
from gleaner.client import calls
from tests.support.fakes.scripted_http import Answer, ReceivedRequest, ScriptedServer, problem


def job(status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    """Return a job object."""
    counts = {"total": 2, "queued": 0, "running": 0, "succeeded": 2, "failed": 0, "cancelled": 0, "expired": 0}
    return {"id": "job_1", "object": "job", "status": status, "counts": counts, "progress": 1.0, **fields}


def result(index: int, **fields: Any) -> dict[str, Any]:
    """Return a result with one entity."""
    entity = {"start": 0, "end": 3, "text": "Ada", "label": "person", "score": 0.9}
    return {
        "index": index,
        "id": str(index),
        "status": "succeeded",
        "entities": [entity],
        "windows": 1,
        "truncated": False,
        "warnings": [],
        "attempts": 1,
        "error": None,
        **fields,
    }


def page(*results: dict[str, Any], cursor: str | None = None, complete: bool = True) -> Answer:
    """Return a page of results."""
    return Answer(body={"data": list(results), "next_cursor": cursor, "complete": complete})


def extracted_sync(url: str) -> list[gleaner.Result]:
    """Submit, wait and read with the Client."""
    with Client(url, "k", retries=2) as client:
        return list(client.submit(["Ada", "Ada"], ["person"]).wait().results())


def extracted_async(url: str) -> list[gleaner.Result]:
    """Submit, wait and read with the AsyncClient."""

    async def run() -> list[gleaner.Result]:
        async with AsyncClient(url, "k", retries=2) as client:
            job = await client.submit(["Ada", "Ada"], ["person"])
            await job.wait()
            return [result async for result in job.results()]

    return asyncio.run(run())


both = pytest.mark.parametrize("run", [extracted_sync, extracted_async], ids=["sync", "async"])
Run = Callable[[str], list[gleaner.Result]]


@both
def test_submit_wait_and_results(run: Run) -> None:
    """A job is submitted under the key, waited for, and its pages are joined in order."""
    server = ScriptedServer(
        Answer(202, job("queued")),
        Answer(body=job("running")),
        Answer(body=job()),
        page(result(0), cursor="c1", complete=False),
        page(result(1)),
    )
    with server.running():
        results = run(server.url)

    assert [item.index for item in results] == [0, 1]
    assert gleaner.Entity(0, 3, "Ada", "person", 0.9) == results[0].entities[0]
    submitted, waited, *_, last = server.requests
    assert submitted.json() == {"documents": [{"text": "Ada"}, {"text": "Ada"}], "labels": ["person"]}
    assert submitted.headers["authorization"] == "Bearer k"
    assert int(waited.query["wait"]) > 0
    assert last.query == {"cursor": "c1"}


@both
def test_a_submission_is_repeated_under_the_same_idempotency_key(run: Run) -> None:
    """A lost answer and a 503 are met by sending the same body with the same Idempotency-Key again."""
    server = ScriptedServer(
        Answer(drop=True),
        problem(503, "overloaded", headers={"Retry-After": "0"}),
        Answer(202, job()),
        page(result(0), result(1)),
    )
    with server.running():
        assert len(run(server.url)) == 2

    first, second, third, _ = server.requests
    assert first.headers["idempotency-key"]
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body == third.body


@both
def test_retries_end(run: Run) -> None:
    """The last refusal is raised with its code and Retry-After once the retries are used up."""
    server = ScriptedServer(*[problem(429, "quota_exceeded", headers={"Retry-After": "0"})] * 9)
    with server.running(), pytest.raises(gleaner.RateLimited) as raised:
        run(server.url)

    assert (raised.value.code, raised.value.retry_after) == ("quota_exceeded", 0.0)
    assert len(server.requests) == 3


def test_what_is_not_safe_to_repeat_is_not_repeated() -> None:
    """A new endpoint whose answer got lost may be there: nobody registers it twice; a 429 was certainly no."""
    endpoint = {"id": "ep_1", "url": "http://127.0.0.1:9/", "status": "active", "secret": "s"}
    server = ScriptedServer(
        problem(429, "rate_limited", headers={"Retry-After": "0"}), Answer(drop=True), Answer(201, endpoint)
    )
    with server.running(), Client(server.url) as client:
        with pytest.raises(gleaner.TransportError):
            client.webhooks.create("http://127.0.0.1:9/")
        assert len(server.requests) == 2
        assert client.webhooks.create("http://127.0.0.1:9/").id == "ep_1"


def test_a_large_body_is_made_again_for_a_repetition() -> None:
    """Many documents go as pieces of lines, the same ones whenever they are sent, and a list is not copied."""
    documents = [f"Ada {number} " + "x" * 1000 for number in range(300)]
    call = calls.submit_job(documents, ["person"], {}, "key")
    assert isinstance(call.content, bytes)
    call = calls.submit_job(documents * 40, ["person"], {}, "key")
    assert callable(call.content)
    first, second = list(call.content()), list(call.content())
    assert first == second
    assert max(map(len, first)) < 70_000
    assert b"".join(first).count(b"\n") == 12_000


def test_a_long_retry_after_is_not_slept_through() -> None:
    """A gateway that asks for an hour gets no sleeping client: the error is raised at once."""
    server = ScriptedServer(problem(503, "overloaded", headers={"Retry-After": "3600"}))
    with server.running(), Client(server.url) as client, pytest.raises(gleaner.Unavailable) as raised:
        client.submit(["Ada"], ["person"])

    assert raised.value.retry_after == 3600.0
    assert len(server.requests) == 1


def test_nobody_listens() -> None:
    """A refused connection is a TransportError once the retries are used up."""
    with ScriptedServer().running() as server:
        url = server.url
    with Client(url, retries=1) as client, pytest.raises(gleaner.TransportError):
        client.models()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed_json", gleaner.BadRequest),
        (401, "unauthenticated", gleaner.AuthenticationError),
        (403, "forbidden", gleaner.PermissionDenied),
        (404, "job_not_found", gleaner.NotFound),
        (409, "job_not_terminal", gleaner.Conflict),
        (410, "job_purged", gleaner.Gone),
        (413, "too_many_documents", gleaner.TooLarge),
        (415, "unsupported_media_type", gleaner.ValidationError),
        (422, "unknown_model", gleaner.ValidationError),
        (500, "http_500", gleaner.ServerError),
    ],
)
def test_each_refusal_has_its_class(status: int, code: str, kind: type[gleaner.ApiError]) -> None:
    """Every documented status becomes its exception, which carries the problem's code, and is not retried."""
    server = ScriptedServer(problem(status, code, request_id="req_7"))
    with server.running(), Client(server.url) as client, pytest.raises(kind) as raised:
        client.job("job_1")

    assert (status, code, "req_7") == (raised.value.status, raised.value.code, raised.value.request_id)


def test_validation_errors_say_where() -> None:
    """`errors` lists pointer and detail, and the message shows them."""
    errors = [{"pointer": "/labels/0", "detail": "is empty"}]
    server = ScriptedServer(problem(422, "validation_failed", errors=errors))
    with server.running(), Client(server.url) as client, pytest.raises(gleaner.ValidationError) as raised:
        client.submit(["Ada"], [""])

    assert raised.value.errors == (("/labels/0", "is empty"),)
    assert "/labels/0: is empty" in str(raised.value)


def test_an_answer_that_is_no_gateways() -> None:
    """A 200 from something else is a clear error, not a KeyError."""
    server = ScriptedServer(Answer(body={"hello": "world"}))
    with server.running(), Client(server.url) as client, pytest.raises(gleaner.ServerError) as raised:
        client.submit(["Ada"], ["person"])

    assert raised.value.code == "unreadable_answer"


def test_options_go_where_the_api_wants_them() -> None:
    """Model options are nested, job options are not, unknown ones are refused before anything is sent."""
    server = ScriptedServer(Answer(202, job()))
    with server.running(), Client(server.url) as client:
        client.submit(
            [{"id": "a", "text": "Ada", "labels": ["x"]}],
            {"person": "a human"},
            threshold={"person": 0.3},
            offset_unit="utf16",
            priority="interactive",
            deadline_s=60,
            idempotency_key="mine",
        )
        with pytest.raises(TypeError, match="colour"):
            client.submit(["Ada"], ["person"], colour="red")  # type: ignore[call-arg]

    (request,) = server.requests
    assert request.headers["idempotency-key"] == "mine"
    assert request.json() == {
        "documents": [{"id": "a", "text": "Ada", "labels": ["x"]}],
        "labels": {"person": "a human"},
        "options": {"threshold": {"person": 0.3}, "offset_unit": "utf16"},
        "priority": "interactive",
        "deadline_s": 60,
    }


@pytest.mark.parametrize("arguments", [("Ada", ["person"]), (["Ada"], "person")])
def test_one_string_is_no_list(arguments: tuple[Any, Any]) -> None:
    """A bare string for documents or labels is refused rather than read letter by letter."""
    with Client("http://127.0.0.1:9") as client, pytest.raises(TypeError, match="is one string"):
        client.submit(*arguments)


def test_a_lone_surrogate_travels() -> None:
    """A text without UTF-8 is sent escaped, so that it fails alone at the gateway and not here."""
    server = ScriptedServer(Answer(202, job()))
    with server.running(), Client(server.url) as client:
        client.submit(["a\ud800b", "é"], ["person"])

    assert b"a\\ud800b" in server.requests[0].body


def test_results_of_a_running_job_are_followed() -> None:
    """Results come as they become ready, each once, though the gateway has no cursor for the open end."""
    server = ScriptedServer(
        Answer(body=job("running")),
        page(result(0), complete=False),
        page(result(0), complete=False),
        Answer(body=job("running")),
        page(result(0), result(1)),
    )
    with server.running(), Client(server.url) as client:
        indexes = [item.index for item in client.job("job_1").results()]

    assert indexes == [0, 1]


def test_results_without_following_stop_at_the_first_unfinished() -> None:
    """`follow=False` hands out the finished results and returns."""
    unfinished = page(result(0), cursor="c1", complete=False), page(cursor="c1", complete=False)
    server = ScriptedServer(Answer(body=job("running")), *unfinished)
    with server.running(), Client(server.url) as client:
        assert [item.index for item in client.job("job_1").results(follow=False)] == [0]


def test_wait_gives_up_in_time() -> None:
    """`wait(timeout)` raises WaitTimeout, which is a TimeoutError, and leaves the job alone."""
    server = ScriptedServer(behaviour=lambda _request: Answer(body=job("running")))
    with server.running(), Client(server.url) as client:
        waiting = client.job("job_1")
        with pytest.raises(TimeoutError):
            waiting.wait(timeout=0.3)

    assert {"GET"} == {request.method for request in server.requests}


def test_wait_reports_progress() -> None:
    """`on_progress` sees every answer, the last included."""
    seen: list[str] = []
    server = ScriptedServer(Answer(body=job("queued")), Answer(body=job("running")), Answer(body=job()))
    with server.running(), Client(server.url) as client:
        client.job("job_1").wait(on_progress=lambda info: seen.append(info.status))

    assert seen == ["queued", "running", "succeeded"]


def test_extract_in_one_call_and_beyond() -> None:
    """A few documents go through /v1/extract, many through a job; the caller sees no difference."""
    server = ScriptedServer(
        Answer(body={"job": job(), "results": [result(0)]}),
        Answer(202, job()),
        page(*[result(index) for index in range(40)]),
    )
    with server.running(), Client(server.url) as client:
        assert len(client.extract(["Ada"], ["person"])) == 1
        assert len(client.extract(["Ada"] * 40, ["person"])) == 40

    assert [request.path for request in server.requests] == ["/v1/extract", "/v1/jobs", "/v1/jobs/job_1/results"]


def test_an_extraction_that_outlives_its_call() -> None:
    """A 202 from /v1/extract is followed like any job."""
    server = ScriptedServer(Answer(202, job("running")), Answer(body=job()), page(result(0)))
    with server.running(), Client(server.url) as client:
        assert [item.id for item in client.extract(["Ada"], ["person"])] == ["0"]


def counting_gateway() -> ScriptedServer:
    """Return a gateway that finishes every job at once with one entity per document."""
    sizes: dict[str, int] = {}

    def answer(request: ReceivedRequest) -> Answer:
        if request.method == "POST":
            job_id = f"job_{len(sizes)}"
            sizes[job_id] = len(request.json()["documents"])
            return Answer(202, {**job("queued"), "id": job_id})
        return page(*[result(index) for index in range(sizes[request.path.split("/")[3]])])

    return ScriptedServer(behaviour=answer)


def test_map_keeps_order_over_many_jobs() -> None:
    """`map` submits windows, renumbers their results, and reads the source no further ahead than it must."""
    read = 0

    def source() -> Any:
        nonlocal read
        for number in range(2000):
            read += 1
            yield f"Ada {number}"

    seen: list[gleaner.MapProgress] = []
    server = counting_gateway()
    with server.running(), Client(server.url) as client:
        results = client.map(source(), ["person"], on_progress=seen.append)
        first = next(results)
        assert read <= 4 * 256
        indexes = [first.index, *(item.index for item in results)]

    assert list(range(2000)) == indexes
    assert seen[-1] == gleaner.MapProgress(done=2000, failed=0, submitted=2000, total=None)
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert sum(request.method == "POST" for request in server.requests) == 8


def test_async_map_takes_an_asynchronous_source() -> None:
    """AsyncClient.map reads an async iterable."""

    async def source() -> Any:
        for number in range(300):
            yield f"Ada {number}"

    async def run(url: str) -> list[str]:
        async with AsyncClient(url) as client:
            return [item.id async for item in client.map(source(), ["person"])]

    server = counting_gateway()
    with server.running():
        assert [str(number) for number in range(300)] == asyncio.run(run(server.url))


def test_cancel_and_delete() -> None:
    """Cancel renews the job's state; delete answers nothing."""
    server = ScriptedServer(Answer(body=job("running")), Answer(202, job("cancelling")), Answer(204))
    with server.running(), Client(server.url) as client:
        handle = client.job("job_1").cancel()
        handle.delete()

    assert handle.status == "cancelling"
    assert [request.method for request in server.requests] == ["GET", "POST", "DELETE"]


def test_a_deletion_whose_answer_was_lost_is_done() -> None:
    """A retry that finds nothing is a success; a first try that finds nothing raises an error."""
    server = ScriptedServer(Answer(body=job()), Answer(drop=True), *[problem(410, "job_purged")] * 2)
    with server.running(), Client(server.url) as client:
        handle = client.job("job_1")
        handle.delete()
        with pytest.raises(gleaner.Gone):
            handle.delete()


def test_jobs_are_paged_up_to_the_limit() -> None:
    """`jobs(limit)` follows cursors and stops at the limit."""
    listing = Answer(body={"data": [job(), job()], "next_cursor": "c"})
    server = ScriptedServer(listing, listing)
    with server.running(), Client(server.url) as client:
        assert len(list(client.jobs(limit=3))) == 3


def test_importing_gleaner_imports_httpx_alone() -> None:
    """`import gleaner` brings in no web framework, no Redis, no CLI library, no model."""
    script = (
        "import sys, gleaner\n"
        "heavy = {'pydantic', 'redis', 'celery', 'typer', 'fastapi', 'torch', 'jobs', 'gateway', 'worker'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert ran.stdout.strip() == "[]"
