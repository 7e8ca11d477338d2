"""Turns a request body into a `Submission`: bytes -> JSON -> checked values. Pure; no I/O, no clock.

The head (labels, options, priority, ...) is checked first, then every document; all faults of one request are told
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from gateway.http.problems import Problem
from gateway.settings import GatewaySettings
from gateway.submission.characters import character_error, control_error
from gateway.submission.documents import NOT_A_LABEL, DocumentLimits, DocumentReader, read_labels, read_options
from gateway.submission.json_text import Items, Text, document_cost, load_job, too_many_documents
from gateway.submission.validation import ValidationErrors, collect_errors
from gateway.webhooks.request import InlineWebhook, read_webhook
from jobs.routing import Models
from jobs.schema import Document, Labels, Options, Priority

T = TypeVar("T")

HEAD_FIELDS = frozenset(
    {"model", "labels", "options", "priority", "deadline_s", "result_ttl_s", "webhook", "metadata"}
)
_MAX_METADATA_KEY = 64
_DEFAULTS = Options()


@dataclass(frozen=True, slots=True)
class Head:
    """Everything a job is made of but its documents and its id, checked.

    Attributes:
        model: what the request asked for; once `resolve_model`, the model that runs it.
        deadline_s: seconds from creation after which the job expires.
        result_ttl_s: seconds that results stay after the job's end.
        webhook: whom to tell of the end; a str is the id of a registered endpoint.
    """

    model: str
    labels: Labels
    options: Options
    priority: Priority
    deadline_s: float
    result_ttl_s: float
    metadata: dict[str, str]
    webhook: InlineWebhook | str | None = None

    def resolve_model(self, models: Models, tenant: str) -> Head:
        """For the model that runs this tenant's jobs of the name asked for."""
        model = models.choose_model(self.model, tenant)
        return self if model == self.model else replace(self, model=model)


@dataclass(frozen=True, slots=True)
class Submission(Generic[T]):
    """A checked request with its documents, or with what was made of them."""

    head: Head
    documents: T


def parse_submission(
    body: Text,
    settings: GatewaySettings,
    take: Callable[[Iterator[Document], Labels], T],
    *,
    max_documents: int,
    extract: bool = False,
) -> Submission[T]:
    """Return the submission that a JSON body asks for.

    Args:
        body: the request's bytes, already bounded.
        settings: models and limits.
        take: gets the documents, which are not all in memory at once, and the job's labels; it must take them all.
        max_documents: most documents of this kind of request.
        extract: the priority is interactive and cannot be chosen.

    Raises:
        Problem: malformed_json, validation_failed, unknown_model, payload_too_large or too_many_documents.
    """
    content = load_job(body, max_documents, document_cost(settings.max_labels), settings.max_document_bytes)
    with collect_errors() as errors:
        return _read(content, settings, errors, take, max_documents, extract=extract)


def _read(
    content: Mapping[str, Any],
    settings: GatewaySettings,
    errors: ValidationErrors,
    take: Callable[[Iterator[Document], Labels], T],
    max_documents: int,
    *,
    extract: bool,
) -> Submission[T]:
    for name in content.keys() - HEAD_FIELDS - {"documents"}:
        errors.add((name,), "is not a field of a job")
    head = read_head(content, settings, errors, extract=extract)
    items = _items(content, max_documents, errors)
    reader = DocumentReader(document_limits(settings), head.labels, head.options, errors)
    documents = reader.read(items, need_labels=not head.labels and content.get("labels") is None)
    taken = take(documents, head.labels)
    for place in reader.unclaimed_pointers():
        errors.add(("options", *place), NOT_A_LABEL)
    return Submission(head, taken)


def read_head(
    content: Mapping[str, Any], settings: GatewaySettings, errors: ValidationErrors, *, extract: bool = False
) -> Head:
    """What a job's body says besides its documents; what is wrong is noted, and the head is then of no use.

    Raises:
        Problem: unknown_model.
        EnoughError: so many faults that looking on helps nobody.
    """
    options, limits = content.get("options"), document_limits(settings)
    return Head(
        model=_model(content.get("model"), settings, errors),
        labels=_labels(content.get("labels"), limits, errors),
        options=(None if options is None else read_options(options, ("options",), limits, errors)) or _DEFAULTS,
        priority=_priority(content.get("priority"), errors, extract=extract),
        deadline_s=_seconds(content, "deadline_s", settings.default_deadline_s, settings.max_deadline_s, errors),
        result_ttl_s=_seconds(
            content, "result_ttl_s", settings.default_result_ttl_s, settings.max_result_ttl_s, errors
        ),
        metadata=_metadata(content.get("metadata"), settings, errors),
        webhook=read_webhook(content.get("webhook"), errors),
    )


def document_limits(settings: GatewaySettings) -> DocumentLimits:
    """The limits of one document."""
    return DocumentLimits(
        bytes=settings.max_document_bytes,
        id_length=settings.max_document_id_length,
        labels=settings.max_labels,
        label_length=settings.max_label_length,
        description_length=settings.max_label_description_length,
        hashing=settings.redact_key is not None,
    )


def _model(given: Any, settings: GatewaySettings, errors: ValidationErrors) -> str:
    if given is None:
        return settings.models.names[0]
    if not isinstance(given, str):
        errors.add(("model",), "must be a string")
        return settings.models.names[0]
    if given not in settings.models.names:
        known = ", ".join(settings.models.names)
        raise Problem("unknown_model", f"this service has {known}", [("/model", "is not a model of this service")])
    return given


def _labels(given: Any, limits: DocumentLimits, errors: ValidationErrors) -> Labels:
    return {} if given is None else read_labels(given, ("labels",), limits, errors)


def _priority(given: Any, errors: ValidationErrors, *, extract: bool) -> Priority:
    default = Priority.INTERACTIVE if extract else Priority.STANDARD
    allowed = [Priority.INTERACTIVE] if extract else list(Priority)
    if given is None:
        return default
    if given not in allowed:
        errors.add(("priority",), f"must be {' or '.join(allowed)}")
        return default
    return Priority(given)


def _seconds(
    content: Mapping[str, Any], name: str, default: float, longest: float, errors: ValidationErrors
) -> float:
    given = content.get(name)
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int | float) or not 1 <= given <= longest:
        errors.add((name,), f"must be a number of seconds from 1 to {longest:g}")
        return default
    return given


def _metadata(given: Any, settings: GatewaySettings, errors: ValidationErrors) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        errors.add(("metadata",), "must be an object of strings")
        return {}
    if len(given) > settings.max_metadata_entries:
        errors.add(("metadata",), f"must have at most {settings.max_metadata_entries} entries")
        return {}
    for name, value in given.items():
        if not 1 <= len(name) <= _MAX_METADATA_KEY:
            errors.add(("metadata", name), f"the name must have 1 to {_MAX_METADATA_KEY} characters")
        elif not isinstance(value, str) or len(value) > settings.max_metadata_length:
            errors.add(("metadata", name), f"must be a string of at most {settings.max_metadata_length} characters")
        elif error := character_error(name) or control_error(name) or character_error(value):
            errors.add(("metadata", name), error)
    return given


def _items(content: Mapping[str, Any], max_documents: int, errors: ValidationErrors) -> Items | Sequence[Any]:
    if "documents" not in content:
        errors.add(("documents",), "is required")
        return ()
    items = content["documents"]
    if not isinstance(items, list | Items):
        errors.add(("documents",), "must be a list")
        return ()
    if not len(items):
        errors.add(("documents",), "must have at least one document")
        return ()
    if len(items) > max_documents:
        raise too_many_documents(max_documents)
    return items
