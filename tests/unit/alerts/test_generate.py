"""Generated files: rules, promtool cases, dashboards, and other base URLs in them."""

from __future__ import annotations

import yaml

from alerts.generate import (
    MARK,
    all_alerts,
    render_files,
    render_rules,
    render_unit_tests,
    replace_links,
    rule_groups,
)
from alerts.model import GRAFANA, RUNBOOKS, Alert, Case, Group


def make_alert(name: str, step: int = 1) -> Alert:
    """Return an alert whose cases have this step."""
    fires, quiet = (Case({"gleaner_x": values}, "3m", step=step) for values in ("1x5", "0x5"))
    return Alert(name, "gleaner_x > 0", "2m", "page", "ml", "s", "d", "model", fires, quiet)


def test_a_rule_file_has_its_groups_and_a_mark() -> None:
    """For a game day every condition holds sooner; recordings have no such time."""
    group = Group("gleaner-x", (make_alert("A"),), {"gleaner:x": "gleaner_x"})
    text = render_rules([group])
    [record, alert] = yaml.safe_load(render_rules([group], after="10s"))["groups"][0]["rules"]

    assert text.startswith(MARK)
    assert yaml.safe_load(text) == {"groups": [{"name": "gleaner-x", "rules": group.to_rules()}]}
    assert alert["for"] == "10s"
    assert "for" not in record


def test_promtool_tries_each_alert_in_both_cases() -> None:
    """Cases of one step share a file, which loads the groups whose recordings the alerts read."""
    group = Group("gleaner-x", (make_alert("A"), make_alert("B", step=10)), reads=("slo-y",))
    files = {name: yaml.safe_load(text) for name, text in render_unit_tests("x", group).items()}

    assert list(files) == ["tests/x.yml", "tests/x-every-10m.yml"]
    assert {tuple(file["rule_files"]) for file in files.values()} == {("../rules/slo-y.yml", "../rules/x.yml")}
    fires, quiet = files["tests/x-every-10m.yml"]["tests"]
    assert files["tests/x-every-10m.yml"]["evaluation_interval"] == fires["interval"] == "10m"
    assert [fires["name"], quiet["name"]] == ["B fires", "B is quiet"]
    assert len(fires["alert_rule_test"][0]["exp_alerts"]) == 1
    assert quiet["alert_rule_test"][0]["exp_alerts"] == []


def test_links_have_other_base_urls_on_request() -> None:
    """A trailing slash is not doubled; None keeps the default."""
    files = {"a": f"{RUNBOOKS}/A.md {GRAFANA}/gleaner-b"}

    assert replace_links(files, None, None) == files
    assert replace_links(files, "https://r/", None) == {"a": f"https://r/A.md {GRAFANA}/gleaner-b"}
    assert replace_links(files, None, "https://g/d") == {"a": f"{RUNBOOKS}/A.md https://g/d/gleaner-b"}


def test_every_group_has_its_files() -> None:
    """A file of rules and one of promtool's per group, and names of alerts occur once."""
    files, names = render_files(), [alert.name for alert in all_alerts()]

    for name in rule_groups():
        assert f"rules/{name}.yml" in files
        assert any(path.startswith(f"tests/{name}") for path in files)
    assert len(set(names)) == len(names)
