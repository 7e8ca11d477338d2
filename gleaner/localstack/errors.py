"""Why a local stack is not running, in words for the person who started it.

::

    StackError
    ├── MissingExtra       a package of the `all` extra is not installed
    ├── AlreadyRunning     another stack uses the data directory
    ├── PortInUse          something listens where the gateway should
    ├── ServerUnreachable  `--redis-url` answers nothing
    ├── StartFailed        a child died or was not ready in time; ends with its last log lines
    └── Interrupted        asked to stop while starting
"""
# ruff: noqa: N818 - each is named after what happened

from __future__ import annotations


class StackError(Exception):
    """Base of what the local stack raises; `str()` says what to do."""


class MissingExtra(StackError):
    """A package of the `all` extra is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"the local stack needs {package}: pip install 'gleaner-ner[all]'")


class AlreadyRunning(StackError):
    """Another stack uses the data directory."""


class PortInUse(StackError):
    """Something listens where the gateway should."""


class ServerUnreachable(StackError):
    """The server named by `--redis-url` answers nothing."""


class StartFailed(StackError):
    """A child died or was not ready in time."""


class Interrupted(StackError):
    """Asked to stop while starting."""
