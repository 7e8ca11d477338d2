"""Parses a body's `documents` and options, by hand: fast, with an exact location for every error.

A document that breaks the contract (wrong type, bad labels, duplicate id) rejects the request. A document whose
text no model can read (empty, too large, not Unicode) fails alone, with an error code. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar

from pydantic import ValidationError

from gateway.characters import string_error
from gateway.submission.parsing.tasks import NOT_A_LABEL, TASK_FIELDS, TaskCache, TaskParser, iterate_ends
from gateway.validation import Pointer, ValidationErrors
from jobs.schema import Document, DocumentError, DocumentErrorCode, Labels, Options
from jobs.tasks import RelationType, Tasks

T = TypeVar("T")

_FIELDS = frozenset({"id", "text", "options"}) | TASK_FIELDS
_MAX_NAMED_PER_LABEL = 10
"""A job's options may name labels of many documents, but at most the most labels of one times this number."""


class DocumentReader:
    """Parses the documents of one request.

    Args:
        parser: parses the tasks of documents; collects breaches of the contract.
        tasks: the job's tasks, for documents without any.
        options: the job's options, which a document's options override.
    """

    def __init__(self, parser: TaskParser, tasks: Tasks, options: Options) -> None:
        self._parser = parser
        self._settings = parser.settings
        self._errors = parser.errors
        self._tasks = tasks
        self._options = options
        self._cache = TaskCache()
        self._unclaimed: dict[str, list[Pointer]] = {}
        named = ((("options", *path), label) for path, label in iterate_named_labels(options))
        ends = ((("relations", *path), label) for path, label in iterate_ends(tasks.relations))
        for path, label in chain(named, ends):
            if label not in tasks.labels:
                self._unclaimed.setdefault(label, []).append(path)

    def unclaimed_pointers(self) -> list[Pointer]:
        """Return the paths in the job's options and relations that name a label which no document has so far."""
        return [path for paths in self._unclaimed.values() for path in paths]

    def read_documents(self, items: Iterable[Any], *, need_labels: bool) -> Iterator[Document]:
        """Yield the documents, in order; after the first error, only collect more errors.

        Args:
            items: the elements of `documents`.
            need_labels: the job has no labels, so every document must have some or only classifications.
        """
        first: dict[str, tuple[int, bool]] = {}
        for index, item in enumerate(items):
            before = len(self._errors)
            document = self.read_document(index, item, ("documents", index))
            if document is None:
                continue
            self._check_distinct(document, item.get("id") is not None, first)
            if need_labels and len(self._errors) == before and self.lacks_labels(document):
                need_labels = False  # report the first document only
                self._errors.add(("labels",), f"is required, because document {index} has no labels")
            if not len(self._errors):
                yield document

    def read_document(self, index: int, item: Any, at: Pointer = ()) -> Document | None:
        """Parse the document at location `at`; collect its errors. Ignore the result if there are any."""
        if not isinstance(item, dict):
            self._errors.add(at, "must be an object with `text`")
            return None
        for name in item.keys() - _FIELDS:
            self._errors.add((*at, name), "is not a field of a document")
        text = item.get("text")
        if not isinstance(text, str):
            self._errors.add((*at, "text"), "is required" if "text" not in item else "must be a string")
            return None
        labels = self._read_labels(at, item)
        relations = self._read_relations(at, item, labels)
        classifications = self._read_once(self._parser.read_classifications, at, item, "classifications")
        options = self._read_options(at, item.get("options"), self._tasks.labels if labels is None else labels)
        error = text_error(text, self._settings.max_document_bytes)
        return Document(
            index=index,
            id=self._read_id(at, item.get("id")) or str(index),
            text="" if error else text,
            labels=labels,
            options=options,
            error=error,
            relations=relations,
            classifications=classifications,
        )

    def lacks_labels(self, document: Document) -> bool:
        """Return whether a document asks nothing, or for relations between entities that it does not ask for."""
        tasks = document.choose_tasks(self._tasks)
        return not tasks.labels and (bool(tasks.relations) or not tasks.classifications)

    def _read_id(self, at: Pointer, value: Any) -> str | None:
        if value is None:
            return None
        error = string_error(value, self._settings.max_document_id_length)
        if error:
            self._errors.add((*at, "id"), error)
            return None
        return str(value)

    def _read_once(
        self, parse: Callable[[Any, Pointer], T], at: Pointer, item: Mapping[str, Any], name: str
    ) -> T | None:
        value = item.get(name)
        return None if value is None else self._cache.read(parse, value, (*at, name), self._errors)

    def _read_labels(self, at: Pointer, item: Mapping[str, Any]) -> Labels | None:
        labels = self._read_once(self._parser.read_labels, at, item, "labels")
        if labels and self._unclaimed:
            for label in labels:
                self._unclaimed.pop(label, None)
        return labels

    def _read_relations(
        self, at: Pointer, item: Mapping[str, Any], labels: Labels | None
    ) -> Mapping[str, RelationType] | None:
        relations = self._read_once(self._parser.read_relations, at, item, "relations")
        allowed = self._tasks.labels if labels is None else labels
        for path, label in iterate_ends(relations or {}):
            if label not in allowed:
                self._errors.add((*at, "relations", *path), NOT_A_LABEL)
        return relations

    def _read_options(self, at: Pointer, value: Any, labels: Labels) -> dict[str, Any] | None:
        if value is None:
            return None
        at = (*at, "options")
        options = read_options(value, at, self._parser)
        if options is None:
            return None
        check_named_labels(options, labels, at, self._errors)
        overrides = options.model_dump(include=options.model_fields_set)
        try:
            self._options.with_overrides(overrides)
        except ValidationError as error:  # the job's options and the document's are valid only separately
            self._errors.add_validation(error, value, at)
        return overrides

    def _check_distinct(self, document: Document, named: bool, first: dict[str, tuple[int, bool]]) -> None:
        earlier, earlier_named = first.setdefault(document.id, (document.index, named))
        if earlier == document.index:
            return
        # A document without an id has its index as id, which another document may have as explicit id.
        wrong, other = (document.index, earlier) if named or not earlier_named else (earlier, document.index)
        self._errors.add(("documents", wrong, "id"), f"is also the id of document {other}")


