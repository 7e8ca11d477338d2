"""Reads a job that comes as lines: bytes in pieces of any size -> the head, then documents. Pure, constant memory.

First line: everything of a JSON body but `documents`. Each further line: one document. Blank lines are skipped, as
long as they are few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gateway.http.problems import Problem, pointer
from gateway.settings import GatewaySettings
from gateway.submission.characters import string_error
from gateway.submission.documents import NOT_A_LABEL, DocumentReader
from gateway.submission.json_text import (
    HEAD_COST,
    MAX_HEAD_BYTES,
    TOO_MANY_VALUES,
    TooManyValuesError,
    check_values,
    document_cost,
    load_json,
    too_many_documents,
)
from gateway.submission.parsing import HEAD_FIELDS, Head, document_limits, read_head
from gateway.submission.validation import MAX_ERRORS, EnoughError, ValidationErrors
from jobs.schema import Document, DocumentError, DocumentErrorCode, Options

MEDIA_TYPE = "application/x-ndjson"
OnBadLine = Literal["reject", "fail_document"]

_ESCAPED = 6
"""A character may come as six bytes (`\\u0041`)."""
_BESIDES_TEXT = 1 << 20
"""Room in a line for id, labels and options."""
_FREE_BLANKS = 1000
"""Blank lines that a body may have in addition to one for each document."""
_BLANKS = re.compile(rb"(?:[ \t\r\v\f]*+\n)++")
_BYTES_PER_DOCUMENT = 75
"""What is remembered of a document that was read: the hash of its id."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line by number, from 1; `content` is None where it is too long to be kept."""

    number: int
    content: bytes | None


class LineSplitter:
    """Cuts pieces of a stream at its line feeds, and keeps no more than one line of it.

    Args:
        longest: most bytes of a line; of a longer one only its number is told.

    Attributes:
        blanks: blank lines that were left out so far.
    """

    def __init__(self, longest: int) -> None:
        self.blanks = 0
        self._longest = longest
        self._begun = bytearray()
        self._too_long = False
        self._number = 0

    def feed(self, data: bytes) -> Iterator[Line]:
        """The lines that end in this piece."""
        at = 0
        while True:
            if not self._begun and not self._too_long and (blank := _BLANKS.match(data, at)) is not None:
                lines = data.count(b"\n", at, blank.end())
                self._number, self.blanks, at = self._number + lines, self.blanks + lines, blank.end()
            end = data.find(b"\n", at)
            if end < 0:
                break
            self._keep(data, at, end)
            yield self._end()
            at = end + 1
        self._keep(data, at, len(data))

    def buffered_bytes(self) -> int:
        """Return the bytes of the line that has begun."""
        return len(self._begun)

    def finish(self) -> Iterator[Line]:
        """The last line, if no line feed ended it."""
        if self._begun or self._too_long:
            yield self._end()

    def _keep(self, data: bytes, start: int, end: int) -> None:
        if self._too_long or len(self._begun) + end - start > self._longest:
            self._too_long = True
            self._begun.clear()
        else:
            self._begun += data[start:end]

    def _end(self) -> Line:
        self._number += 1
        line = Line(self._number, None if self._too_long else bytes(self._begun))
        self._begun.clear()
        self._too_long = False
        return line


