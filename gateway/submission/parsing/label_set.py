"""Parses the body that stores a label set: bytes -> JSON -> checked labels. Pure."""

from __future__ import annotations

from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from gateway.submission.parsing.json_text import (
    TOO_MANY_VALUES,
    Text,
    TooManyValuesError,
    check_values,
    head_cost,
    load_object,
)
from gateway.submission.parsing.tasks import TaskParser
from gateway.validation import collect_errors
from jobs.tasks import Labels


def parse_label_set(body: Text, settings: GatewaySettings) -> Labels:
    """Parse labels by the rules of a job's labels; a set may have more of them than a job of some models.

    Raises:
        GatewayError: malformed_json or validation_failed.
    """
    try:
        check_values(body, head_cost(0))
    except TooManyValuesError:
        raise GatewayError("validation_failed", f"the body {TOO_MANY_VALUES}", [("", TOO_MANY_VALUES)]) from None
    content = load_object(body)
    with collect_errors() as errors:
        for name in content.keys() - {"labels"}:
            errors.add((name,), "is not a field of a label set")
        max_labels = max(settings.max_labels, settings.max_model_labels)
        return TaskParser(settings, max_labels, errors).read_labels(content.get("labels"), ("labels",))
