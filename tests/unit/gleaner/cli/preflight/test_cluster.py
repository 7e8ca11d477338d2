"""Facts of a cluster from kubectl's output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.preflight.cluster import make_kubectl, parse_node, read_facts, read_server
from gleaner.cli.preflight.requirements import ObjectNeed, Quota, Requirements

CRD = {
    "spec": {
        "group": "keda.sh",
        "names": {"kind": "ScaledObject"},
        "versions": [{"name": "v1alpha1", "served": True}, {"name": "v1", "served": False}],
    }
}


def fake_kubectl(answers: dict[str, Any]) -> Callable[[Sequence[str]], str]:
    """Return a kubectl with an answer by the first words of its arguments; others are forbidden."""

    def run(arguments: Sequence[str]) -> str:
        answer = answers.get(" ".join(arguments[:2]))
        if answer is None:
            raise CommandError(f"{arguments[1]} is forbidden")
        return answer if isinstance(answer, str) else json.dumps(answer)

    return run


def test_a_server_has_a_version_and_the_kinds_that_it_serves() -> None:
    """Versions that are defined and not served are left out."""
    kubectl = fake_kubectl(
        {
            "version -o": {"serverVersion": {"gitVersion": "v1.36.2"}},
            "get customresourcedefinitions": {"items": [CRD]},
        }
    )
    assert read_server(kubectl) == ("v1.36.2", frozenset({("keda.sh", "v1alpha1", "ScaledObject")}))


@pytest.mark.parametrize(
    "answers", [{}, {"version -o": {"clientVersion": {}}}, {"version -o": {"serverVersion": {"gitVersion": "v1"}}}]
)
def test_a_cluster_that_cannot_be_read_is_refused(answers: dict[str, Any]) -> None:
    """Unreachable, without a server's version, or without the right to list definitions."""
    with pytest.raises(CommandError, match=r"the cluster cannot be read: .*--offline"):
        read_server(fake_kubectl(answers))


def test_objects_are_read_by_kind_with_the_keys_of_secrets() -> None:
    """A request per kind and namespace; kinds that may not be listed are named with the reason."""
    needs = Requirements(objects=(
        ObjectNeed("Secret", "s", "ns"), ObjectNeed("Gateway", "g", "infra"), ObjectNeed("StorageClass", "", ""),
        ObjectNeed("ConfigMap", "c", "ns"),
    ))  # fmt: skip
    default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    facts = read_facts(
        fake_kubectl(
            {
                "get secret": "a\nb k1 k2\n\n",  # pragma: allowlist secret
                "get gateway.gateway.networking.k8s.io": {"items": [{"metadata": {"name": "g"}}]},
                "get storageclass": {"items": [{"metadata": {"name": "fast", **default}}]},
                "get resourcequotas": {"items": [{"metadata": {"name": "q"}, "status": {"hard": {"pods": "3"}}}]},
            }
        ),
        needs,
        "ns",
        frozenset({("g", "v", "k")}),
    )
    assert facts.objects == {
        ("Secret", "ns", "a"): frozenset(),
        ("Secret", "ns", "b"): frozenset({"k1", "k2"}),
        ("Gateway", "infra", "g"): frozenset(),
        ("StorageClass", "", "fast"): frozenset(),
        ("StorageClass", "", ""): frozenset(),
    }
    assert facts.apis == {("g", "v", "k")}
    assert facts.quotas == (Quota("q", {"pods": Decimal(3)}),)
    assert facts.unreadable == {"ConfigMap": "configmap is forbidden", "Node": "nodes is forbidden"}


def test_a_node_is_read_with_defaults() -> None:
    """A node without labels, taints and capacity is schedulable and offers nothing."""
    bare = parse_node({"metadata": {"name": "n"}})
    assert (bare.labels, bare.taints, bare.allocatable, bare.schedulable) == ({}, (), {}, True)
    full = parse_node(
        {
            "metadata": {"name": "n", "labels": {"a": "b"}},
            "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}], "unschedulable": True},
            "status": {"allocatable": {"cpu": "3920m"}},
        }
    )
    assert (full.allocatable, full.schedulable, len(full.taints)) == ({"cpu": Decimal("3.92")}, False, 1)


def test_kubectl_runs_with_its_context_and_its_last_line_is_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing program is named."""
    program = tmp_path / "kubectl"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:])\nsys.exit('a\\nb' if 'bad' in sys.argv else 0)"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert make_kubectl("staging")(["get", "pods"]).startswith(
        "['--context', 'staging', '--request-timeout=60s', 'get'"
    )
    with pytest.raises(CommandError, match=r"^b$"):
        make_kubectl(None)(["bad"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandError, match="kubectl is not on the PATH"):
        make_kubectl(None)
