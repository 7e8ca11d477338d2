"""Reasons why a local stack is not running, with messages for the person who started it.

::

    StackError
    ├── MissingExtra       a package of the `all` extra is not installed
    ├── AlreadyRunning     another stack uses the data directory
    ├── PortInUse          another process listens on the gateway's port
    ├── ServerUnreachable  the server of `--redis-url` does not respond
    ├── StartFailed        a child exited or was not ready in time; the message ends with its last log lines
    └── Interrupted        the user stopped the start
"""
# ruff: noqa: N818 - each is named after the event

from __future__ import annotations


class StackError(Exception):
    """Base of the local stack's exceptions; `str()` says how to fix the problem."""


class MissingExtra(StackError):
    """A package of the `all` extra is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"the local stack requires {package}: pip install 'gleaner-ner[all]'")


class AlreadyRunning(StackError):
    """Another stack uses the data directory."""


class PortInUse(StackError):
    """Another process listens on the gateway's port."""


class ServerUnreachable(StackError):
    """The server of `--redis-url` does not respond."""


class StartFailed(StackError):
    """A child exited or was not ready in time."""


class Interrupted(StackError):
    """The user stopped the start."""
