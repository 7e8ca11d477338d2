"""The commands of all pages, held against the rendered chart, the CLI, and kubectl itself."""

from __future__ import annotations

import ast
import functools
import itertools
import json
import logging
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from alerts.managed import FORMATS
from gleaner.cli.app import app
from jobs.observability.logs import _GoogleFormatter, _JsonFormatter
from tests.conftest import ROOT, Tool
from tests.operations.pages.recorder import PAGES, UNTRIED, Call, list_commands, record_calls
from tests.repo.test_docs import resolves
from tests.support import chart

COMMANDS = {name: list_commands(page) for name, page in PAGES.items()}
EACH_PAGE = pytest.mark.parametrize("page", [name for name, codes in COMMANDS.items() if codes])
IMAGES = {"gateway": {"gleaner", "python", "sh"}, "worker": {"python"}, "courier": {"gleaner", "python"}}
IMAGES |= {"valkey": {"sh", "df", "du"}}
"""Programs in the images, by component."""
ADDED = {"cronjob gleaner-backup", "job gleaner-restore", "secret gleaner-encryption", "secret gleaner-backup"}
ADDED |= {"pod gleaner-valkey-1"}
"""Objects of production, or of replicas, only."""
ADDED_COMPONENTS = {("app.kubernetes.io/component", name) for name in ("backup", "sentinel")}
DEFAULT = {"scaledobject gleaner-worker-gleaner-small"}
"""Objects that production does not have."""
NEWER = ("--for=jsonpath", "deployment,statefulset")
"""Known to kubectl since about 1.24; the one that the tests get from Debian is 1.20."""
PLACEHOLDER = re.compile(r"^[A-Z][A-Z0-9_-]*$")
OF_CLUSTER = {"node", "pv", "namespace"}
KINDS = {"deploy": "deployment", "sts": "statefulset", "pods": "pod", "jobs": "job", "pvc": "persistentvolumeclaim"}
SHORT = {"--namespace": "-n", "--selector": "-l", "--output": "-o", "--patch": "-p", "--filename": "-f"}
VALUED = {*SHORT.values(), "-c", "--timeout", "--replicas", "--patch-file"}

Calls = dict[str, list[Call]]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    """Return the programs that each page's commands start."""
    workplace = tmp_path_factory.mktemp("page")
    return {name: record_calls(codes, workplace) for name, codes in COMMANDS.items() if codes}


@pytest.fixture(scope="module")
def releases() -> list[list[chart.Manifest]]:
    """Render the defaults with KEDA, and production with a replica during a restore."""
    restore = {"backup": {"fetch": {"enabled": True}}}
    plain = {"keda": {"enabled": True}}
    production = chart.merge_values(chart.read_overlay("prod"), plain, restore, {"valkey": {"replicas": 1}})
    return [chart.render_manifests(plain), chart.render_manifests(production)]


def list_kubectl(calls: list[Call]) -> list[list[str]]:
    """Return the arguments of each call of kubectl: short options, the namespace first."""
    commands = []
    for call in calls:
        if call.program != "kubectl" or len(call.arguments) < 3:  # a sentence names a command without its object
            continue
        words = [SHORT.get(word, word) for word in call.arguments]
        if "-n" in words:
            at = words.index("-n")
            words = [*words[at : at + 2], *words[:at], *words[at + 2 :]]
        commands.append(words)
    return commands


@EACH_PAGE
def test_every_program_is_one_that_a_person_has(calls: Calls, page: str) -> None:
    """Nothing is misspelt, and what is not a program of ours does what it should, our scripts included."""
    assert [str(call) for call in calls[page] if call.program in ("not found", "failed")] == []


@EACH_PAGE
def test_the_cli_knows_the_command(calls: Calls, page: str) -> None:
    """`gleaner` has these subcommands and options, also inside a pod."""
    for call in calls[page]:
        words = [call.program, *call.arguments]
        words = words[words.index("--") + 1 :] if "--" in words else words
        if words[0] == "keys.sh":
            assert words[1:3] == ["gleaner", "gleaner-gateway"], str(call)
            words = ["gleaner", "keys", *words[3:]]
        if words[0] == "gleaner":
            # A value for an option that a sentence names without one; otherwise --help would become it.
            words += ["x"] if words[-1].startswith("-") else []
            parsed = CliRunner().invoke(app, [*words[1:], "--help"])
            assert parsed.exit_code == 0, (str(call), parsed.output)


