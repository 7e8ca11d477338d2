"""Logging for every process: one JSON object a line, events as dotted names, context bound per task or request.

`log.info("shard.completed", extra={"documents": 32})`: the message is the event's name, all else is a key. No text
of a user, no label and no key is ever logged: an exception is told by its class and place, never by its message,
which may quote a text. That holds for libraries too, whatever they log.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from logging.handlers import RotatingFileHandler
from types import TracebackType
from typing import Any

import orjson

from jobs.settings import Settings

_CONTEXT_KEYS = ("request_id", "trace_id", "job_id", "shard")
_HOUSE = ("gateway", "gleaner", "jobs", "worker", "tests", "__main__")
_FRAMES = 12
_MESSAGE = 300
_CHATTY = ("celery.worker.strategy", "celery.app.trace")
"""A line for each message that comes and one for each that is done; `shard.completed` says more than both."""
_context: ContextVar[dict[str, object] | None] = ContextVar("gleaner_log_context", default=None)


@contextmanager
def bind_fields(**fields: object) -> Iterator[None]:
    """Give every record of this block, in this task or thread, the fields (request_id, job_id, shard, trace_id)."""
    token = _context.set({**(_context.get() or {}), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def log_failure(log: logging.Logger, event: str, error: BaseException, **facts: object) -> None:
    """Log an error by its class and where it was raised; never by its message."""
    log.error(event, extra={**_told(error), **facts})


def configure_logging(settings: Settings, service: str, **facts: object) -> None:
    """Send this process's records, and those of its libraries, to stdout or a rotated file in one shape.

    What nobody caught is logged in that shape too, in whatever thread it was.

    Args:
        settings: where to, how, and from which level on.
        service: the kind of process.
        facts: more that every record is to say.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stdout)
    if settings.log_file:
        handler = RotatingFileHandler(
            settings.log_file,
            maxBytes=settings.log_file_bytes,
            backupCount=settings.log_file_backups,
            encoding="utf-8",
            delay=True,
        )
    handler.addFilter(_Discreet())
    handler.setFormatter((_Json if settings.log_format == "json" else _Plain)({"service": service, **facts}))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)
    _spare()
    for noisy in (*_CHATTY, "httpx", "httpcore", "urllib3", "filelock", "fsspec", "tornado.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _catch_the_rest()


def _spare() -> None:
    """Keep logging from finding out for each record what no line tells (the logging HOWTO's "Optimization")."""
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)
    logging._srcfile = None


class _Discreet(logging.Filter):
    """Takes out of a record what may quote a text: exceptions' messages, tracebacks, what libraries attach."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            for name, value in _told(record.exc_info[1]).items():
                setattr(record, name, value)
        record.exc_info = record.exc_text = record.stack_info = None
        if record.name.partition(".")[0] not in _HOUSE:
            self._tame(record)
        return True

    @staticmethod
    def _tame(record: logging.LogRecord) -> None:
        """A library's record: its message without what exceptions say, one line; no fields of its own."""
        known = set(vars(logging.makeLogRecord({}))) | {"error", "where"}
        for name in set(vars(record)) - known:
            delattr(record, name)
        if isinstance(record.args, Mapping):  # Celery's: the whole task, its error's words and traceback with it
            kept = {"exc": "", "traceback": "", "args": "", "kwargs": ""}
            record.args = {**record.args, **{name: "" for name in kept if name in record.args}}
        elif isinstance(record.args, tuple):
            record.args = tuple(type(a).__name__ if isinstance(a, BaseException) else a for a in record.args)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # its arguments do not fit its template
            message = str(record.msg)
        lines = message.strip().splitlines()
        record.msg, record.args = (lines[0][:_MESSAGE].rstrip(" :") if lines else ""), None


_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _Json(logging.Formatter):
    """One JSON object: what every record has, then what the event adds.

    Args:
        facts: of this process.
    """

    def __init__(self, facts: Mapping[str, object]) -> None:
        super().__init__()
        self._facts = {**facts, **dict.fromkeys(_CONTEXT_KEYS)}

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "timestamp": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **self._facts,
            **(_context.get() or {}),
            **_added(record),
        }
        try:
            return orjson.dumps(told, default=str).decode()
        except TypeError:  # half a character of a file's name, a key that is no string
            return json.dumps(told, default=str)


@lru_cache(4)
def _second(moment: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))


class _Plain(logging.Formatter):
    """For a terminal: the event, then what a person wants to know of it."""

    def __init__(self, facts: Mapping[str, object]) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {facts['service']} %(name)s: %(message)s")
        self._facts = {key: value for key, value in facts.items() if key != "service"}

    def format(self, record: logging.LogRecord) -> str:
        added = _added(record)
        facts = {**added, **self._facts, **(_context.get() or {}), **added}  # it comes first, and it wins
        told = (f"{key}={value}" for key, value in facts.items() if value is not None)
        return " ".join((super().format(record), *told))


def _added(record: logging.LogRecord) -> dict[str, object]:
    """What the event adds to what every record has."""
    return {key: value for key, value in vars(record).items() if key not in _OWN}


def _told(error: BaseException) -> dict[str, object]:
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-_FRAMES:]]
    return {"error": type(error).__name__, "where": where}


def _catch_the_rest() -> None:
    log = logging.getLogger(__name__)

    def of_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log_failure(log, "process.failed", error.with_traceback(trace))

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            log_failure(log, "thread.failed", args.exc_value, in_thread=args.thread.name if args.thread else "")

    def unraisable(args: Any) -> None:
        if args.exc_value is not None:
            log_failure(log, "cleanup.failed", args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = of_process, of_thread, unraisable
