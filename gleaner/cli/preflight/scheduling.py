"""The scheduler's rules for one pod on one empty node: labels, taints, resources. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gleaner.cli.preflight.cluster import Node
from gleaner.cli.preflight.quantities import format_quantity
from gleaner.cli.preflight.workloads import Pod


def explain_rejection(pod: Pod, node: Node) -> str | None:
    """Return why the scheduler would not put the pod on the node, or None if it would."""
    if not node.schedulable:
        return "cordoned"
    for key, value in pod.selector.items():
        if node.labels.get(key) != value:
            return f"no label {key}={value}"
    terms = pod.affinity_terms
    if terms and not any(_matches_term(term, node.labels) for term in terms):
        return f"required node affinity ({_describe_terms(terms)})"
    for taint in node.taints:
        if taint["effect"] != "PreferNoSchedule" and not _is_tolerated(taint, pod.tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"untolerated taint {taint['key']}{value}:{taint['effect']}"
    for resource, amount in pod.requests.items():
        available = node.allocatable.get(resource)
        if available is None or available < amount:
            offered = "none" if not available else format_quantity(available)
            return f"{resource} {offered} of {format_quantity(amount)} requested"
    return None


def _is_tolerated(taint: Mapping[str, str], tolerations: Sequence[Mapping[str, Any]]) -> bool:
    for toleration in tolerations:
        operator = toleration.get("operator", "Equal")
        key_matches = toleration.get("key") == taint["key"] or (operator == "Exists" and not toleration.get("key"))
        value_matches = operator == "Exists" or toleration.get("value", "") == taint.get("value", "")
        if key_matches and value_matches and toleration.get("effect") in (None, "", taint["effect"]):
            return True
    return False


def _matches_term(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    expressions = term.get("matchExpressions") or ()
    return bool(expressions) and all(_matches_expression(expression, labels) for expression in expressions)


def _matches_expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), list(expression.get("values") or [])
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(values[0])
        case "Lt":
            return value is not None and int(value) < int(values[0])
    return False


def _describe_terms(terms: Sequence[Mapping[str, Any]]) -> str:
    return " or ".join(
        " and ".join(
            " ".join([item["key"], item["operator"], *item.get("values", ())])
            for item in term.get("matchExpressions") or ()
        )
        for term in terms
    )
