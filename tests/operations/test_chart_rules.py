"""Rules and scraping as the chart renders them for a release, and as a cloud's managed Prometheus gets them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts import generate, managed
from alerts.model import add_matchers, join_lines
from tests.conftest import Tool
from tests.operations.test_rules import ALERTS, run
from tests.support import chart

BACKUP = {"enabled": True, "destination": "store:bucket"}
MODELS = ("gleaner-small", "gliner-medium-v2.1")
SCRAPERS = {
    "PodMonitor": lambda component: {"job": f"gleaner-{component}"},
    "annotations": lambda _: {"job": "kubernetes-pods", "app_kubernetes_io_name": "gleaner"},
    "PodMonitoring": lambda _: {"job": "gleaner", "cluster": "eu1"},
}
"""Ways of scraping -> the labels that they give to the series of a component, besides namespace and instance."""


def render_rules(values: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Return the alerts that a release gets: name -> rule."""
    return {rule["alert"]: rule for rule in _list_rules(values) if "alert" in rule}


def _list_rules(values: dict[str, Any] | None) -> list[dict[str, Any]]:
    merged = chart.merge_values({"monitoring": {"rules": True}, "backup": BACKUP}, values or {})
    documents = chart.select_kinds(chart.render_manifests(merged), "PrometheusRule", "Rules")
    return [rule for document in documents for group in document["spec"]["groups"] for rule in group["rules"]]


def test_every_selector_of_a_release_has_its_namespace() -> None:
    """Helm adds the same matchers as Python does, to every rule and nowhere else."""
    expected = {
        name: add_matchers(join_lines(expr), 'namespace="gleaner",release="b"')
        for group in generate.rule_groups().values()
        for name, expr in [*group.recordings.items(), *((alert.name, alert.expr) for alert in group.alerts)]
    }
    warm = {"worker": {"autoscaling": {"minReplicas": 1}}}
    rules = _list_rules({"monitoring": {"alerts": {"matchers": 'release="b"'}}, **warm})
    assert {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules} == expected


def test_an_alert_is_as_the_values_say() -> None:
    """Links, labels, severities, waiting times; some alerts are left out."""
    ours = {
        "runbookUrl": "https://wiki.corp/rb/",
        "dashboardUrl": "https://grafana.corp/d",
        "labels": {"squad": "nlp"},
        "severities": {"page": "critical", "ticket": "warning"},
        "disabled": ["GleanerGpuHot"],
        "for": {"GleanerKedaFailing": "15m"},
        "backupSeconds": 7200,
    }
    alerts = render_rules({"monitoring": {"alerts": ours}})
    down = alerts["GleanerRedisDown"]
    assert down["labels"] == {"severity": "critical", "level": "L2", "team": "platform", "squad": "nlp"}
    assert down["annotations"]["runbook_url"] == "https://wiki.corp/rb/GleanerRedisDown.md"
    assert down["annotations"]["dashboard_url"] == "https://grafana.corp/d/gleaner-overview"
    assert alerts["GleanerKedaFailing"]["for"] == "15m"
    assert "> 7200)" in alerts["GleanerBackupTooOld"]["expr"]
    assert set(ALERTS) - set(alerts) == {"GleanerGpuHot"}
    plain = render_rules()
    assert "example" not in json.dumps(list(plain.values()))
    with pytest.raises(Exception, match="GleanerNoSuch"):
        render_rules({"monitoring": {"alerts": {"disabled": ["GleanerNoSuch"]}}})


def test_alerts_that_would_never_end_are_left_out() -> None:
    """A store without an append-only file was chosen on purpose; without the CronJob nothing is backed up."""
    assert set(ALERTS) - set(render_rules({"gateway": {"settings": {"durability": "process"}}})) == {
        "GleanerAofFailing"
    }
    without = render_rules({"backup": {"enabled": False}})
    assert set(ALERTS) - set(without) == {"GleanerBackupTooOld", "GleanerBackupFailed"}


def test_nobody_is_paged_for_a_start_from_zero() -> None:
    """GleanerNoWorker waits for a node and for the model that takes longest to start."""
    models = {"gleaner-small": {}, "large": {"source": "/models/large", "startupSeconds": 1500}}
    alerts = render_rules({"models": models, "monitoring": {"alerts": {"nodeSeconds": 400}}})
    assert alerts["GleanerNoWorker"]["for"] == "1900s"
    assert render_rules()["GleanerNoWorker"]["for"] == "1200s"


