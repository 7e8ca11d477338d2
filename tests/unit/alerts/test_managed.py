"""Rules in the formats of the clouds' Prometheus."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from alerts.generate import rule_groups
from alerts.managed import render_aws, render_azure, render_google, to_iso_duration

NAMES = [group.name for group in rule_groups().values()]


@pytest.mark.parametrize(("duration", "iso"), [("30s", "PT30S"), ("90m", "PT90M"), ("6h", "PT6H")])
def test_durations(duration: str, iso: str) -> None:
    """Prometheus' units are ISO 8601's in upper case."""
    assert to_iso_duration(duration) == iso


@pytest.mark.parametrize("duration", ["", "5", "1d", "1h30m", "-5m"])
def test_other_durations_are_refused(duration: str) -> None:
    """Days and sums have other forms in ISO 8601."""
    with pytest.raises(ValueError, match=re.escape(repr(duration))):
        to_iso_duration(duration)


def test_every_cloud_has_every_rule() -> None:
    """No group is left out, and each has the rules of the file for Prometheus."""
    [google], [aws], [azure] = (render().values() for render in (render_google, render_aws, render_azure))
    rules = [group.to_rules() for group in rule_groups().values()]

    assert [document["spec"]["groups"][0]["rules"] for document in yaml.safe_load_all(google)] == rules
    assert [group["rules"] for group in yaml.safe_load(aws)["groups"]] == rules
    resources = json.loads(azure)["resources"]
    assert [resource["name"] for resource in resources] == NAMES
    assert [len(resource["properties"]["rules"]) for resource in resources] == list(map(len, rules))


def test_azure_has_other_names() -> None:
    """A recording has an expression alone; an alert has a number as severity, and an action."""
    resources = json.loads(render_azure()["azure-rules.json"])["resources"]
    rules = [rule for resource in resources for rule in resource["properties"]["rules"]]
    recordings, alerts = ([rule for rule in rules if name in rule] for name in ("record", "alert"))

    assert {tuple(rule) for rule in recordings} == {("record", "expression")}
    assert {(rule["labels"]["severity"], rule["severity"]) for rule in alerts} == {("page", 1), ("ticket", 3)}
    assert all(rule["for"].startswith("PT") and rule["actions"] for rule in alerts)
