"""The rules for the managed Prometheus of Google, AWS and Azure: the same groups in each service's own format."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from alerts.generate import MARK, rule_groups

_AZURE_SEVERITIES = {"page": 1, "ticket": 3}
_UNITS = {"s": "S", "m": "M", "h": "H"}


def render_google() -> dict[str, str]:
    """Return `ClusterRules` of Google Cloud Managed Service for Prometheus: file name -> text."""
    documents = [
        {
            "apiVersion": "monitoring.googleapis.com/v1",
            "kind": "ClusterRules",
            "metadata": {"name": group.name, "labels": {"app.kubernetes.io/name": "gleaner"}},
            "spec": {"groups": [{"name": group.name, "interval": "60s", "rules": group.to_rules()}]},
        }
        for group in rule_groups().values()
    ]
    return {"google-rules.yaml": MARK + yaml.safe_dump_all(documents, sort_keys=False, width=110)}


def render_aws() -> dict[str, str]:
    """Return one rule groups namespace of Amazon Managed Service for Prometheus: file name -> text."""
    groups = [{"name": group.name, "rules": group.to_rules()} for group in rule_groups().values()]
    return {"aws-rules.yaml": MARK + yaml.safe_dump({"groups": groups}, sort_keys=False, width=110)}


def render_azure() -> dict[str, str]:
    """Return an ARM template of `prometheusRuleGroups` of Azure Monitor: file name -> text."""
    parameters = {
        "location": {"type": "string", "defaultValue": "[resourceGroup().location]"},
        "workspaceId": {
            "type": "string",
            "metadata": {"description": "Resource id of the Azure Monitor workspace"},
        },
        "clusterName": {"type": "string", "metadata": {"description": "Only this cluster's metrics"}},
        "actionGroupId": {"type": "string", "metadata": {"description": "Action group that alerts are sent to"}},
    }
    resources = [
        {
            "type": "Microsoft.AlertsManagement/prometheusRuleGroups",
            "apiVersion": "2023-03-01",
            "name": group.name,
            "location": "[parameters('location')]",
            "properties": {
                "enabled": True,
                "scopes": ["[parameters('workspaceId')]"],
                "clusterName": "[parameters('clusterName')]",
                "interval": "PT1M",
                "rules": [_to_azure_rule(rule) for rule in group.to_rules()],
            },
        }
        for group in rule_groups().values()
    ]
    template = {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": parameters,
        "resources": resources,
    }
    return {"azure-rules.json": json.dumps(template, indent=2) + "\n"}


def _to_azure_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule of Prometheus with Azure's names, severities and durations."""
    if "record" in rule:
        return {"record": rule["record"], "expression": rule["expr"]}
    return {
        "alert": rule["alert"],
        "expression": rule["expr"],
        "for": to_iso_duration(rule["for"]),
        "severity": _AZURE_SEVERITIES[rule["labels"]["severity"]],
        "labels": rule["labels"],
        "annotations": rule["annotations"],
        "actions": [{"actionGroupId": "[parameters('actionGroupId')]"}],
        "resolveConfiguration": {"autoResolved": True, "timeToResolve": "PT10M"},
    }


def to_iso_duration(duration: str) -> str:
    """Return a duration of Prometheus, such as `90m`, as ISO 8601 has it.

    Raises:
        ValueError: it has another form than a number and one unit.
    """
    match = re.fullmatch(r"(\d+)([smh])", duration)
    if match is None:
        raise ValueError(f"{duration!r} is not a number with one of the units s, m, h")
    return f"PT{match[1]}{_UNITS[match[2]]}"


FORMATS = {"google": render_google, "aws": render_aws, "azure": render_azure}
