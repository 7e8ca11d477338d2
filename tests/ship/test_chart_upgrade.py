"""The chart where a release exists: what is there decides what is rendered."""

from __future__ import annotations

import base64
import copy
import shutil
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest

from tests.support import chart
from tests.support.cluster import render_live

TEMPLATED = ("Deployment", "StatefulSet")


def _encode(**data: str) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


def _secret(name: str, **data: str) -> chart.Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": _encode(**data)}


@pytest.fixture(scope="module")
def release() -> list[chart.Manifest]:
    """Return what the first installation created."""
    return render_live([], {"secrets": {"encryptionSecret": "e"}})


def _upgraded(objects: list[chart.Manifest], **values: Any) -> list[chart.Manifest]:
    return render_live(objects, {"secrets": {"encryptionSecret": "e"}} | values)


def test_an_upgrade_without_a_change_changes_nothing(release: list[chart.Manifest]) -> None:
    """No Secret is rendered again, and every pod template, checksums included, is the one of the installation."""
    again = _upgraded(release)
    assert chart.select_kinds(again, "Secret") == []
    assert chart.select_kinds(again, *TEMPLATED) == chart.select_kinds(release, *TEMPLATED)


def test_a_secret_of_yours_is_used_as_it_is(release: list[chart.Manifest]) -> None:
    """The others are created; with a keys file of yours no key for the test is invented."""
    documents = render_live([_secret("gleaner-keys", **{"keys.json": "{}"})])
    names = {secret["metadata"]["name"] for secret in chart.select_kinds(documents, "Secret")}
    assert names == {"gleaner-flower", "gleaner-valkey"}
    assert "gleaner-keys" in {secret["metadata"]["name"] for secret in chart.select_kinds(release, "Secret")}


def test_a_changed_password_replaces_the_pods_that_read_it(release: list[chart.Manifest]) -> None:
    """An upgrade after a rotation restarts the gateway, no worker and no Valkey; new API keys restart nothing."""
    objects = copy.deepcopy(release)
    for name, data in (
        # pragma: allowlist nextline secret
        ("gleaner-valkey", {"gateway-password": "new"}),
        ("gleaner-keys", {"keys.json": "{}"}),
    ):
        chart.find_manifest(objects, "Secret", name)["data"] |= _encode(**data)
    changed = {
        after["metadata"]["name"]
        for before, after in zip(
            chart.select_kinds(release, *TEMPLATED), chart.select_kinds(_upgraded(objects), *TEMPLATED), strict=True
        )
        if before != after
    }
    assert changed == {"gleaner-gateway"}


@pytest.mark.parametrize("running", [0, 5])
def test_replicas_stay_what_keda_made_them(release: list[chart.Manifest], running: int) -> None:
    """An upgrade at the peak stops nobody, and one at night starts nobody; a new model starts with none."""
    objects = copy.deepcopy(release)
    chart.find_manifest(objects, "Deployment", "gleaner-worker-gleaner-small")["spec"]["replicas"] = running
    documents = _upgraded(objects, models={"gleaner-small": {}, "new": {}})
    replicas = {
        name: chart.find_manifest(documents, "Deployment", f"gleaner-worker-{name}")["spec"]["replicas"]
        for name in ("gleaner-small", "new")
    }
    assert replicas == {"gleaner-small": running, "new": 0}


def test_argo_cd_never_renders_random_values_or_replicas(release: list[chart.Manifest]) -> None:
    """With `gitops` the cluster is not asked, whatever Argo CD says that it has."""
    assert "Secret" not in {document["kind"] for document in render_live([], {"gitops": True})}
    assert render_live([], {"gitops": True}) == render_live(release, {"gitops": True})


@pytest.mark.parametrize(
    ("objects", "values", "words"),
    [
        ([], {"secrets": {"generate": False}}, "Secret gleaner-keys with keys.json"),
        # pragma: allowlist nextline secret
        ([_secret("gleaner-valkey", password="old")], {}, "key gateway-password in Secret gleaner-valkey"),
        ([], {"valkey": {"enabled": False}, "store": {"address": "s:1", "networks": ["10.0.0.0/8"]}}, "ledger-url"),
        ([], {"ingress": {"enabled": True}}, "Secret gleaner-tls with tls.crt, tls.key"),
    ],
)
def test_what_a_release_lacks_is_named(objects: list[chart.Manifest], values: dict[str, Any], words: str) -> None:
    """An absent Secret that nobody makes, or one without a key, ends the upgrade before anything changes."""
    with pytest.raises(helm.HelmError, match=words):
        render_live(objects, values)
    assert render_live(objects, values | {"preflight": False})