def text_error(text: str, max_bytes: int) -> DocumentError | None:
    """Return the error of a text that no model can read, or None."""
    if not text or text.isspace():
        return DocumentError(DocumentErrorCode.EMPTY_TEXT, "the text is empty or white space only")
    size = len(text)
    if size <= max_bytes and not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return DocumentError(
                DocumentErrorCode.INVALID_TEXT,
                "the text contains half of a surrogate pair, which is not a character",
            )
    if size > max_bytes:
        return DocumentError(
            DocumentErrorCode.DOCUMENT_TOO_LARGE, f"the text is larger than {max_bytes} bytes in UTF-8"
        )
    return None


def read_options(value: Any, at: Pointer, parser: TaskParser) -> Options | None:
    """Parse options without type conversion; collect their errors in `parser` and return None if there are any."""
    settings, errors = parser.settings, parser.errors
    if not isinstance(value, Mapping):
        errors.add(at, "must be an object")
        return None
    max_names = _MAX_NAMED_PER_LABEL * parser.max_labels
    redact = value.get("redact")
    listed: dict[Pointer, Any] = {("threshold",): value.get("threshold")}
    if isinstance(redact, dict):
        listed["redact", "labels"] = redact.get("labels")
    for path, names in listed.items():
        if isinstance(names, dict | list) and len(names) > max_names:
            errors.add((*at, *path), f"must name at most {max_names} labels")
            return None
    try:
        options = Options.model_validate(value, strict=True)
    except ValidationError as error:
        errors.add_validation(error, value, at)
        return None
    if options.redaction and options.redaction.mode == "hash" and settings.redact_key is None:
        errors.add((*at, "redact", "mode"), "cannot be `hash`, because this service has no GLEANER_REDACT_KEY")
        return None
    return options


def iterate_named_labels(options: Options) -> Iterator[tuple[Pointer, str]]:
    """Yield (path, label) for each label that options name."""
    if isinstance(options.threshold, dict):
        yield from ((("threshold", label), label) for label in options.threshold)
    if options.redaction and options.redaction.labels:
        yield from ((("redact", "labels", at), label) for at, label in enumerate(options.redaction.labels))


def check_named_labels(options: Options, labels: Labels, at: Pointer, errors: ValidationErrors) -> None:
    """Collect an error for each label that options name and `labels` does not contain."""
    for path, label in iterate_named_labels(options):
        if label not in labels:
            errors.add((*at, *path), NOT_A_LABEL)