@pytest.mark.parametrize(
    ("autoscaling", "fires"),
    [({}, True), ({"minReplicas": 1}, False), ({"extraTriggers": [{"type": "cron"}]}, False)],
)
def test_one_idle_worker_is_noticed_where_there_should_be_none(
    tool: Tool, tmp_path: Path, autoscaling: dict[str, Any], fires: bool
) -> None:
    """An HPA's minimum is 1 even if KEDA scales to zero; only the release knows which of both was wanted."""
    names = ("gleaner:workers:min", "GleanerWorkersNotScaledDown")
    rules = _list_rules({"models": {"gleaner-v2.1": {"autoscaling": autoscaling}}, "defaultModel": "gleaner-v2.1"})
    rules = [rule for rule in rules if rule.get("alert", rule.get("record")) in names]
    for rule in rules:
        rule.pop("annotations", None)
    cell, model = 'namespace="gleaner"', 'model="gleaner-v2.1"'
    hpa = f'{cell},horizontalpodautoscaler="keda-hpa-gleaner-worker-a1"'
    series = {
        f'gleaner_model_slug_info{{{cell},{model},slug="a1"}}': "1x120",
        f"kube_horizontalpodautoscaler_spec_min_replicas{{{hpa}}}": "1x120",
        f"gleaner_live_workers{{{cell},{model}}}": "1x120",
        f"gleaner_open_shards{{{cell},{model}}}": "0x120",
    }
    labels = {
        "namespace": "gleaner",
        "model": "gleaner-v2.1",
        "severity": "ticket",
        "level": "L1",
        "team": "platform",
    }
    alerts = [{"exp_labels": labels}] if fires else []
    check = {"eval_time": "90m", "alertname": names[1], "exp_alerts": alerts}
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    _promtool_test(tool, tmp_path, rules, {"input_series": inputs, "alert_rule_test": [check]})


def _healthy(namespace: str, scraper: str) -> dict[str, str]:
    """Return the series of a healthy installation that has work, as a way of scraping labels them."""

    def series(component: str, metric: str, values: str, **labels: str) -> None:
        labels |= {"namespace": namespace, "instance": f"{component}:1", **SCRAPERS[scraper](component)}
        selector = ",".join(f'{name}="{value}"' for name, value in labels.items())
        series_values[f"{metric}{{{selector}}}"] = values

    series_values: dict[str, str] = {}
    series("gateway", "gleaner_store_down", "0x200")
    series("gateway", "gleaner_http_requests_total", "0+60x200", route="/v1/jobs", status="202")
    series("gateway", "gleaner_submitted_jobs_total", "0+60x200")
    series("courier", "gleaner_webhook_endpoints_disabled", "0x200")
    series("courier", "gleaner_store_up", "1x200")
    series("courier", "gleaner_store_durable", "1x200")
    for component in ("gateway", "courier", "worker"):
        series(component, "process_start_time_seconds", "100x200")
    for model in MODELS:
        series("courier", "gleaner_open_shards", "3x200", model=model)
        series("courier", "gleaner_live_workers", "1x200", model=model)
        series("worker", "gleaner_model_info", "1x200", model=model)
    series("worker", "gleaner_documents_total", "0+600x200", status="succeeded", code="ok")
    series("worker", "gleaner_model_ready", "1x200")
    return series_values


def _promtool_test(tool: Tool, folder: Path, rules: list[dict[str, Any]], case: dict[str, Any]) -> None:
    """Run a case with rules in the order of a Prometheus' groups."""
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    test = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [{"interval": "1m", **case}]}
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    tested = run(tool("promtool"), "test", "rules", str(folder / "test.yml"))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("scraper", SCRAPERS)
def test_nothing_fires_while_all_is_well(tool: Tool, tmp_path: Path, scraper: str) -> None:
    """Whatever names jobs and labels, a healthy installation is a quiet one."""
    rules = _list_rules(None)
    checks = [{"eval_time": "180m", "alertname": name, "exp_alerts": []} for name in ALERTS]
    series = [{"series": name, "values": values} for name, values in _healthy("gleaner", scraper).items()]
    _promtool_test(tool, tmp_path, rules, {"input_series": series, "alert_rule_test": checks})


