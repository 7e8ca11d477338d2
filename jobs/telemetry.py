"""Logging for every process: one JSON object a line, events as dotted names, context bound per task or request.

`log.info("shard.completed", extra={"documents": 32})`: the message is the event's name, all else is a key. No text
of a user, no label and no key is ever logged.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

from jobs.settings import Settings

_CONTEXT_KEYS = ("request_id", "trace_id", "job_id", "shard")
_context: ContextVar[dict[str, object] | None] = ContextVar("gleaner_log_context", default=None)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Give every record of this block, in this task or thread, the fields (request_id, job_id, shard, trace_id)."""
    token = _context.set({**(_context.get() or {}), **fields})
    try:
        yield
    finally:
        _context.reset(token)


class _Context(logging.Filter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def filter(self, record: logging.LogRecord) -> bool:
        record.service = self._service
        for key in _CONTEXT_KEYS:
            if not hasattr(record, key):
                setattr(record, key, (_context.get() or {}).get(key))
        return True


def configure(settings: Settings, service: str) -> None:
    """Send this process's records, and those of its libraries, to stderr in one shape."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Context(service))
    if settings.log_format == "json":
        handler.setFormatter(
            JsonFormatter(
                "%(asctime)s %(levelname)s %(name)s %(message)s %(service)s "
                "%(request_id)s %(trace_id)s %(job_id)s %(shard)s",
                rename_fields={"asctime": "timestamp", "levelname": "level", "message": "event", "name": "logger"},
                datefmt="%Y-%m-%dT%H:%M:%S%z",
            )
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(service)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)
    for noisy in ("httpx", "httpcore", "urllib3", "filelock", "fsspec"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
