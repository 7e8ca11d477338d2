"""`client.label_sets`: the requests of its methods, and responses as values; both clients send the same."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from gleaner import AsyncClient, Client, LabelSet, ServerError

BODY = {
    "name": "drugs",
    "version": 3,
    "versions": [2, 3],
    "size": 2,
    "created_at": "2026-01-02T03:04:05Z",
    "labels": {"drug": "a medicine", "dose": None},
}
EXPECTED = LabelSet("drugs", 3, (2, 3), 2, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), BODY["labels"])  # type: ignore[arg-type]


def call_both(answer: Any, method: str, *arguments: Any) -> tuple[Any, tuple[str, str, Any]]:
    """Call a method of both clients; return the value and the request, which must be the same."""
    requests: list[tuple[str, str, Any]] = []

    def respond(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        requests.append((request.method, request.url.raw_path.decode(), body))
        return httpx.Response(200, json=answer)

    async def run() -> Any:
        async with AsyncClient("http://g", transport=httpx.MockTransport(respond)) as client:
            return await getattr(client.label_sets, method)(*arguments)

    with Client("http://g", transport=httpx.MockTransport(respond)) as client:
        value = getattr(client.label_sets, method)(*arguments)
    assert value == asyncio.run(run())
    first, second = requests
    assert first == second
    return value, first


@pytest.mark.parametrize(
    ("labels", "sent"),
    [
        (("drug", "dose"), ["drug", "dose"]),
        ({"drug": "a medicine", "dose": None}, {"drug": "a medicine", "dose": None}),
    ],
)
def test_labels_are_stored_as_they_are(labels: Any, sent: Any) -> None:
    """A name is a part of the path, whatever its characters."""
    value, request = call_both({**BODY, "object": "label_set"}, "put", "a/b", labels)
    assert (value, value.reference) == (EXPECTED, "drugs@3")
    assert request == ("PUT", "/v1/label-sets/a%2Fb", {"labels": sent})


@pytest.mark.parametrize(("arguments", "query"), [(("drugs",), ""), (("drugs", 3), "?version=3")])
def test_a_version_is_read(arguments: tuple[Any, ...], query: str) -> None:
    """By default the latest."""
    assert call_both(BODY, "get", *arguments) == (EXPECTED, ("GET", f"/v1/label-sets/drugs{query}", None))


def test_label_sets_are_listed_and_deleted() -> None:
    """A list has no labels."""
    listed = {name: value for name, value in BODY.items() if name != "labels"}
    [value], request = call_both({"data": [listed], "next_cursor": None}, "list")
    assert (value.name, value.labels, request) == ("drugs", None, ("GET", "/v1/label-sets", None))
    assert call_both({}, "delete", "drugs") == (None, ("DELETE", "/v1/label-sets/drugs", None))


def test_what_is_not_labels_is_not_sent() -> None:
    """A string would become labels of one letter each."""
    with Client("http://g", transport=httpx.MockTransport(lambda _: httpx.Response(500))) as client:
        with pytest.raises(TypeError, match="one string"):
            client.label_sets.put("drugs", "drug")
        with pytest.raises(ServerError):
            client.label_sets.put("drugs", ["drug"])