@pytest.mark.parametrize("scraper", SCRAPERS)
def test_a_broken_installation_is_not_hidden_by_a_healthy_one(tool: Tool, tmp_path: Path, scraper: str) -> None:
    """Every process of one is gone, its neighbour works on: each absence is a page, with its namespace."""
    gone = {name: values.replace("x200", "x20") + " stale" for name, values in _healthy("gleaner", scraper).items()}
    series = {**_healthy("other", scraper), **gone}
    cluster = {"cluster": "eu1"} if scraper == "PodMonitoring" else {}
    names = ("GleanerGatewayDown", "GleanerCourierDown")
    rules = [rule for rule in _list_rules(None) if rule.get("alert") in names]
    for rule in rules:
        rule.pop("annotations")
    expected = {"namespace": "gleaner", "severity": "page", "level": "L2", "team": "platform"}
    page = [{"exp_labels": {**expected, **cluster}}]
    checks = [{"eval_time": "60m", "alertname": name, "exp_alerts": page} for name in names]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    _promtool_test(tool, tmp_path, rules, {"input_series": inputs, "alert_rule_test": checks})


def test_each_operator_reads_its_own_kinds() -> None:
    """Google's managed Prometheus has its own kinds, Azure's its own group; neither needs an annotation."""

    def kinds(operator: str, rules: bool) -> set[tuple[str, str]]:
        values = {"monitoring": {"operator": operator, "serviceMonitors": True, "rules": rules}}
        documents = chart.render_manifests({**values, "flower": {"enabled": False}})
        monitoring = [document for document in documents if "monitoring." in document["apiVersion"]]
        return {(document["apiVersion"], document["kind"]) for document in monitoring}

    google = "monitoring.googleapis.com/v1"
    assert kinds("google", True) == {(google, "PodMonitoring"), (google, "Rules")}
    assert kinds("azure", False) == {("azmonitoring.coreos.com/v1", "PodMonitor")}
    operator = "monitoring.coreos.com/v1"
    assert kinds("prometheus", True) == {(operator, "PodMonitor"), (operator, "PrometheusRule")}
    with pytest.raises(Exception, match="--managed azure"):
        kinds("azure", True)


def test_rules_are_not_made_where_nobody_reads_them() -> None:
    """`auto` on Azure: its group has monitors, but no rules."""
    values = {"monitoring": {"operator": "azure", "rules": "auto", "serviceMonitors": True}}
    text = "".join(chart.render_templates(values, ("azmonitoring.coreos.com/v1",)).values())
    assert "kind: PodMonitor\n" in text
    assert "PrometheusRule" not in text


def _from_azure(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule of Azure's with Prometheus' names."""
    names = {"expression": "expr", "record": "record", "alert": "alert"}
    return {names[name]: value for name, value in rule.items() if name in names}


def test_managed_prometheus_gets_the_same_rules(tool: Tool, tmp_path: Path) -> None:
    """Three clouds' files have all groups, within Azure's limits, and promtool reads their expressions."""
    expected = [rule for group in generate.rule_groups().values() for rule in group.to_rules()]
    documents = list(yaml.safe_load_all(managed.render_google()["google-rules.yaml"]))
    groups = [group for document in documents for group in document["spec"]["groups"]]
    assert [rule for group in groups for rule in group["rules"]] == expected
    groups = yaml.safe_load(managed.render_aws()["aws-rules.yaml"])["groups"]
    assert [rule for group in groups for rule in group["rules"]] == expected
    resources = json.loads(managed.render_azure()["azure-rules.json"])["resources"]
    rules = [resource["properties"]["rules"] for resource in resources]
    assert max(map(len, rules)) <= 20  # Azure's limit of rules per group
    converted = [_from_azure(rule) for group in rules for rule in group]
    assert [rule["expr"] for rule in converted] == [rule["expr"] for rule in expected]
    assert not [text for text in _strings(rules) if text.startswith("[") and not text.startswith("[parameters(")]
    path = tmp_path / "azure.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": converted}]}))
    checked = run(tool("promtool"), "check", "rules", str(path))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _strings(part)]


def test_durations_are_azures() -> None:
    """`20m` is PT20M; what has another form is refused."""
    assert managed.to_iso_duration("20m") == "PT20M"
    with pytest.raises(ValueError, match="1h30m"):
        managed.to_iso_duration("1h30m")


def test_vector_has_what_its_configuration_reads() -> None:
    """The password's variable and the folder of the authority's certificate are in the same values."""
    text = (chart.ROOT / "deploy" / "vector.yaml").read_text()
    values = yaml.safe_load(text)
    assert {entry["name"] for entry in values["env"]} == set(re.findall(r"\$\{(\w+)\}", text))
    sink = values["customConfig"]["sinks"]["elasticsearch"]
    mounts = {mount["mountPath"]: mount["name"] for mount in values["extraVolumeMounts"]}
    folder = str(Path(sink["tls"]["ca_file"]).parent)
    assert mounts[folder] in {volume["name"] for volume in values["extraVolumes"]}
