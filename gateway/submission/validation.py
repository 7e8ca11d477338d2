"""Notes what is wrong with a request, place by place, and turns it into one problem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pydantic import ValidationError

from gateway.http.problems import Problem, pointer

MAX_ERRORS = 20
"""The first so many places are told; a client that sends the same mistake 10,000 times learns from these."""

Pointer = tuple[str | int, ...]


class EnoughError(Exception):
    """So many faults that looking on helps nobody."""


class ValidationErrors:
    """What is wrong with one request; raises `EnoughError` when `MAX_ERRORS` are noted."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, at: Pointer, detail: str) -> None:
        """Note a fault at a place of the body.

        Raises:
            EnoughError: it was the last that is told.
        """
        self._found.append((pointer(*at), detail))
        if len(self._found) >= MAX_ERRORS:
            raise EnoughError

    def add_validation(self, error: ValidationError, value: Any, at: Pointer = ()) -> None:
        """Note what pydantic found in `value`, which stands at `at` of the body."""
        for place, detail in locate_errors(error, value):
            self.add((*at, *place), detail)

    def take(self) -> list[tuple[str, str]]:
        """(JSON Pointer, what is wrong there) of all that was noted; forgotten here."""
        found, self._found = self._found, []
        return found

    def problem(self) -> Problem:
        """All that was noted, as one problem."""
        count = len(self._found)
        if count == 1:
            where = self._found[0][0] or "the body"
            detail = f"{where} {self._found[0][1]}"
        else:
            detail = f"{'at least ' if count >= MAX_ERRORS else ''}{count} places of the request are not valid"
        return Problem("validation_failed", detail, self._found)


@contextmanager
def collect_errors() -> Iterator[ValidationErrors]:
    """Faults to note in the block; its end raises them all as one problem.

    Raises:
        Problem: validation_failed.
    """
    errors = ValidationErrors()
    try:
        yield errors
    except EnoughError:
        raise errors.problem() from None
    if len(errors):
        raise errors.problem()


def validation_problem(error: ValidationError, value: Any) -> Problem:
    """What pydantic found in a body, as one problem."""
    errors = ValidationErrors()
    with suppress(EnoughError):
        errors.add_validation(error, value)
    return errors.problem()


def locate_errors(error: ValidationError, value: Any) -> list[tuple[Pointer, str]]:
    """(place, what is wrong) of each error; of a union's branches only the one that came nearest.

    pydantic's locations name the branches of a union too; only what leads into `value` is kept.
    """
    found: dict[Pointer, str] = {}
    mismatched: dict[Pointer, str] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        place = _place(item["loc"], value, missing=item["type"] == "missing")
        kept = mismatched if item["type"].endswith("_type") else found
        kept.setdefault(place, _sentence(item["type"], item["msg"]))
    for place, detail in mismatched.items():
        if place not in found and not any(_inside(other, place) for other in (*found, *mismatched)):
            found[place] = detail
    return list(found.items())


def _inside(place: Pointer, outer: Pointer) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _place(loc: Sequence[str | int], value: Any, *, missing: bool) -> Pointer:
    place: list[str | int] = []
    for part in loc:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif not (missing and part == loc[-1]):
            continue  # the name of a union's branch
        place.append(part)
    return tuple(place)


def _sentence(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return "is not a known field"
    return message.removeprefix("Input ").removeprefix("Value error, ")