class NdjsonReader:
    """Reads one job from its lines.

    Args:
        settings: models and limits.
        on_bad_line: whether a line that is no document rejects the job, or fails as a document of its own.

    Attributes:
        head: what the first line said; None before it was read.
        count: documents read so far.
    """

    def __init__(self, settings: GatewaySettings, on_bad_line: OnBadLine = "reject") -> None:
        self.head: Head | None = None
        self.count = 0
        self._settings = settings
        self._rejects = on_bad_line == "reject"
        self._lines = LineSplitter(settings.max_document_bytes * _ESCAPED + _BESIDES_TEXT)
        self._errors = ValidationErrors()
        self._documents = DocumentReader(document_limits(settings), {}, Options(), self._errors)
        self._ids: set[int] = set()
        self._head_line = 1

    def feed(self, data: bytes) -> list[Document]:
        """The documents of the lines that end in this piece of the body.

        Raises:
            Problem: malformed_json, validation_failed, unknown_model or too_many_documents; the line is told.
        """
        documents = [document for line in self._lines.feed(data) if (document := self._line(line)) is not None]
        self._check_blanks()
        return documents

    def memory_bytes(self) -> int:
        """Return about what is kept between two pieces (bytes)."""
        return self.line_bytes() + _BYTES_PER_DOCUMENT * len(self._ids)

    def line_bytes(self) -> int:
        """Return the bytes of the line that has begun."""
        return self._lines.buffered_bytes()

    def finish(self) -> list[Document]:
        """What the end of the body completes.

        Raises:
            Problem: as `feed`; or nothing to do came in.
        """
        documents = [document for line in self._lines.finish() if (document := self._line(line)) is not None]
        if self.head is None:
            raise Problem("malformed_json", "the body has no line")
        if not self.count:
            raise Problem("validation_failed", "the body has no document behind its first line")
        if unclaimed_pointers := self._documents.unclaimed_pointers():
            places = [(pointer("options", *place), NOT_A_LABEL) for place in unclaimed_pointers]
            raise _rejected(self._head_line, sorted(places)[:MAX_ERRORS])
        return documents

    def _line(self, line: Line) -> Document | None:
        if line.content is not None and not line.content.strip():
            self._lines.blanks += 1  # cut between two pieces, or without a line feed
            return None
        if self.head is None:
            self.head = self._read_head(line)
            return None
        if self.count >= self._settings.max_ndjson_documents:
            raise too_many_documents(self._settings.max_ndjson_documents)
        index, self.count = self.count, self.count + 1
        if line.content is None:
            detail = f"line {line.number} is too long for a text within {self._settings.max_document_bytes} bytes"
            return self._failed(index, DocumentError(DocumentErrorCode.DOCUMENT_TOO_LARGE, detail))
        return self._read_document(index, line.number, line.content)

    def _check_blanks(self) -> None:
        if self._lines.blanks > _FREE_BLANKS + self.count:
            raise Problem("validation_failed", f"the body has {self._lines.blanks} blank lines; leave them out")

    def _read_head(self, line: Line) -> Head:
        self._head_line = line.number
        if line.content is None or len(line.content) > MAX_HEAD_BYTES:
            raise _rejected(line.number, [("", f"is longer than {MAX_HEAD_BYTES} bytes")])
        content = _load(line.number, line.content, HEAD_COST)
        if not isinstance(content, dict):
            raise _rejected(line.number, [("", "must be a JSON object with the job's labels")])
        if "text" in content and not content.keys() & {"documents", "model", "options"}:
            detail = 'must be the job\'s head, such as {"labels": ["person"]}; documents follow, one per line'
            raise _rejected(line.number, [("", detail)])
        try:
            for name in content.keys() - HEAD_FIELDS:
                self._errors.add((name,), "is not a field of a job's first line")
            head = read_head(content, self._settings, self._errors)
        except EnoughError:
            raise _rejected(line.number, self._errors.take()) from None
        if len(self._errors):
            raise _rejected(line.number, self._errors.take())
        limits = document_limits(self._settings)
        self._documents = DocumentReader(limits, head.labels, head.options, self._errors)
        return head

    def _read_document(self, index: int, number: int, content: bytes) -> Document:
        try:
            item = _load(number, content, document_cost(self._settings.max_labels))
        except Problem as problem:
            if self._rejects:
                raise
            return self._failed(index, DocumentError(DocumentErrorCode.INVALID_DOCUMENT, problem.detail))
        document = self._checked(index, item)
        if document is not None and not len(self._errors):
            return document
        rejection = _rejected(number, self._errors.take())
        if self._rejects:
            raise rejection
        return self._failed(
            index, DocumentError(DocumentErrorCode.INVALID_DOCUMENT, rejection.detail), _id_of(item)
        )

    def _checked(self, index: int, item: Any) -> Document | None:
        document = None
        try:
            document = self._documents.read_document(index, item)
            if document is None:
                return None
            if document.labels is None and self.head is not None and not self.head.labels:
                self._errors.add(("labels",), "is required, for the first line has none")
            if hash(document.id) in self._ids:
                what = "is the id of an earlier document" if "id" in item else "is missing, and its index is taken"
                self._errors.add(("id",), what)
        except EnoughError:
            return None
        if not len(self._errors):
            # A hash is enough to tell ids apart (64 bits, seeded anew in every process) and needs little memory.
            self._ids.add(hash(document.id))
        return document

    def _failed(self, index: int, error: DocumentError, given_id: str | None = None) -> Document:
        """A line that is no document, as one that fails: by the id it gave, or by its index."""
        limit = self._settings.max_document_id_length
        usable = given_id is not None and string_error(given_id, limit) is None and hash(given_id) not in self._ids
        name = given_id if usable and given_id is not None else str(index)
        while hash(name) in self._ids:
            name = f"#{name}"
        self._ids.add(hash(name))
        return Document(index=index, id=name, text="", error=error)


def _id_of(item: Any) -> str | None:
    given = item.get("id") if isinstance(item, dict) else None
    return given if isinstance(given, str) else None


def _load(number: int, content: bytes, most_cost: int) -> Any:
    """Decode the line's JSON.

    Raises:
        Problem: malformed_json or validation_failed, with the line's number.
    """
    try:
        check_values(content, most_cost)
        return load_json(content)
    except TooManyValuesError:
        raise _rejected(number, [("", TOO_MANY_VALUES)]) from None
    except Problem as problem:
        detail = problem.detail.removeprefix("line 1 ").replace("the body is", "it is")
        raise Problem("malformed_json", f"line {number}: {detail}", [(f"line:{number}", detail)]) from None


def _rejected(number: int, errors: list[tuple[str, str]]) -> Problem:
    where = errors[0][0] if len(errors) == 1 else ""
    what = errors[0][1] if len(errors) == 1 else f"{len(errors)} places are not valid"
    detail = f"line {number}: {where} {what}" if where else f"line {number} {what}"
    return Problem("validation_failed", detail, [(f"line:{number}{place}", told) for place, told in errors])
