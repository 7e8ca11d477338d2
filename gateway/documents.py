"""Turns a body's `documents` and labels into `Document`s, walked by hand: fast, and exact about each place.

A document that breaks the contract (wrong type, bad labels, duplicate id) is a fault of the request. One whose text
no model can read (empty, too large, not Unicode) is the document's own: it fails alone, with its code.
Pure: values in, values out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from gateway.faults import Faults, Pointer
from jobs.schema import Document, DocumentError, DocumentErrorCode, Labels, Options

_FIELDS = frozenset({"id", "text", "labels", "options"})
_KNOWN_LABELS = 1000
"""Different lists of labels that are remembered; a stream may bring no end of them."""


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """What one document may have; lengths in characters, sizes in UTF-8 bytes.

    Attributes:
        hashing: `redact` may ask for tokens, since GLEANER_REDACT_KEY is set.
    """

    bytes: int
    id_length: int
    labels: int
    label_length: int
    description_length: int
    hashing: bool = False


class DocumentReader:
    """Reads the documents of one request.

    Args:
        limits: what a document may have.
        labels: the job's labels, for documents without their own.
        options: the job's options, which a document's own go on top of.
        faults: where breaches of the contract are noted.
    """

    def __init__(self, limits: DocumentLimits, labels: Labels, options: Options, faults: Faults) -> None:
        self._limits = limits
        self._labels = labels
        self._options = options
        self._faults = faults
        self._known_labels: dict[tuple[str, ...], Labels] = {}
        self.all_labels = set(labels)

    def read(self, items: Sequence[Any]) -> list[Document]:
        """The documents, in order; faults are noted, and the list is then of no use."""
        documents = [
            document
            for index, item in enumerate(items)
            if (document := self.read_one(index, item, ("documents", index))) is not None
        ]
        self._distinct(items, documents)
        return documents

    def read_one(self, index: int, item: Any, at: Pointer = ()) -> Document | None:
        """The document that stands at `at`; what is wrong is noted, and it is then of no use."""
        if not isinstance(item, dict):
            self._faults.add(at, "must be an object with `text`")
            return None
        for name in item.keys() - _FIELDS:
            self._faults.add((*at, name), "is not a field of a document")
        text = item.get("text")
        if not isinstance(text, str):
            self._faults.add((*at, "text"), "is required" if "text" not in item else "must be a string")
            return None
        labels = self._own_labels(at, item.get("labels"))
        options = self._own_options(at, item.get("options"), self._labels if labels is None else labels)
        error = text_error(text, self._limits.bytes)
        return Document(
            index=index,
            id=self._id(at, item.get("id")) or str(index),
            text="" if error else text,
            labels=labels,
            options=options,
            error=error,
        )

    def _id(self, at: Pointer, given: Any) -> str | None:
        if given is None:
            return None
        fault = string_fault(given, self._limits.id_length)
        if fault:
            self._faults.add((*at, "id"), fault)
            return None
        return str(given)

    def _own_labels(self, at: Pointer, given: Any) -> Labels | None:
        if given is None:
            return None
        # Most jobs repeat one list of labels; its check is paid once.
        key = tuple(given) if isinstance(given, list) and all(type(label) is str for label in given) else None
        if key is not None and key in self._known_labels:
            return self._known_labels[key]
        before = len(self._faults)
        labels = read_labels(given, (*at, "labels"), self._limits, self._faults)
        if key is not None and len(self._faults) == before and len(self._known_labels) < _KNOWN_LABELS:
            self._known_labels[key] = labels
        self.all_labels |= labels.keys()
        return labels

    def _own_options(self, at: Pointer, given: Any, labels: Labels) -> dict[str, Any] | None:
        if given is None:
            return None
        at = (*at, "options")
        options = read_options(given, at, self._limits, self._faults)
        if options is None:
            return None
        check_named_labels(options, labels, at, self._faults)
        own = options.model_dump(include=options.model_fields_set)
        try:
            self._options.merged(own)
        except ValidationError as error:  # each is well by itself
            self._faults.add_validation(error, given, at)
        return own

    def _distinct(self, items: Sequence[Any], documents: Sequence[Document]) -> None:
        first: dict[str, int] = {}
        for document in documents:
            earlier = first.setdefault(document.id, document.index)
            if earlier == document.index:
                continue
            # A document without an id is known by its index, which another may have claimed as its id.
            named = next(i for i in (document.index, earlier) if items[i].get("id") is not None)
            other = earlier if named == document.index else document.index
            self._faults.add(("documents", named, "id"), f"is the id of document {other} too")


def text_error(text: str, max_bytes: int) -> DocumentError | None:
    """Why no worker needs to see this text, or None."""
    if not text or text.isspace():
        return DocumentError(DocumentErrorCode.empty_text, "the text is empty or white space only")
    size = len(text)
    if size <= max_bytes and not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return DocumentError(
                DocumentErrorCode.invalid_text, "the text holds half of a surrogate pair, which is no character"
            )
    if size > max_bytes:
        return DocumentError(
            DocumentErrorCode.document_too_large, f"the text is larger than {max_bytes} bytes in UTF-8"
        )
    if "\x00" in text:
        return DocumentError(DocumentErrorCode.invalid_text, "the text holds a NUL character")
    return None


def string_fault(value: Any, longest: int) -> str | None:
    """What is wrong with a short string of a client (an id, a label), or None."""
    if not isinstance(value, str):
        return "must be a string"
    if not value or value.isspace():
        return "must not be empty or white space only"
    if len(value) > longest:
        return f"must have at most {longest} characters"
    return character_fault(value)


def character_fault(value: str) -> str | None:
    """Why a string cannot be stored or sent as it is, or None."""
    if "\x00" in value:
        return "must not hold a NUL character"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "must not hold half of a surrogate pair"
    return None


def read_labels(given: Any, at: Pointer, limits: DocumentLimits, faults: Faults) -> Labels:
    """Labels as given, a list or a map to descriptions; what is wrong is noted."""
    pairs: list[tuple[Any, Any, str | int]]
    if isinstance(given, list):
        pairs = [(label, None, place) for place, label in enumerate(given)]
    elif isinstance(given, dict):
        pairs = [(label, description, label) for label, description in given.items()]
    else:
        faults.add(at, "must be a list of labels, or an object of label and description")
        return {}
    if not 1 <= len(pairs) <= limits.labels:
        faults.add(at, f"must have 1 to {limits.labels} labels, not {len(pairs)}")
        return {}
    labels: Labels = {}
    for label, description, place in pairs:
        fault = string_fault(label, limits.label_length) or _description_fault(description, limits)
        if fault:
            faults.add((*at, place), fault)
        elif label in labels:
            faults.add((*at, place), "is a label given before")
        else:
            labels[label] = description or None
    return labels


def _description_fault(description: Any, limits: DocumentLimits) -> str | None:
    if description is None or description == "":
        return None
    fault = string_fault(description, limits.description_length)
    return f"the description {fault}" if fault else None


def read_options(given: Any, at: Pointer, limits: DocumentLimits, faults: Faults) -> Options | None:
    """The options given, checked without any conversion; None where something is wrong, which is noted."""
    if not isinstance(given, Mapping):
        faults.add(at, "must be an object")
        return None
    try:
        options = Options.model_validate(given, strict=True)
    except ValidationError as error:
        faults.add_validation(error, given, at)
        return None
    if options.redaction and options.redaction.mode == "hash" and not limits.hashing:
        faults.add((*at, "redact", "mode"), "cannot be `hash` here: this service has no GLEANER_REDACT_KEY")
        return None
    return options


def named_labels(options: Options) -> Iterator[tuple[Pointer, str]]:
    """The labels that options name, and where."""
    if isinstance(options.threshold, dict):
        yield from ((("threshold", label), label) for label in options.threshold)
    if options.redaction and options.redaction.labels:
        yield from ((("redact", "labels", at), label) for at, label in enumerate(options.redaction.labels))


def check_named_labels(options: Options, labels: Mapping[str, Any] | set[str], at: Pointer, faults: Faults) -> None:
    """A label that nobody asks for is a mistake in the name."""
    for place, label in named_labels(options):
        if label not in labels:
            faults.add((*at, *place), "is not one of the labels")
