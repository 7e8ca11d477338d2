"""Parses an NDJSON job: chunks of bytes of any size -> the head, then documents. Pure, in constant memory.

First line: all fields of a JSON body except `documents`. Each further line: one document. Blank lines are skipped,
up to a limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gateway.characters import string_error
from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from gateway.submission.parsing.documents import NOT_A_LABEL, DocumentReader
from gateway.submission.parsing.job import HEAD_FIELDS, Head, read_head
from gateway.submission.parsing.json_text import (
    ESCAPED,
    HEAD_COST,
    MAX_HEAD_BYTES,
    TOO_MANY_VALUES,
    TooManyValuesError,
    check_values,
    document_cost,
    load_json,
    too_many_documents,
)
from gateway.validation import MAX_ERRORS, TooManyErrorsError, ValidationErrors, json_pointer
from jobs.schema import Document, DocumentError, DocumentErrorCode, Options

MEDIA_TYPE = "application/x-ndjson"
OnBadLine = Literal["reject", "fail_document"]

_EXTRA_LINE_BYTES = 1 << 20
"""Bytes of a line for id, labels and options."""
_FREE_BLANKS = 1000
"""Blank lines that a body may have in addition to one for each document."""
_BLANKS = re.compile(rb"(?:[ \t\r\v\f]*+\n)++")
_BYTES_PER_DOCUMENT = 75
"""Memory per document that was read: the hash of its id."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its number, from 1; `content` is None if it is longer than the limit."""

    number: int
    content: bytes | None


class LineSplitter:
    """Splits a stream at its line feeds; buffers at most one line.

    Args:
        max_bytes: longest line; a longer one is reported without its content.

    Attributes:
        blanks: number of blank lines skipped so far.
        buffer: the incomplete line.
    """

    def __init__(self, max_bytes: int) -> None:
        self.blanks = 0
        self._max_bytes = max_bytes
        self.buffer = bytearray()
        self._too_long = False
        self._number = 0

    def feed(self, data: bytes) -> Iterator[Line]:
        """Yield the lines that end in this chunk."""
        at = 0
        while True:
            if not self.buffer and not self._too_long and (blank := _BLANKS.match(data, at)) is not None:
                lines = data.count(b"\n", at, blank.end())
                self._number, self.blanks, at = self._number + lines, self.blanks + lines, blank.end()
            end = data.find(b"\n", at)
            if end < 0:
                break
            self._append(data, at, end)
            yield self._pop_line()
            at = end + 1
        self._append(data, at, len(data))

    def finish(self) -> Iterator[Line]:
        """Yield the last line, if no line feed ended it."""
        if self.buffer or self._too_long:
            yield self._pop_line()

    def _append(self, data: bytes, start: int, end: int) -> None:
        if self._too_long or len(self.buffer) + end - start > self._max_bytes:
            self._too_long = True
            self.buffer.clear()
        else:
            self.buffer += data[start:end]

    def _pop_line(self) -> Line:
        self._number += 1
        line = Line(self._number, None if self._too_long else bytes(self.buffer))
        self.buffer.clear()
        self._too_long = False
        return line


