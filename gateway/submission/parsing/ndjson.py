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
from gateway.label_sets import LabelSet, Reference, parse_reference
from gateway.submission.parsing.documents import DocumentReader
from gateway.submission.parsing.job import HEAD_FIELDS, Head, read_head, read_model
from gateway.submission.parsing.json_text import (
    ESCAPED,
    MAX_HEAD_BYTES,
    TOO_MANY_VALUES,
    TooManyValuesError,
    check_values,
    head_cost,
    load_json,
    too_many_documents,
)
from gateway.submission.parsing.models import ModelRules, TenantModels
from gateway.submission.parsing.tasks import NOT_A_LABEL, TaskParser
from gateway.validation import MAX_ERRORS, TooManyErrorsError, ValidationErrors, json_pointer
from jobs.schema import Document, DocumentError, DocumentErrorCode

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


@dataclass(frozen=True, slots=True)
class _FirstLine:
    """The first line that is not blank, and what it means for the others."""

    number: int
    head: Head
    rules: ModelRules
    documents: DocumentReader


class NdjsonReader:
    """Parses one job from its lines.

    Args:
        models: the tenant's models, and the limits.
        on_bad_line: a line that is not a document rejects the job, or becomes a failed document.

    Attributes:
        count: number of documents read so far.
        missing_label_set: label set that the first line names; nothing more is read before `use_label_set`.
    """

    def __init__(self, models: TenantModels, on_bad_line: OnBadLine = "reject") -> None:
        self.count = 0
        self.missing_label_set: Reference | None = None
        self._models = models
        self._settings = models.settings
        self._max_cost = models.document_cost
        self._rejects_bad_lines = on_bad_line == "reject"
        self._lines = LineSplitter(self._settings.max_document_bytes * ESCAPED + _EXTRA_LINE_BYTES)
        self._errors = ValidationErrors()
        self._head_line: tuple[int, dict[str, Any]] = (1, {})
        self._first: _FirstLine | None = None
        self._rest: Iterator[Line] = iter(())
        self._label_bytes = 0
        self._ids: set[int] = set()

    @property
    def head(self) -> Head | None:
        """The first line's fields; None before it was read."""
        return None if self._first is None else self._first.head

    def feed(self, data: bytes) -> list[Document]:
        """Return the documents of the lines that end in this chunk of the body.

        Raises:
            GatewayError: malformed_json, validation_failed, unknown_model or too_many_documents, with the line's
                number.
        """
        return self._read_lines(self._lines.feed(data))

    def use_label_set(self, label_set: LabelSet) -> list[Document]:
        """Return the documents that wait for the label set that the first line names.

        Raises:
            GatewayError: as `feed`.
        """
        self.missing_label_set, self._label_bytes = None, len(label_set.labels_json)
        self._first = self._check_first(label_set)
        return self._read_lines(self._rest)

    def memory_bytes(self) -> int:
        """Return the approximate memory needed between two chunks (bytes)."""
        return self.line_bytes() + self._label_bytes + _BYTES_PER_DOCUMENT * len(self._ids)

    def line_bytes(self) -> int:
        """Return the size of the incomplete line (bytes)."""
        return len(self._lines.buffer)

    def finish(self) -> list[Document]:
        """Return the documents that the end of the body completes.

        Raises:
            GatewayError: as `feed`; also for a body without documents.
        """
        documents = self._read_lines(self._lines.finish())
        if self._first is None and self.missing_label_set is None:
            raise GatewayError("malformed_json", "the body is empty")
        if self._first is None or not self.count:
            raise GatewayError("validation_failed", "the body has no document after its first line")
        if unclaimed := self._first.documents.unclaimed_pointers():
            errors = [(json_pointer(*path), NOT_A_LABEL) for path in unclaimed]
            raise _line_error(self._first.number, sorted(errors)[:MAX_ERRORS])
        return documents

    def _read_lines(self, lines: Iterator[Line]) -> list[Document]:
        documents = []
        for line in lines:
            if (document := self._read_line(line)) is not None:
                documents.append(document)
            elif self.missing_label_set is not None:
                self._rest = lines
                break
        self._check_blanks()
        return documents

    def _read_line(self, line: Line) -> Document | None:
        if line.content is not None and not line.content.strip():
            self._lines.blanks += 1  # split between two chunks, or without a line feed
            return None
        if self._first is None:
            self._read_first(line)
            return None
        if self.count >= self._settings.max_ndjson_documents:
            raise too_many_documents(self._settings.max_ndjson_documents)
        index, self.count = self.count, self.count + 1
        if line.content is None:
            detail = f"line {line.number} is longer than a text of {self._settings.max_document_bytes} bytes can be"
            return self._failed_document(index, DocumentError(DocumentErrorCode.DOCUMENT_TOO_LARGE, detail))
        return self._read_document(self._first, index, line.number, line.content)

    def _check_blanks(self) -> None:
        if self._lines.blanks > _FREE_BLANKS + self.count:
            raise GatewayError("validation_failed", f"the body has {self._lines.blanks} blank lines; remove them")

    def _read_first(self, line: Line) -> None:
        if line.content is None or len(line.content) > MAX_HEAD_BYTES:
            raise _line_error(line.number, [("", f"is longer than {MAX_HEAD_BYTES} bytes")])
        content = _load_line(line.number, line.content, head_cost(self._max_cost))
        if not isinstance(content, dict):
            raise _line_error(line.number, [("", "must be a JSON object with the job's labels")])
        if "text" in content and not content.keys() & {"documents", "model", "options"}:
            detail = 'must contain the job\'s labels, as {"labels": ["person"]}; documents follow, one per line'
            raise _line_error(line.number, [("", detail)])
        self._head_line = (line.number, content)
        self.missing_label_set = parse_reference(content.get("label_set"))
        if self.missing_label_set is None:
            self._first = self._check_first()

    def _check_first(self, label_set: LabelSet | None = None) -> _FirstLine:
        number, content = self._head_line
        try:
            for name in content.keys() - HEAD_FIELDS:
                self._errors.add((name,), "is not a field of a job's first line")
            rules = read_model(content, self._models, self._errors)
            parser = TaskParser(self._settings, rules.max_labels, self._errors)
            head = read_head(content, rules, parser, label_set=label_set)
        except TooManyErrorsError:
            raise _line_error(number, self._errors.pop_all()) from None
        if len(self._errors):
            raise _line_error(number, self._errors.pop_all())
        if unsupported := rules.list_unsupported(head.tasks):
            raise _at_line(number, rules.unsupported_error(unsupported))
        return _FirstLine(number, head, rules, DocumentReader(parser, head.tasks, head.options))

    def _read_document(self, first: _FirstLine, index: int, number: int, content: bytes) -> Document:
        try:
            item = _load_line(number, content, self._max_cost)
        except GatewayError as error:
            if self._rejects_bad_lines:
                raise
            return self._failed_document(index, DocumentError(DocumentErrorCode.INVALID_DOCUMENT, error.detail))
        document = self._check_document(first.documents, index, item)
        if document is not None and not len(self._errors):
            return self._refuse_unsupported(first.rules, document, number)
        rejection = _line_error(number, self._errors.pop_all())
        if self._rejects_bad_lines:
            raise rejection
        return self._failed_document(
            index, DocumentError(DocumentErrorCode.INVALID_DOCUMENT, rejection.detail), _read_id(item)
        )

    def _refuse_unsupported(self, rules: ModelRules, document: Document, number: int) -> Document:
        """Return the document, or a failed one if it asks what the model cannot do."""
        unsupported = rules.list_unsupported(document)
        if not unsupported:
            return document
        rejection = _at_line(number, rules.unsupported_error(unsupported))
        if self._rejects_bad_lines:
            raise rejection
        error = DocumentError(DocumentErrorCode.UNSUPPORTED_TASK, rejection.detail)
        return Document(index=document.index, id=document.id, text="", error=error)

    def _check_document(self, documents: DocumentReader, index: int, item: Any) -> Document | None:
        document = None
        try:
            document = documents.read_document(index, item)
            if document is None:
                return None
            if documents.lacks_labels(document) and not len(self._errors):
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


def _at_line(number: int, error: GatewayError) -> GatewayError:
    """Return an error of a line's content with the line's number."""
    violations = [(f"line:{number}{path}", detail) for path, detail in error.violations]
    return GatewayError(error.code, f"line {number}: {error.detail}", violations)


def _line_error(number: int, errors: list[tuple[str, str]]) -> GatewayError:
    where = errors[0][0] if len(errors) == 1 else ""
    message = errors[0][1] if len(errors) == 1 else f"{len(errors)} fields are not valid"
    detail = f"line {number}: {where} {message}" if where else f"line {number} {message}"
    return GatewayError("validation_failed", detail, [(f"line:{number}{path}", error) for path, error in errors])
