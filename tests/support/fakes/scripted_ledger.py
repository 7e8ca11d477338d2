"""A ledger that answers as a test says, for units above it."""

from __future__ import annotations

from typing import Any, TypeVar

from jobs.ledger import AsyncLedger, Call, Ledger

T = TypeVar("T")


class Script:
    """The replies of a ledger, by the name of the script.

    Args:
        replies: parsed values; an exception is raised, a list is used up in order.

    Attributes:
        calls: the calls so far, in order.
    """

    def __init__(self, replies: dict[str, Any]) -> None:
        self.calls: list[Call[Any]] = []
        self._replies = replies

    @property
    def names(self) -> list[str]:
        """Names of the scripts called so far, in order."""
        return [call.script for call in self.calls]

    def reply(self, call: Call[Any]) -> Any:
        """Return or raise the reply of a call."""
        self.calls.append(call)
        reply = self._replies[call.script]
        if isinstance(reply, list):
            reply = reply.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


class ScriptedLedger(AsyncLedger):
    """Answers from the event loop: `ScriptedLedger(read_job=job)`."""

    def __init__(self, **replies: Any) -> None:
        self.script = Script(replies)

    async def run(self, call: Call[T]) -> T:
        """Return the scripted reply."""
        reply: T = self.script.reply(call)
        return reply


class ScriptedThreadLedger(Ledger):
    """Answers threads: `ScriptedThreadLedger(claim_delivery=claim)`."""

    def __init__(self, **replies: Any) -> None:
        self.script = Script(replies)

    def run(self, call: Call[T]) -> T:
        """Return the scripted reply."""
        reply: T = self.script.reply(call)
        return reply