@EACH_PAGE
def test_kubectl_takes_the_options(tool: Tool, calls: Calls, page: str) -> None:
    """Kubectl itself parses the command; it fails only because no cluster answers."""
    for words in list_kubectl(calls[page]):
        if "apply" not in words and not any(newer in word for word in words for newer in NEWER):
            assert "refused" in _try_kubectl(tool("kubectl"), tuple(words)), words


@functools.cache
def _try_kubectl(program: Path, words: tuple[str, ...]) -> str:
    nowhere = ["--server=http://127.0.0.1:9", "--request-timeout=2s"]
    words = tuple(word for word in words if word not in ("--patch-file", "passwords.yaml"))
    words = tuple(re.sub("=N$", "=1", word) for word in words)
    words += ("-p", "{}") if "patch" in words and "-p" not in words else ()
    tried = subprocess.run([program, *nowhere, *words], capture_output=True, text=True, timeout=60, check=False)
    return tried.stderr


@EACH_PAGE
def test_what_kubectl_names_is_made_by_the_chart(
    releases: list[list[chart.Manifest]], calls: Calls, page: str
) -> None:
    """Objects, labels and containers of the command exist in both releases; the namespace is named."""
    for words in list_kubectl(calls[page]):
        kinds, names, labels = _read_targets(words)
        if (kinds or names) and not kinds & OF_CLUSTER:
            assert words[:2] in (["-n", "gleaner"], ["-n", "gleaner-drill"]), words
        for name in names:
            name = name.replace("drill-gleaner", "gleaner")
            for documents in releases[name in ADDED : 2 - (name in DEFAULT)]:
                assert name in _list_names(documents), (words, name)
        wanted = {tuple(label.split("=", 1)) for label in labels}
        for documents in releases[bool(wanted & ADDED_COMPONENTS) :]:
            assert not wanted or _is_carried(wanted, kinds, documents), (words, labels)


def _is_carried(wanted: set[tuple[str, ...]], kinds: set[str], documents: list[chart.Manifest]) -> bool:
    """Return True if an object of one of the kinds has all labels."""
    carriers = [carried for kind, carried in _list_labels(documents) if not kinds or kind in kinds]
    return any(
        all(carried.get(key) == value or PLACEHOLDER.match(value) for key, value in wanted) for carried in carriers
    )


@EACH_PAGE
def test_what_runs_in_a_pod_is_in_its_image(releases: list[list[chart.Manifest]], calls: Calls, page: str) -> None:
    """Programs, scripts and Python code of `kubectl exec`."""
    for words in list_kubectl(calls[page]):
        if "exec" not in words:
            continue
        target, inside = words[words.index("exec") + 1], words[words.index("--") + 1 :]
        component = next((name for name in IMAGES if f"gleaner-{name}" in target), "")
        programs = IMAGES[component] if component else set().union(*IMAGES.values())
        assert component or target == "POD", words
        assert inside[0] in programs, words
        if inside[0] == "sh" and component == "valkey":
            folder, _, script = inside[1].rpartition("/")
            assert folder == "/etc/valkey"
            for documents in releases[f"pod {target}" in ADDED :]:
                assert script in chart.find_manifest(documents, "ConfigMap", "gleaner-valkey")["data"], words
        if inside[0] == "python":
            ast.parse(inside[2])


@EACH_PAGE
def test_logs_of_several_pods_are_complete(calls: Calls, page: str) -> None:
    """With a selector kubectl prints ten lines of a pod by default."""
    for words in list_kubectl(calls[page]):
        if "logs" in words and "-l" in words:
            assert any(word.startswith("--tail") for word in words), words


@EACH_PAGE
def test_a_search_for_a_level_finds_our_lines(calls: Calls, page: str) -> None:
    """`grep` for a level matches a line as the processes write it."""
    for call in calls[page]:
        if call.program == "grep" and "ERROR" in call.arguments[-1]:
            for formatter in (_JsonFormatter, _GoogleFormatter):
                line = formatter({}).format(logging.makeLogRecord({"levelname": "ERROR", "msg": "worker.hung"}))
                assert re.search(call.arguments[-1], line), (str(call), line)


