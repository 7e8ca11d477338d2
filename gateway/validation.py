"""Collects the errors of a request, each with its JSON Pointer, and reports them as one error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pydantic import ValidationError

from gateway.errors import GatewayError

_MAX_POINTER_PART = 128
MAX_ERRORS = 20
"""Number of errors that are reported; a client that repeats one mistake 10,000 times learns from the first few."""

Pointer = tuple[str | int, ...]


class TooManyErrorsError(Exception):
    """`MAX_ERRORS` errors were collected; the search for more stops."""


class ValidationErrors:
    """Errors of one request; raises `TooManyErrorsError` at `MAX_ERRORS`."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, at: Pointer, detail: str) -> None:
        """Add an error at a location of the body.

        Raises:
            TooManyErrorsError: this was the last one that is reported.
        """
        self._entries.append((json_pointer(*at), detail))
        if len(self._entries) >= MAX_ERRORS:
            raise TooManyErrorsError

    def add_validation(self, error: ValidationError, value: Any, at: Pointer = ()) -> None:
        """Add the errors that pydantic found in `value`, which is at location `at` of the body."""
        for path, detail in locate_errors(error, value):
            self.add((*at, *path), detail)

    def pop_all(self) -> list[tuple[str, str]]:
        """Remove and return all errors as (JSON Pointer, detail)."""
        entries, self._entries = self._entries, []
        return entries

    def to_error(self) -> GatewayError:
        """Return all errors as one."""
        count = len(self._entries)
        if count == 1:
            where = self._entries[0][0] or "the body"
            detail = f"{where} {self._entries[0][1]}"
        else:
            detail = f"{'at least ' if count >= MAX_ERRORS else ''}{count} fields of the request are not valid"
        return GatewayError("validation_failed", detail, self._entries)


def json_pointer(*parts: str | int) -> str:
    """Return a JSON Pointer (RFC 6901); overlong parts are truncated for display."""
    return "".join("/" + _escape_part(part) for part in parts)


def _escape_part(part: str | int) -> str:
    text = str(part)
    if len(text) > _MAX_POINTER_PART:
        text = text[:_MAX_POINTER_PART] + "…"
    return text.replace("~", "~0").replace("/", "~1")


@contextmanager
def collect_errors() -> Iterator[ValidationErrors]:
    """Yield errors to add to; raise them as one error at the end of the block.

    Raises:
        GatewayError: validation_failed.
    """
    errors = ValidationErrors()
    try:
        yield errors
    except TooManyErrorsError:
        raise errors.to_error() from None
    if len(errors):
        raise errors.to_error()


def make_validation_error(error: ValidationError, value: Any) -> GatewayError:
    """Return the errors that pydantic found in a body as one error."""
    errors = ValidationErrors()
    with suppress(TooManyErrorsError):
        errors.add_validation(error, value)
    return errors.to_error()


def locate_errors(error: ValidationError, value: Any) -> list[tuple[Pointer, str]]:
    """Return (path, detail) of each error; of a union's branches only the errors of the closest one.

    pydantic's locations contain the names of union branches too; only the parts that lead into `value` are kept.
    """
    located: dict[Pointer, str] = {}
    mismatched: dict[Pointer, str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = _resolve_path(item["loc"], value, missing=item["type"] == "missing")
        errors = mismatched if item["type"].endswith("_type") else located
        errors.setdefault(path, _format_detail(item["type"], item["msg"]))
    for path, detail in mismatched.items():
        if path not in located and not any(_is_inside(other, path) for other in (*located, *mismatched)):
            located[path] = detail
    return list(located.items())


def _is_inside(path: Pointer, outer: Pointer) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _resolve_path(loc: Sequence[str | int], value: Any, *, missing: bool) -> Pointer:
    path: list[str | int] = []
    for part in loc:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif not (missing and part == loc[-1]):
            continue  # the name of a union's branch
        path.append(part)
    return tuple(path)


def _format_detail(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return "is not a known field"
    return message.removeprefix("Input ").removeprefix("Value error, ")
