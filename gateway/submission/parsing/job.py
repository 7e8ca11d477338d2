"""Parses a request body: bytes -> JSON -> a checked head and its documents. Pure.

The head (tasks, options, priority, ...) is checked first, then every document; all errors of a request are
reported together. Only a request without errors is compared with the tasks that its model can do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.characters import character_error, control_error
from gateway.errors import GatewayError
from gateway.label_sets import LabelSet
from gateway.settings import GatewaySettings
from gateway.submission.parsing.documents import DocumentReader, read_options
from gateway.submission.parsing.json_text import Items, Text, load_job, too_many_documents
from gateway.submission.parsing.models import ModelRules, TenantModels, Violation
from gateway.submission.parsing.tasks import NOT_A_LABEL, TASK_FIELDS, TaskParser
from gateway.validation import MAX_ERRORS, ValidationErrors, collect_errors
from gateway.webhooks.parsing import InlineWebhook, parse_webhook
from jobs.schema import Document, Options, Priority
from jobs.tasks import Tasks

T = TypeVar("T")

HEAD_FIELDS = TASK_FIELDS | {
    "label_set", "model", "options", "priority", "deadline_s", "result_ttl_s", "webhook", "metadata",
}  # fmt: skip
_MAX_METADATA_KEY = 64
_DEFAULTS = Options()


@dataclass(frozen=True, slots=True)
class Head:
    """The checked fields of a job except its documents.

    Attributes:
        model: the model that runs the job.
        tasks: asked of all documents that do not ask their own.
        deadline_s: time from creation until the job expires (seconds).
        result_ttl_s: time that results are stored after the job's end (seconds).
        webhook: receiver of the job's end; a str is the id of a registered endpoint.
        label_set: version of the label set that the labels come from, as name@version; None without one.
    """

    model: str
    tasks: Tasks
    options: Options
    priority: Priority
    deadline_s: float
    result_ttl_s: float
    metadata: dict[str, str]
    webhook: InlineWebhook | str | None = None
    label_set: str | None = None


def load_submission(body: Text, models: TenantModels, max_documents: int) -> dict[str, Any]:
    """Decode a JSON body; in a long one the documents stay bytes.

    Args:
        body: the request's bytes, within the limit of the body's size.
        models: the tenant's models, and the limits.
        max_documents: most documents of this kind of request.

    Raises:
        GatewayError: malformed_json, validation_failed, payload_too_large or too_many_documents.
    """
    content = load_job(body, max_documents, models.document_cost, models.settings.max_document_bytes)
    documents = content.get("documents")
    if isinstance(documents, list | Items) and len(documents) > max_documents:
        raise too_many_documents(max_documents)
    return content


def parse_submission(
    content: Mapping[str, Any],
    models: TenantModels,
    take: Callable[[Iterator[Document], Tasks], T],
    *,
    extract: bool = False,
    label_set: LabelSet | None = None,
) -> tuple[Head, T]:
    """Check a decoded body; return its head and the result of `take`.

    Args:
        content: the body as `load_submission` returns it.
        models: the tenant's models, and the limits.
        take: gets an iterator of the documents, which it must exhaust, and the job's tasks.
        extract: the request is of POST /v1/extract: its priority is always interactive.
        label_set: the label set that the body names, if it names one.

    Raises:
        GatewayError: malformed_json, validation_failed, unknown_model or unsupported_task.
    """
    with collect_errors() as errors:
        for name in content.keys() - HEAD_FIELDS - {"documents"}:
            errors.add((name,), "is not a field of a job")
        rules = read_model(content, models, errors)
        parser = TaskParser(models.settings, rules.max_labels, errors)
        head = read_head(content, rules, parser, extract=extract, label_set=label_set)
        unsupported = rules.list_unsupported(head.tasks)
        items = _read_items(content, errors)
        reader = DocumentReader(parser, head.tasks, head.options)
        documents = reader.read_documents(items, need_labels=_is_without_labels(content, head.tasks))
        result = take(_find_unsupported(documents, rules, unsupported), head.tasks)
        for path in reader.unclaimed_pointers():
            errors.add(path, NOT_A_LABEL)
    if unsupported:
        raise rules.unsupported_error(unsupported[:MAX_ERRORS])
    return head, result


def _is_without_labels(content: Mapping[str, Any], tasks: Tasks) -> bool:
    """Return whether a job has no labels, not even wrong ones, and its classifications, if any, could be read."""
    named = content.get("labels") is not None or content.get("label_set") is not None
    return not named and bool(content.get("classifications")) == bool(tasks.classifications)


def _find_unsupported(
    documents: Iterable[Document], rules: ModelRules, unsupported: list[Violation]
) -> Iterator[Document]:
    """Yield the documents until one asks what the model cannot do; add its violations, and those of the others."""
    for document in documents:
        if len(unsupported) < MAX_ERRORS:
            unsupported += rules.list_unsupported(document, ("documents", document.index))
        if not unsupported:
            yield document


def read_head(
    content: Mapping[str, Any],
    rules: ModelRules,
    parser: TaskParser,
    *,
    extract: bool = False,
    label_set: LabelSet | None = None,
) -> Head:
    """Parse the fields of a job except its documents; collect their errors. Ignore the result if there are any.

    Args:
        content: the fields; `model` was read by `read_model`.
        rules: of the job's model.
        parser: parses the tasks; collects all errors.
        extract: as for `parse_submission`.
        label_set: likewise.

    Raises:
        TooManyErrorsError: `MAX_ERRORS` were collected.
    """
    settings, errors, options = parser.settings, parser.errors, content.get("options")
    return Head(
        model=rules.name,
        tasks=parser.read_tasks(content, label_set),
        options=(None if options is None else read_options(options, ("options",), parser)) or _DEFAULTS,
        priority=_read_priority(content.get("priority"), errors, extract=extract),
        deadline_s=_read_seconds(
            content, "deadline_s", settings.default_deadline_s, settings.max_deadline_s, errors
        ),
        result_ttl_s=_read_seconds(
            content, "result_ttl_s", settings.default_result_ttl_s, settings.max_result_ttl_s, errors
        ),
        metadata=_read_metadata(content.get("metadata"), settings, errors),
        webhook=parse_webhook(content.get("webhook"), errors),
        label_set=None if label_set is None else label_set.reference,
    )


def read_model(content: Mapping[str, Any], models: TenantModels, errors: ValidationErrors) -> ModelRules:
    """Return the rules of the model that a job names.

    Raises:
        GatewayError: unknown_model.
        TooManyErrorsError: `MAX_ERRORS` were collected.
    """
    name, names = content.get("model"), models.settings.models.names
    if name is not None and not isinstance(name, str):
        errors.add(("model",), "must be a string")
    elif name is not None and name not in names:
        detail = f"the models of this service are {', '.join(names)}"
        raise GatewayError("unknown_model", detail, [("/model", "is not a model of this service")])
    return models.choose_model(name if isinstance(name, str) else names[0])


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


def _read_items(content: Mapping[str, Any], errors: ValidationErrors) -> Items | Sequence[Any]:
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
    return items
