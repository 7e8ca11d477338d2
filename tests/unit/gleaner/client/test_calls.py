"""Arguments -> requests, and responses -> values, without I/O."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.client import calls
from gleaner.client.calls import Call, Document, SubmitOptions

DOCUMENTS = st.lists(st.text(max_size=20) | st.fixed_dictionaries({"text": st.text(max_size=20)}), max_size=20)
JOB = {"id": "job_1", "status": "queued"}


def body_of(call: Call[Any]) -> bytes:
    """Return a call's body as one piece."""
    if call.content is None:
        return b""
    return call.content if isinstance(call.content, bytes) else b"".join(call.content())


def parse(call: Call[Any], body: object) -> Any:
    """Return a call's value for a response."""
    return call.parse(httpx.Response(200, json=body))


@given(DOCUMENTS)
def test_both_forms_of_a_body_say_the_same(documents: list[Document]) -> None:
    """JSON for small jobs; a head and one line per document for large ones."""
    options: SubmitOptions = {"threshold": 0.4, "priority": "interactive"}
    small = calls.submit_job(documents, ["person"], options, "key")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "JSON_DOCUMENTS", -1)
        large = calls.submit_job(documents, ["person"], options, "key")

    whole = json.loads(body_of(small))
    head, *lines = body_of(large).decode().split("\n")
    assert json.loads(head) == {name: value for name, value in whole.items() if name != "documents"}
    assert [json.loads(line) for line in lines] == whole["documents"]
    assert large.headers == {"Content-Type": "application/x-ndjson", "Idempotency-Key": "key"}
    assert body_of(large) == body_of(large)  # a retry sends it again


@pytest.mark.parametrize(
    ("documents", "is_stream"),
    [
        (["a"] * calls.JSON_DOCUMENTS, False),
        (["a"] * (calls.JSON_DOCUMENTS + 1), True),
        (["a" * calls.JSON_CHARACTERS], False),
        ([{"text": "a" * calls.JSON_CHARACTERS}, "b"], True),
        ([{"text": None}], False),
    ],
)
def test_a_large_job_is_a_stream(documents: list[Document], is_stream: bool) -> None:
    """By the number of documents or of characters; a stream comes in chunks."""
    call = calls.submit_job(documents, None, {}, "key")

    assert callable(call.content) == is_stream
    assert call.headers["Content-Type"] == f"application/{'x-ndjson' if is_stream else 'json'}"


def test_options_have_their_places() -> None:
    """Those of the model are one object, those of the job are fields; absent ones are not sent."""
    options: SubmitOptions = {"flat": False, "merge_adjacent": True, "deadline_s": 60, "metadata": {"a": "b"}}
    call = calls.extract_documents(["x"], {"city": "a town", "person": None}, options, "key")

    assert json.loads(body_of(call)) == {
        "documents": [{"text": "x"}],
        "labels": {"city": "a town", "person": None},
        "options": {"flat": False, "merge_adjacent": True},
        "deadline_s": 60,
        "metadata": {"a": "b"},
    }
    assert call.patience_s == 30


def test_tasks_are_fields_of_the_job() -> None:
    """Relations and classifications stand next to the labels, their options among the others."""
    call = calls.extract_documents(
        ["x"],
        None,
        {"relations": ["met"], "classifications": {"topic": ["sport"]}, "class_aggregation": "max"},
        "key",
    )
    assert json.loads(cast("bytes", call.content)) == {
        "documents": [{"text": "x"}],
        "relations": ["met"],
        "classifications": {"topic": ["sport"]},
        "options": {"class_aggregation": "max"},
    }


def test_an_unknown_option_is_refused_here() -> None:
    """The gateway would refuse it too, after the upload."""
    options: Any = {"treshold": 0.4, "idempotency_key": "k"}
    with pytest.raises(TypeError, match="unknown options: treshold"):
        calls.submit_job(["x"], None, options, "key")


@pytest.mark.parametrize(
    ("call", "method", "path", "params"),
    [
        (calls.get_job("a/b"), "GET", "/v1/jobs/a%2Fb", {}),
        (calls.get_job("a", 30), "GET", "/v1/jobs/a", {"wait": 30}),
        (calls.list_jobs("failed", 500, None), "GET", "/v1/jobs", {"status": "failed", "limit": 100}),
        (calls.list_jobs(None, None, "c"), "GET", "/v1/jobs", {"cursor": "c"}),
        (calls.list_results("a", "c", 5, None), "GET", "/v1/jobs/a/results", {"cursor": "c", "limit": 5}),
        (calls.cancel_job("a"), "POST", "/v1/jobs/a/cancel", {}),
        (calls.retry_job("a", "k"), "POST", "/v1/jobs/a/retry", {}),
        (calls.delete_job("a"), "DELETE", "/v1/jobs/a", {}),
        (calls.list_models(), "GET", "/v1/models", {}),
        (calls.get_limits(), "GET", "/v1/limits", {}),
    ],
)
def test_paths_and_parameters(call: Call[Any], method: str, path: str, params: dict[str, Any]) -> None:
    """Ids are quoted, and missing parameters are not sent."""
    assert (call.method, call.path, call.params) == (method, path, params)


def test_the_time_of_a_wait_is_added_to_the_clients_own() -> None:
    """The gateway was asked to hold the response back."""
    assert calls.get_job("a", 30).patience_s == 30
    assert calls.get_job("a").patience_s == 0


def test_an_extract_has_results_or_a_job() -> None:
    """A job that is still running is the whole body."""
    call = calls.extract_documents(["x"], None, {}, "key")
    running = parse(call, JOB)
    ended = parse(call, {"job": {**JOB, "status": "succeeded"}, "results": []})

    assert (running.job.status, running.results) == ("queued", None)
    assert (ended.job.status, ended.results) == ("succeeded", ())


def test_pages() -> None:
    """The last page has no cursor; an older gateway does not say whether it is complete."""
    results = calls.list_results("a", None, None, None)
    page = parse(results, {"data": [{"index": 0, "id": "0", "status": "failed"}], "next_cursor": "c"})
    jobs = parse(calls.list_jobs(None, None, None), {"data": [JOB]})

    assert (page.results[0].ok, page.next_cursor, page.complete) == (False, "c", True)
    assert not parse(results, {"data": [], "complete": False}).complete
    assert (jobs.items[0].id, jobs.next_cursor) == ("job_1", None)
    assert calls.delete_job("a").parse(httpx.Response(204)) is None
    assert [model.name for model in parse(calls.list_models(), {"data": [{"id": "m"}]})] == ["m"]
