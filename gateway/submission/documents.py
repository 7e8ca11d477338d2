"""Turns a body's `documents` and labels into `Document`s, walked by hand: fast, and exact about each place.

A document that breaks the contract (wrong type, bad labels, duplicate id) is a fault of the request. One whose text
no model can read (empty, too large, not Unicode) is the document's own: it fails alone, with its code.
Pure: values in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from gateway.submission.characters import label_error, label_key, string_error
from gateway.submission.validation import Pointer, ValidationErrors
from jobs.schema import Document, DocumentError, DocumentErrorCode, Labels, Options

NOT_A_LABEL = "is not one of the labels"
_FIELDS = frozenset({"id", "text", "labels", "options"})
_NAMED_PER_LABEL = 10
"""A job's options may name the labels of many documents, but no more than so many times `max_labels`."""
_KNOWN_LABELS = 5000
"""Labels in the lists that are remembered; a stream may bring no end of them."""


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

    def __init__(self, limits: DocumentLimits, labels: Labels, options: Options, errors: ValidationErrors) -> None:
        self._limits = limits
        self._labels = labels
        self._options = options
        self._errors = errors
        self._known_labels: dict[tuple[str, ...], Labels] = {}
        self._remembered = 0
        self._unclaimed: dict[str, list[Pointer]] = {}
        for place, label in named_labels(options):
            if label not in labels:
                self._unclaimed.setdefault(label, []).append(place)

    def unclaimed_pointers(self) -> list[Pointer]:
        """Return the places in the job's options that name a label which nobody asked for so far."""
        return [place for places in self._unclaimed.values() for place in places]

    def read(self, items: Iterable[Any], *, need_labels: bool) -> Iterator[Document]:
        """Yield the documents, in order; once a fault is noted, only look for more of them.

        Args:
            items: the elements of `documents`.
            need_labels: the job has no labels, so that every document must have its own.
        """
        first: dict[str, tuple[int, bool]] = {}
        for index, item in enumerate(items):
            document = self.read_document(index, item, ("documents", index))
            if document is None:
                continue
            self._check_distinct(document, item.get("id") is not None, first)
            if need_labels and document.labels is None:
                need_labels = False  # one document is enough to name
                self._errors.add(("labels",), f"is required, for document {index} has no labels of its own")
            if not len(self._errors):
                yield document

    def read_document(self, index: int, item: Any, at: Pointer = ()) -> Document | None:
        """The document that stands at `at`; what is wrong is noted, and it is then of no use."""
        if not isinstance(item, dict):
            self._errors.add(at, "must be an object with `text`")
            return None
        for name in item.keys() - _FIELDS:
            self._errors.add((*at, name), "is not a field of a document")
        text = item.get("text")
        if not isinstance(text, str):
            self._errors.add((*at, "text"), "is required" if "text" not in item else "must be a string")
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
        error = string_error(given, self._limits.id_length)
        if error:
            self._errors.add((*at, "id"), error)
            return None
        return str(given)

    def _own_labels(self, at: Pointer, given: Any) -> Labels | None:
        if given is None:
            return None
        # Most jobs repeat one list of labels; its check is paid once.
        key = tuple(given) if isinstance(given, list) and all(type(label) is str for label in given) else None
        if key is not None and key in self._known_labels:
            return self._known_labels[key]
        before = len(self._errors)
        labels = read_labels(given, (*at, "labels"), self._limits, self._errors)
        for label in labels:
            self._unclaimed.pop(label, None)
        if key is not None and len(self._errors) == before and self._remembered < _KNOWN_LABELS:
            self._known_labels[key] = labels
            self._remembered += len(labels)
        return labels

    def _own_options(self, at: Pointer, given: Any, labels: Labels) -> dict[str, Any] | None:
        if given is None:
            return None
        at = (*at, "options")
        options = read_options(given, at, self._limits, self._errors)
        if options is None:
            return None
        check_named_labels(options, labels, at, self._errors)
        own = options.model_dump(include=options.model_fields_set)
        try:
            self._options.with_overrides(own)
        except ValidationError as error:  # each is well by itself
            self._errors.add_validation(error, given, at)
        return own

    def _check_distinct(self, document: Document, named: bool, first: dict[str, tuple[int, bool]]) -> None:
        earlier, earlier_named = first.setdefault(document.id, (document.index, named))
        if earlier == document.index:
            return
        # A document without an id is known by its index, which another may have claimed as its id.
        wrong, other = (document.index, earlier) if named or not earlier_named else (earlier, document.index)
        self._errors.add(("documents", wrong, "id"), f"is the id of document {other} too")