@EACH_PAGE
def test_what_is_installed_and_started_exists(calls: Calls, page: str) -> None:
    """Extras of `pip install`, modules and options of `python -m`, files and stages of `docker build`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for call in calls[page]:
        words = call.arguments
        if call.program == "pip":
            [(extras,)] = [re.findall(r"^gleaner-ner\[(.*)\]$", word) or [""] for word in words[1:]]
            assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"]), words
        elif call.program == "python":
            assert resolves(words[1]), words
            if words[1] == "alerts":
                assert dict(itertools.pairwise(words))["--managed"] in FORMATS
        elif call.program == "docker" and words[0] == "build":
            options = dict(itertools.pairwise(words))
            text = (ROOT / options["-f"]).read_text()
            assert "--target" not in options or f" AS {options['--target']}\n" in text, words


def test_what_is_not_tried_has_a_reason() -> None:
    """The mark is always followed by one."""
    for name, page in PAGES.items():
        for line in page.read_text().splitlines():
            if "not tried" in line and name != "docs/runbooks/README.md":
                assert UNTRIED.search(line), (name, line)


def test_a_mistake_is_noticed(tmp_path: Path) -> None:
    """A program that does not exist, a script that refuses its arguments, and each call of a pipe or loop."""
    codes = [
        "kubctl get pods | grep x", "deploy/release.sh deploy production aws REGISTRY",
        'for name in a b; do kubectl get pod "$name"; done',
    ]  # fmt: skip
    recorded = record_calls(codes, tmp_path)
    assert {call.program for call in recorded} == {"not found", "grep", "failed", "kubectl"}
    assert [str(call) for call in recorded if call.program == "kubectl"] == [
        "kubectl get pod a",
        "kubectl get pod b",
    ]
    with pytest.raises(ValueError, match="done"):
        record_calls(["for name in a; done"], tmp_path)
    assert "kubctl get pods" in {" ".join(call.arguments) for call in recorded}


def _read_targets(words: list[str]) -> tuple[set[str], list[str], list[str]]:
    """Return kinds, `kind name` of each object, and label selectors of a kubectl command."""
    labels = [after for word, after in itertools.pairwise(words) if word == "-l"]
    if "--" in words:
        words = words[: words.index("--")]
    plain = [
        word
        for at, word in enumerate(words)
        if not word.startswith("-") and (not at or words[at - 1] not in VALUED)
    ]
    verb, *rest = plain
    if verb == "rollout":
        verb, *rest = rest
    kinds = {"pod"} if verb in {"exec", "logs", "top"} else {"node"} if verb in {"cordon", "drain"} else set()
    objects = []
    if rest and "/" in rest[0]:
        kind, _, name = rest[0].partition("/")
        objects = [f"{_singular(kind)} {name}"]
    elif rest and verb in {"exec", "logs"}:
        objects = [f"pod {rest[0]}"]
    elif rest and verb not in {"create", "cordon", "drain"}:
        kinds = {_singular(kind) for kind in rest[0].split(",")}
        objects = [f"{kind} {name}" for kind in kinds for name in rest[1:2] if not labels]
    objects += [f"{_singular(k)} {n}" for k, n in re.findall(r"--from=(\w+)/(\S+)", " ".join(words))]
    objects = [name for name in objects if not PLACEHOLDER.match(name.split()[1]) and "=" not in name]
    labels = [part for label in labels for part in label.split(",")]
    return kinds, [name for name in objects if name.split()[0] not in OF_CLUSTER], labels


def _singular(kind: str) -> str:
    return KINDS.get(kind, kind)


def _list_names(documents: list[chart.Manifest]) -> set[str]:
    """Return `kind name` of every object, a StatefulSet's pod and claim, and every Secret that a pod reads."""
    names = {f"{document['kind'].lower()} {document['metadata']['name']}" for document in documents}
    for document in chart.select_kinds(documents, "StatefulSet"):
        name = document["metadata"]["name"]
        for number in range(document["spec"]["replicas"]):
            names |= {f"pod {name}-{number}", f"persistentvolumeclaim data-{name}-{number}"}
    text = json.dumps(documents)
    secrets = re.findall(r'"secretName": "([^"]+)"|"(?:secretKeyRef|secretRef)": \{[^}]*"name": "([^"]+)"', text)
    return names | {f"secret {mounted or read}" for mounted, read in secrets}


def _list_labels(documents: list[chart.Manifest]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield kind and labels of objects and pods; a CronJob's template has those of its Jobs."""
    for document in documents:
        yield document["kind"].lower(), document["metadata"].get("labels", {})
        spec: dict[str, Any] = document.get("spec", {})
        template = spec.get("jobTemplate", spec)
        if "jobTemplate" in spec:
            yield "job", template["metadata"].get("labels", {})
            template = template["spec"]
        if "template" in template:
            yield "pod", template["template"]["metadata"]["labels"]
        if "volumeClaimTemplates" in spec:  # the controller gives claims the labels of the selector
            yield "persistentvolumeclaim", spec["selector"]["matchLabels"]
