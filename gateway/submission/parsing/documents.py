"""Parses a body's `documents`, labels and options, by hand: fast, with an exact location for every error.

A document that breaks the contract (wrong type, bad labels, duplicate id) rejects the request. A document whose
text no model can read (empty, too large, not Unicode) fails alone, with an error code. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from gateway.characters import label_error, label_key, string_error
from gateway.settings import GatewaySettings
from gateway.validation import Pointer, ValidationErrors
from jobs.schema import Document, DocumentError, DocumentErrorCode, Labels, Options

NOT_A_LABEL = "is not one of the labels"
_FIELDS = frozenset({"id", "text", "labels", "options"})
_MAX_NAMED_PER_LABEL = 10
"""A job's options may name labels of many documents, but at most `max_labels` times this number."""
_MAX_CACHED_LABELS = 5000
"""Labels in cached lists; a stream may bring any number of different lists."""


class DocumentReader:
    """Parses the documents of one request.

    Args:
        settings: the limits of a document.
        labels: the job's labels, for documents without labels.
        options: the job's options, which a document's options override.
        errors: collects breaches of the contract.
    """

    def __init__(
        self, settings: GatewaySettings, labels: Labels, options: Options, errors: ValidationErrors
    ) -> None:
        self._settings = settings
        self._labels = labels
        self._options = options
        self._errors = errors
        self._cached_labels: dict[tuple[str, ...], Labels] = {}
        self._cached_count = 0
        self._unclaimed: dict[str, list[Pointer]] = {}
        for path, label in iterate_named_labels(options):
            if label not in labels:
                self._unclaimed.setdefault(label, []).append(path)

    def unclaimed_pointers(self) -> list[Pointer]:
        """Return the paths in the job's options that name a label which no document has so far."""
        return [path for paths in self._unclaimed.values() for path in paths]

    def read_documents(self, items: Iterable[Any], *, need_labels: bool) -> Iterator[Document]:
        """Yield the documents, in order; after the first error, only collect more errors.

        Args:
            items: the elements of `documents`.
            need_labels: the job has no labels, so every document must have some.
        """
        first: dict[str, tuple[int, bool]] = {}
        for index, item in enumerate(items):
            document = self.read_document(index, item, ("documents", index))
            if document is None:
                continue
            self._check_distinct(document, item.get("id") is not None, first)
            if need_labels and document.labels is None:
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
        labels = self._read_labels(at, item.get("labels"))
        options = self._read_options(at, item.get("options"), self._labels if labels is None else labels)
        error = text_error(text, self._settings.max_document_bytes)
        return Document(
            index=index,
            id=self._read_id(at, item.get("id")) or str(index),
            text="" if error else text,
            labels=labels,
            options=options,
            error=error,
        )

    def _read_id(self, at: Pointer, value: Any) -> str | None:
        if value is None:
            return None
        error = string_error(value, self._settings.max_document_id_length)
        if error:
            self._errors.add((*at, "id"), error)
            return None
        return str(value)

    def _read_labels(self, at: Pointer, value: Any) -> Labels | None:
        if value is None:
            return None
        # Most documents of a job repeat one list of labels; it is checked once.
        key = tuple(value) if isinstance(value, list) and all(type(label) is str for label in value) else None
        if key is not None and key in self._cached_labels:
            return self._cached_labels[key]
        before = len(self._errors)
        labels = read_labels(value, (*at, "labels"), self._settings, self._errors)
        for label in labels:
            self._unclaimed.pop(label, None)
        if key is not None and len(self._errors) == before and self._cached_count < _MAX_CACHED_LABELS:
            self._cached_labels[key] = labels
            self._cached_count += len(labels)
        return labels

    def _read_options(self, at: Pointer, value: Any, labels: Labels) -> dict[str, Any] | None:
        if value is None:
            return None
        at = (*at, "options")
        options = read_options(value, at, self._settings, self._errors)
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


def read_labels(value: Any, at: Pointer, settings: GatewaySettings, errors: ValidationErrors) -> Labels:
    """Parse labels, a list or a map to descriptions; collect their errors."""
    pairs: list[tuple[Any, Any, str | int]]
    if isinstance(value, list):
        pairs = [(label, None, index) for index, label in enumerate(value)]
    elif isinstance(value, dict):
        pairs = [(label, description, label) for label, description in value.items()]
    else:
        errors.add(at, "must be a list of labels, or an object of label and description")
        return {}
    if not 1 <= len(pairs) <= settings.max_labels:
        errors.add(at, f"must have 1 to {settings.max_labels} labels, not {len(pairs)}")
        return {}
    labels: Labels = {}
    keys: set[str] = set()
    for label, description, key_or_index in pairs:
        error = label_error(label, settings.max_label_length) or _description_error(
            description, settings.max_label_description_length
        )
        if error:
            errors.add((*at, key_or_index), error)
        elif (key := label_key(label)) in keys:
            errors.add((*at, key_or_index), f"{'is' if label in labels else 'looks the same as'} an earlier label")
        else:
            keys.add(key)
            labels[label] = description or None
    return labels


def _description_error(description: Any, max_length: int) -> str | None:
    if description is None or description == "":
        return None
    error = label_error(description, max_length)
    return f"the description {error}" if error else None


def read_options(value: Any, at: Pointer, settings: GatewaySettings, errors: ValidationErrors) -> Options | None:
    """Parse options without type conversion; collect their errors and return None if there are any."""
    if not isinstance(value, Mapping):
        errors.add(at, "must be an object")
        return None
    max_names = _MAX_NAMED_PER_LABEL * settings.max_labels
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