STORE = {
    "address": "s:1",
    "networks": ["10.0.0.0/8"],
    "kedaSecret": "k",
    "secrets": {"gateway": "g", "worker": "w", "courier": "c", "flower": "f"},
}
SEPARATE_USERS = {"valkey": {"enabled": False}, "store": STORE}
STORE_SECRETS = [
    *(_secret(name, **{"ledger-url": name, "broker-url": name}) for name in "gwc"),
    _secret("f", **{"broker-url": "f"}),
    _secret("k", username="u", password="p"),  # pragma: allowlist secret
]


def test_an_external_server_needs_the_secrets_that_its_processes_read() -> None:
    """With a Secret for each process and KEDA the shared one is not asked for, and an absent one is named."""
    assert render_live(STORE_SECRETS, SEPARATE_USERS)
    for number, secret in enumerate(STORE_SECRETS):
        rest = STORE_SECRETS[:number] + STORE_SECRETS[number + 1 :]
        with pytest.raises(helm.HelmError, match=f"lacks: Secret {secret['metadata']['name']} with"):
            render_live(rest, SEPARATE_USERS)


def test_a_changed_url_of_one_process_restarts_that_process() -> None:
    """Its checksum covers its own Secret."""
    changed = [copy.deepcopy(secret) for secret in STORE_SECRETS]
    changed[1]["data"] |= _encode(**{"ledger-url": "new"})
    values = SEPARATE_USERS | {"flower": {"enabled": False}}  # its page's password is generated, and so always new
    before, after = (
        chart.select_kinds(render_live(secrets, values), "Deployment") for secrets in (STORE_SECRETS, changed)
    )
    assert [new["metadata"]["name"] for old, new in zip(before, after, strict=True) if old != new] == [
        "gleaner-worker-gleaner-small"
    ]


def test_external_secrets_makes_the_secrets_of_separate_users() -> None:
    """Each process's Secret comes from its path; one without a path is the operator's."""
    remotes = {"gateway": "r/g", "flower": "r/f"}
    external = {"enabled": True, "store": {"name": "vault"}, "storeRemotes": remotes}
    documents = chart.render_manifests(SEPARATE_USERS | {"externalSecrets": external})
    sources = {
        document["metadata"]["name"]: document["spec"]["data"]
        for document in chart.select_kinds(documents, "ExternalSecret")
    }
    assert [entry["remoteRef"] for entry in sources["g"]] == [
        {"key": "r/g", "property": "ledger-url"}, {"key": "r/g", "property": "broker-url"},
    ]  # fmt: skip
    assert [entry["remoteRef"] for entry in sources["f"]] == [{"key": "r/f"}]
    assert not {"gleaner-store", "w", "c"} & set(sources)
    assert "k" in sources


def test_a_rollout_starts_as_large_as_it_must(release: list[chart.Manifest]) -> None:
    """The running Deployment keeps its pods while the Rollout starts with the HPA's minimum."""
    objects = copy.deepcopy(release)
    chart.find_manifest(objects, "Deployment", "gleaner-gateway")["spec"]["replicas"] = 4
    documents = _upgraded(objects, gateway={"rollout": {"enabled": True}})
    assert chart.find_manifest(documents, "Deployment", "gleaner-gateway")["spec"]["replicas"] == 4
    assert chart.find_manifest(documents, "Rollout", "gleaner-gateway")["spec"]["replicas"] == 2


def test_a_new_chart_alone_restarts_no_pod(tmp_path: Path) -> None:
    """Images and settings make new pods, the version of the chart does not: Valkey would load its file again."""
    newer = tmp_path / "gleaner"
    shutil.copytree(chart.CHART, newer)
    text = (newer / "Chart.yaml").read_text()
    assert "\nversion: 0.1.0\n" in text
    (newer / "Chart.yaml").write_text(text.replace("\nversion: 0.1.0\n", "\nversion: 0.1.1\n"))
    before, after = (
        {
            manifest["metadata"]["name"]: manifest["spec"]["template"]
            for manifest in chart.select_kinds(chart.render_manifests(chart=folder), *TEMPLATED)
        }
        for folder in (chart.CHART, newer)
    )
    assert before == after
    assert "gleaner-valkey" in before