class NdjsonReader:
    """Parses one job from its lines.

    Args:
        settings: models and limits.
        on_bad_line: a line that is not a document rejects the job, or becomes a failed document.

    Attributes:
        head: the first line's fields; None before it was read.
        count: number of documents read so far.
    """

    def __init__(self, settings: GatewaySettings, on_bad_line: OnBadLine = "reject") -> None:
        self.head: Head | None = None
        self.count = 0
        self._settings = settings
        self._rejects_bad_lines = on_bad_line == "reject"
        self._lines = LineSplitter(settings.max_document_bytes * ESCAPED + _EXTRA_LINE_BYTES)
        self._errors = ValidationErrors()
        self._documents = DocumentReader(settings, {}, Options(), self._errors)
        self._ids: set[int] = set()
        self._head_line = 1

    def feed(self, data: bytes) -> list[Document]:
        """Return the documents of the lines that end in this chunk of the body.

        Raises:
            GatewayError: malformed_json, validation_failed, unknown_model or too_many_documents, with the line's
                number.
        """
        documents = [document for line in self._lines.feed(data) if (document := self._read_line(line)) is not None]
        self._check_blanks()
        return documents

    def memory_bytes(self) -> int:
        """Return the approximate memory needed between two chunks (bytes)."""
        return self.line_bytes() + _BYTES_PER_DOCUMENT * len(self._ids)

    def line_bytes(self) -> int:
        """Return the size of the incomplete line (bytes)."""
        return len(self._lines.buffer)

    def finish(self) -> list[Document]:
        """Return the documents that the end of the body completes.

        Raises:
            GatewayError: as `feed`; also for a body without documents.
        """
        documents = [document for line in self._lines.finish() if (document := self._read_line(line)) is not None]
        if self.head is None:
            raise GatewayError("malformed_json", "the body is empty")
        if not self.count:
            raise GatewayError("validation_failed", "the body has no document after its first line")
        if unclaimed := self._documents.unclaimed_pointers():
            errors = [(json_pointer("options", *path), NOT_A_LABEL) for path in unclaimed]
            raise _line_error(self._head_line, sorted(errors)[:MAX_ERRORS])
        return documents

    def _read_line(self, line: Line) -> Document | None:
        if line.content is not None and not line.content.strip():
            self._lines.blanks += 1  # split between two chunks, or without a line feed
            return None
        if self.head is None:
            self.head = self._read_head(line)
            return None
        if self.count >= self._settings.max_ndjson_documents:
            raise too_many_documents(self._settings.max_ndjson_documents)
        index, self.count = self.count, self.count + 1
        if line.content is None:
            detail = f"line {line.number} is longer than a text of {self._settings.max_document_bytes} bytes can be"
            return self._failed_document(index, DocumentError(DocumentErrorCode.DOCUMENT_TOO_LARGE, detail))
        return self._read_document(index, line.number, line.content)

    def _check_blanks(self) -> None:
        if self._lines.blanks > _FREE_BLANKS + self.count:
            raise GatewayError("validation_failed", f"the body has {self._lines.blanks} blank lines; remove them")

    def _read_head(self, line: Line) -> Head:
        self._head_line = line.number
        if line.content is None or len(line.content) > MAX_HEAD_BYTES:
            raise _line_error(line.number, [("", f"is longer than {MAX_HEAD_BYTES} bytes")])
        content = _load_line(line.number, line.content, HEAD_COST)
        if not isinstance(content, dict):
            raise _line_error(line.number, [("", "must be a JSON object with the job's labels")])
        if "text" in content and not content.keys() & {"documents", "model", "options"}:
            detail = 'must contain the job\'s labels, as {"labels": ["person"]}; documents follow, one per line'
            raise _line_error(line.number, [("", detail)])
        try:
            for name in content.keys() - HEAD_FIELDS:
                self._errors.add((name,), "is not a field of a job's first line")
            head = read_head(content, self._settings, self._errors)
        except TooManyErrorsError:
            raise _line_error(line.number, self._errors.pop_all()) from None
        if len(self._errors):
            raise _line_error(line.number, self._errors.pop_all())
        self._documents = DocumentReader(self._settings, head.labels, head.options, self._errors)
        return head

    def _read_document(self, index: int, number: int, content: bytes) -> Document:
        try:
            item = _load_line(number, content, document_cost(self._settings.max_labels))
        except GatewayError as error:
            if self._rejects_bad_lines:
                raise
            return self._failed_document(index, DocumentError(DocumentErrorCode.INVALID_DOCUMENT, error.detail))
        document = self._check_document(index, item)
        if document is not None and not len(self._errors):
            return document
        rejection = _line_error(number, self._errors.pop_all())
        if self._rejects_bad_lines:
            raise rejection
        return self._failed_document(
            index, DocumentError(DocumentErrorCode.INVALID_DOCUMENT, rejection.detail), _read_id(item)
        )

    def _check_document(self, index: int, item: Any) -> Document | None:
        document = None
        try:
            document = self._documents.read_document(index, item)
            if document is None:
                return None
            if document.labels is None and self.head is not None and not self.head.labels:
                self._errors.add(("labels",), "is required, because the first line has none")
            if hash(document.id) in self._ids:
                detail = "is the id of an earlier document" if "id" in item else "is required, its index is taken"
                self._errors.add(("id",), detail)
        except TooManyErrorsError:
            return None
        if not len(self._errors):
            # Hashes distinguish ids (64 bits, with a random seed per process) and need little memory.
            self._ids.add(hash(document.id))
        return document

    def _failed_document(self, index: int, error: DocumentError, given_id: str | None = None) -> Document:
        """Return a failed document for a line that is not a document, with the line's id or the index as id."""
        limit = self._settings.max_document_id_length
        usable = given_id is not None and string_error(given_id, limit) is None and hash(given_id) not in self._ids
        name = given_id if usable and given_id is not None else str(index)
        while hash(name) in self._ids:
            name = f"#{name}"
        self._ids.add(hash(name))
        return Document(index=index, id=name, text="", error=error)


def _read_id(item: Any) -> str | None:
    document_id = item.get("id") if isinstance(item, dict) else None
    return document_id if isinstance(document_id, str) else None


def _load_line(number: int, content: bytes, max_cost: int) -> Any:
    """Decode the line's JSON.

    Raises:
        GatewayError: malformed_json or validation_failed, with the line's number.
    """
    try:
        check_values(content, max_cost)
        return load_json(content)
    except TooManyValuesError:
        raise _line_error(number, [("", TOO_MANY_VALUES)]) from None
    except GatewayError as error:
        detail = error.detail.removeprefix("line 1 ").replace("the body is", "it is")
        raise GatewayError("malformed_json", f"line {number}: {detail}", [(f"line:{number}", detail)]) from None


def _line_error(number: int, errors: list[tuple[str, str]]) -> GatewayError:
    where = errors[0][0] if len(errors) == 1 else ""
    message = errors[0][1] if len(errors) == 1 else f"{len(errors)} fields are not valid"
    detail = f"line {number}: {where} {message}" if where else f"line {number} {message}"
    return GatewayError("validation_failed", detail, [(f"line:{number}{path}", error) for path, error in errors])
