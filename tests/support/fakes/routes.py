"""Calls route functions with the objects that a test gives them, without an app."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

from fastapi import Request
from starlette.types import Message

from gateway.access import Caller
from gateway.errors import GatewayError
from gateway.routes.dependencies import Services


def make_services(**parts: Any) -> Services:
    """Return services of which only these may be used."""
    return Services(**{field.name: None for field in fields(Services)} | parts)


def make_http_request(
    method: str = "GET",
    path: str = "/",
    headers: Mapping[str, str] | None = None,
    query: str = "",
    body: bytes = b"",
) -> Request:
    """Return a request whose client stays connected."""
    messages: list[Message] = [{"type": "http.request", "body": body}]

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()  # type: ignore[return-value]  # never: the client stays

    scope = {
        "type": "http", "method": method, "path": path, "scheme": "http", "server": ("gateway", 80),
        "client": ("192.0.2.1", 1), "query_string": query.encode(), "app": SimpleNamespace(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }  # fmt: skip
    return Request(scope, receive)


class FakeBarrier:
    """Counts the confirmations of writes."""

    append_only = True

    def __init__(self) -> None:
        self.confirmed = 0

    async def confirm_writes(self, created: str = "") -> None:  # the form of the real one
        """Confirm at once."""
        self.confirmed += 1


class FakeJobs:
    """Stands in for `JobReader`: every read returns the next reply, an exception is raised."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.reads: list[str] = []

    async def get_job(self, _caller: Caller, _job_id: str) -> Any:
        """Return the job."""
        return self._reply("get_job")

    async def wait_for_end(self, _caller: Caller, _job_id: str, _seconds: float) -> Any:
        """Return the job at its end."""
        return self._reply("wait_for_end")

    async def wait_for_page(self, _caller: Caller, _job_id: str, _seconds: float, _watch: object) -> Any:
        """Return the job at its end, with its first results."""
        return self._reply("wait_for_page")

    def _reply(self, name: str) -> Any:
        self.reads.append(name)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


class FullStreams:
    """Stands in for `Streams` whose limit is reached."""

    def hold_slot(self, _caller: Caller) -> Any:
        """Refuse another stream."""
        raise GatewayError("rate_limited", "too many streams")