def text_error(text: str, max_bytes: int) -> DocumentError | None:
    """Why no worker needs to see this text, or None."""
    if not text or text.isspace():
        return DocumentError(DocumentErrorCode.EMPTY_TEXT, "the text is empty or white space only")
    size = len(text)
    if size <= max_bytes and not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return DocumentError(
                DocumentErrorCode.INVALID_TEXT, "the text holds half of a surrogate pair, which is no character"
            )
    if size > max_bytes:
        return DocumentError(
            DocumentErrorCode.DOCUMENT_TOO_LARGE, f"the text is larger than {max_bytes} bytes in UTF-8"
        )
    return None


def read_labels(given: Any, at: Pointer, limits: DocumentLimits, errors: ValidationErrors) -> Labels:
    """Labels as given, a list or a map to descriptions; what is wrong is noted."""
    pairs: list[tuple[Any, Any, str | int]]
    if isinstance(given, list):
        pairs = [(label, None, place) for place, label in enumerate(given)]
    elif isinstance(given, dict):
        pairs = [(label, description, label) for label, description in given.items()]
    else:
        errors.add(at, "must be a list of labels, or an object of label and description")
        return {}
    if not 1 <= len(pairs) <= limits.labels:
        errors.add(at, f"must have 1 to {limits.labels} labels, not {len(pairs)}")
        return {}
    labels: Labels = {}
    keys: set[str] = set()
    for label, description, place in pairs:
        error = label_error(label, limits.label_length) or _description_fault(description, limits)
        if error:
            errors.add((*at, place), error)
        elif (key := label_key(label)) in keys:
            errors.add((*at, place), f"{'is' if label in labels else 'looks the same as'} a label given before")
        else:
            keys.add(key)
            labels[label] = description or None
    return labels


def _description_fault(description: Any, limits: DocumentLimits) -> str | None:
    if description is None or description == "":
        return None
    error = label_error(description, limits.description_length)
    return f"the description {error}" if error else None


def read_options(given: Any, at: Pointer, limits: DocumentLimits, errors: ValidationErrors) -> Options | None:
    """The options given, checked without any conversion; None where something is wrong, which is noted."""
    if not isinstance(given, Mapping):
        errors.add(at, "must be an object")
        return None
    most = _NAMED_PER_LABEL * limits.labels
    redact = given.get("redact")
    listed: dict[Pointer, Any] = {("threshold",): given.get("threshold")}
    if isinstance(redact, dict):
        listed["redact", "labels"] = redact.get("labels")
    for place, names in listed.items():
        if isinstance(names, dict | list) and len(names) > most:
            errors.add((*at, *place), f"must name at most {most} labels")
            return None
    try:
        options = Options.model_validate(given, strict=True)
    except ValidationError as error:
        errors.add_validation(error, given, at)
        return None
    if options.redaction and options.redaction.mode == "hash" and not limits.hashing:
        errors.add((*at, "redact", "mode"), "cannot be `hash` here: this service has no GLEANER_REDACT_KEY")
        return None
    return options


def named_labels(options: Options) -> Iterator[tuple[Pointer, str]]:
    """The labels that options name, and where."""
    if isinstance(options.threshold, dict):
        yield from ((("threshold", label), label) for label in options.threshold)
    if options.redaction and options.redaction.labels:
        yield from ((("redact", "labels", at), label) for at, label in enumerate(options.redaction.labels))


def check_named_labels(options: Options, labels: Labels, at: Pointer, errors: ValidationErrors) -> None:
    """Note the labels that options name and nobody asks for: they are mistakes in the name."""
    for place, label in named_labels(options):
        if label not in labels:
            errors.add((*at, *place), NOT_A_LABEL)
