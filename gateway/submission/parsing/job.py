"""Parses a request body into a `Submission`: bytes -> JSON -> checked values. Pure.

The head (labels, options, priority, ...) is checked first, then every document; all errors of a request are
reported together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gateway.characters import character_error, control_error
from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from gateway.submission.parsing.documents import NOT_A_LABEL, DocumentReader, read_labels, read_options
from gateway.submission.parsing.json_text import Items, Text, document_cost, load_job, too_many_documents
from gateway.validation import ValidationErrors, collect_errors
from gateway.webhooks.parsing import InlineWebhook, parse_webhook
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
    """The checked fields of a job except its documents.

    Attributes:
        model: the requested model; after `resolve_model`, the model that runs the job.
        deadline_s: time from creation until the job expires (seconds).
        result_ttl_s: time that results are stored after the job's end (seconds).
        webhook: receiver of the job's end; a str is the id of a registered endpoint.
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
        """Return the head with the model that runs this tenant's jobs of the requested name."""
        model = models.choose_model(self.model, tenant)
        return self if model == self.model else replace(self, model=model)


def parse_submission(
    body: Text,
    settings: GatewaySettings,
    take: Callable[[Iterator[Document], Labels], T],
    *,
    max_documents: int,
    extract: bool = False,
) -> tuple[Head, T]:
    """Parse and check a JSON body; return its head and the result of `take`.

    Args:
        body: the request's bytes, within the limit of the body's size.
        settings: models and limits.
        take: gets an iterator of the documents, which it must exhaust, and the job's labels.
        max_documents: most documents of this kind of request.
        extract: the request is of POST /v1/extract: its priority is always interactive.

    Raises:
        GatewayError: malformed_json, validation_failed, unknown_model, payload_too_large or too_many_documents.
    """
    content = load_job(body, max_documents, document_cost(settings.max_labels), settings.max_document_bytes)
    with collect_errors() as errors:
        for name in content.keys() - HEAD_FIELDS - {"documents"}:
            errors.add((name,), "is not a field of a job")
        head = read_head(content, settings, errors, extract=extract)
        items = _read_items(content, max_documents, errors)
        reader = DocumentReader(settings, head.labels, head.options, errors)
        documents = reader.read_documents(items, need_labels=not head.labels and content.get("labels") is None)
        result = take(documents, head.labels)
        for path in reader.unclaimed_pointers():
            errors.add(("options", *path), NOT_A_LABEL)
        return head, result


def read_head(
    content: Mapping[str, Any], settings: GatewaySettings, errors: ValidationErrors, *, extract: bool = False
) -> Head:
    """Parse the fields of a job except its documents; collect their errors. Ignore the result if there are any.

    Raises:
        GatewayError: unknown_model.
        TooManyErrorsError: `MAX_ERRORS` were collected.
    """
    labels, options = content.get("labels"), content.get("options")
    return Head(
        model=_read_model(content.get("model"), settings, errors),
        labels={} if labels is None else read_labels(labels, ("labels",), settings, errors),
        options=(None if options is None else read_options(options, ("options",), settings, errors)) or _DEFAULTS,
        priority=_read_priority(content.get("priority"), errors, extract=extract),
        deadline_s=_read_seconds(
            content, "deadline_s", settings.default_deadline_s, settings.max_deadline_s, errors
        ),
        result_ttl_s=_read_seconds(
            content, "result_ttl_s", settings.default_result_ttl_s, settings.max_result_ttl_s, errors
        ),
        metadata=_read_metadata(content.get("metadata"), settings, errors),
        webhook=parse_webhook(content.get("webhook"), errors),
    )


def _read_model(name: Any, settings: GatewaySettings, errors: ValidationErrors) -> str:
    if name is None:
        return settings.models.names[0]
    if not isinstance(name, str):
        errors.add(("model",), "must be a string")
        return settings.models.names[0]
    if name not in settings.models.names:
        available = ", ".join(settings.models.names)
        detail = f"the models of this service are {available}"
        raise GatewayError("unknown_model", detail, [("/model", "is not a model of this service")])
    return name


def _read_priority(value: Any, errors: ValidationErrors, *, extract: bool) -> Priority:
    default = Priority.INTERACTIVE if extract else Priority.STANDARD
    allowed = [Priority.INTERACTIVE] if extract else list(Priority)
    if value is None:
        return default
    if value not in allowed:
        errors.add(("priority",), f"must be {' or '.join(allowed)}")
        return default
    return Priority(value)


def _read_seconds(
    content: Mapping[str, Any], name: str, default: float, maximum: float, errors: ValidationErrors
) -> float:
    seconds = content.get(name)
    if seconds is None:
        return default
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 1 <= seconds <= maximum:
        errors.add((name,), f"must be a number of seconds from 1 to {maximum:g}")
        return default
    return seconds


def _read_metadata(metadata: Any, settings: GatewaySettings, errors: ValidationErrors) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        errors.add(("metadata",), "must be an object of strings")
        return {}
    if len(metadata) > settings.max_metadata_entries:
        errors.add(("metadata",), f"must have at most {settings.max_metadata_entries} entries")
        return {}
    for name, value in metadata.items():
        if not 1 <= len(name) <= _MAX_METADATA_KEY:
            errors.add(("metadata", name), f"the name must have 1 to {_MAX_METADATA_KEY} characters")
        elif not isinstance(value, str) or len(value) > settings.max_metadata_length:
            errors.add(("metadata", name), f"must be a string of at most {settings.max_metadata_length} characters")
        elif error := character_error(name) or control_error(name) or character_error(value):
            errors.add(("metadata", name), error)
    return metadata


def _read_items(content: Mapping[str, Any], max_documents: int, errors: ValidationErrors) -> Items | Sequence[Any]:
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
