"""Logging for every process: one JSON object per line, events as dotted names, context bound per task or request.

`log.info("shard.completed", extra={"documents": 32})`: the message is the event's name, all else is a key. No user
text, label or API key is ever logged: an exception is logged with its class and location, not with its message,
which may quote a text. The same is enforced for libraries.
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
_OWN_PACKAGES = ("gateway", "gleaner", "jobs", "worker", "tests", "__main__")
_MAX_FRAMES = 12
_MAX_MESSAGE = 300
_CHATTY = ("celery.worker.strategy", "celery.app.trace")
"""They log a line per message received and per message done; `shard.completed` has more than both."""
_context: ContextVar[dict[str, object] | None] = ContextVar("gleaner_log_context", default=None)


@contextmanager
def bind_fields(**fields: object) -> Iterator[None]:
    """Add fields (request_id, job_id, shard, trace_id) to every record of this block in this task or thread."""
    token = _context.set({**(_context.get() or {}), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def log_failure(log: logging.Logger, event: str, error: BaseException, **facts: object) -> None:
    """Log an error with its class and location, never with its message."""
    log.error(event, extra={**_error_fields(error), **facts})


def configure_logging(settings: Settings, service: str, **facts: object) -> None:
    """Send the records of this process and its libraries to stdout or a rotated file, in one format.

    Uncaught exceptions of all threads are logged in that format too.

    Args:
        settings: destination, format and level.
        service: the kind of process.
        facts: further fields of every record.
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
    handler.addFilter(_PrivacyFilter())
    handler.setFormatter(_FORMATTERS[settings.log_format]({"service": service, **facts}))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)
    _skip_unused_fields()
    for noisy in (*_CHATTY, "httpx", "httpcore", "urllib3", "filelock", "fsspec", "tornado.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _log_uncaught_errors()


def _skip_unused_fields() -> None:
    """Keep logging from computing fields that no line shows (the logging HOWTO's "Optimization")."""
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)
    logging._srcfile = None


class _PrivacyFilter(logging.Filter):
    """Removes everything from a record that may quote a text: exception messages, tracebacks, libraries' fields."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            for name, value in _error_fields(record.exc_info[1]).items():
                setattr(record, name, value)
        record.exc_info = record.exc_text = record.stack_info = None
        if record.name.partition(".")[0] not in _OWN_PACKAGES:
            self._strip_library_record(record)
        return True

    @staticmethod
    def _strip_library_record(record: logging.LogRecord) -> None:
        """Reduce a library's record to one line without exception messages and extra fields."""
        for name in set(vars(record)) - set(vars(logging.makeLogRecord({}))) - {"error", "where"}:
            delattr(record, name)
        if isinstance(record.args, Mapping):  # Celery's: the whole task with its error message and traceback
            hidden = dict.fromkeys({"exc", "traceback", "args", "kwargs"} & record.args.keys(), "")
            record.args = {**record.args, **hidden}
        elif isinstance(record.args, tuple):
            record.args = tuple(type(a).__name__ if isinstance(a, BaseException) else a for a in record.args)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # its arguments do not fit its template
            message = str(record.msg)
        lines = message.strip().splitlines()
        record.msg, record.args = (lines[0][:_MAX_MESSAGE].rstrip(" :") if lines else ""), None


_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: standard fields, then those of the event.

    Args:
        facts: fields of this process.
    """

    level_key = "level"

    def __init__(self, facts: Mapping[str, object]) -> None:
        super().__init__()
        self._facts = {**facts, **dict.fromkeys(_CONTEXT_KEYS)}

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "timestamp": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            self.level_key: record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **self._facts,
            **(_context.get() or {}),
            **_extra_fields(record),
        }
        try:
            return orjson.dumps(fields, default=str).decode()
        except TypeError:  # a lone surrogate in a file's name, a key that is not a string
            return json.dumps(fields, default=str)


class _GoogleFormatter(_JsonFormatter):
    """Names the level as Google's Cloud Logging does; it takes every other line for one of the level INFO."""

    level_key = "severity"


@lru_cache(4)
def _second(moment: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))


class _TextFormatter(logging.Formatter):
    """Formats a record for a terminal: the event, then its fields."""

    def __init__(self, facts: Mapping[str, object]) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {facts['service']} %(name)s: %(message)s")
        self._facts = {key: value for key, value in facts.items() if key != "service"}

    def format(self, record: logging.LogRecord) -> str:
        extra = _extra_fields(record)
        fields = {**extra, **self._facts, **(_context.get() or {}), **extra}  # the event's come first and win
        pairs = (f"{key}={value}" for key, value in fields.items() if value is not None)
        return " ".join((super().format(record), *pairs))


_FORMATTERS: Mapping[str, type[_JsonFormatter | _TextFormatter]] = {
    "json": _JsonFormatter,
    "google": _GoogleFormatter,
    "text": _TextFormatter,
}


def _extra_fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD_FIELDS}


def _error_fields(error: BaseException) -> dict[str, object]:
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-_MAX_FRAMES:]]
    return {"error": type(error).__name__, "where": where}


def _log_uncaught_errors() -> None:
    log = logging.getLogger(__name__)

    def log_process_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log_failure(log, "process.failed", error.with_traceback(trace))

    def log_thread_error(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            log_failure(log, "thread.failed", args.exc_value, in_thread=args.thread.name if args.thread else "")

    def log_unraisable(args: Any) -> None:
        if args.exc_value is not None:
            log_failure(log, "cleanup.failed", args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = log_process_error, log_thread_error, log_unraisable
