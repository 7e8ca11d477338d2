"""The commands of runbooks and recovery, held against the rendered chart, the CLI, and kubectl itself."""

from __future__ import annotations

import ast
import itertools
import logging
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gleaner.cli.app import app
from jobs.observability.logs import _GoogleFormatter, _JsonFormatter
from tests.conftest import ROOT, Tool
from tests.support import chart

PAGES = [*sorted((ROOT / "docs" / "runbooks").glob("Gleaner*.md")), ROOT / "docs/how-to/disaster-recovery.md"]
BLOCK = re.compile(r"^ *```sh[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:kubectl|helm|gleaner) [^`]+)`")
UNTRIED = re.compile(r"# not tried: \S.*$")
HERE = {"amtool", "cmctl", "curl", "export", "grep", "head", "jq", "openssl", "xargs"}
"""Programs of the person's own machine that no test calls."""
IMAGES = {"gateway": {"gleaner", "python"}, "worker": {"python"}, "courier": {"gleaner", "python"}}
IMAGES |= {"valkey": {"sh", "df", "du"}}
"""Programs in the images, by component."""
ADDED = {"cronjob gleaner-backup", "job gleaner-restore"}
"""Objects of production only."""
PLACEHOLDER = re.compile(r"^[A-Z][A-Z0-9_-]*$")
OF_CLUSTER = {"node", "pv", "namespace"}
KINDS = {"deploy": "deployment", "sts": "statefulset", "pods": "pod", "jobs": "job", "pvc": "persistentvolumeclaim"}


def list_commands(page: Path) -> Iterator[str]:
    """Yield a page's commands, of its blocks and inside its sentences, without those marked as not tried."""
    text = page.read_text()
    lines = [line.strip() for block in BLOCK.findall(text) for line in block.splitlines()]
    for line in [*lines, *INLINE.findall(BLOCK.sub("", text))]:
        if line and not line.startswith("#") and not UNTRIED.search(line):
            yield re.sub(r"\s+", " ", line)


COMMANDS = sorted({(page.stem, command) for page in PAGES for command in list_commands(page)})
EACH = pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page}: {text}" for page, text in COMMANDS])


def split_command(command: str) -> list[list[str]]:
    """Return the programs of a pipe, each with its arguments; `A=B` before a program is dropped."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    programs: list[list[str]] = [[]]
    for word in lexer:
        if word == "|":
            programs.append([])
        else:
            programs[-1].append(word)
    return programs


def kubectl_commands() -> list[tuple[str, list[str]]]:
    """Return page and arguments of every call of kubectl."""
    calls = [(page, words) for page, command in COMMANDS for words in split_command(command)]
    return [(page, words[1:]) for page, words in calls if words[0] == "kubectl"]


KUBECTL = pytest.mark.parametrize(
    ("page", "words"), kubectl_commands(), ids=[f"{p}: {' '.join(w)}" for p, w in kubectl_commands()]
)


@pytest.fixture(scope="module")
def releases() -> list[list[chart.Manifest]]:
    """Render the defaults with KEDA, and production during a restore."""
    restore = {"backup": {"fetch": {"enabled": True}}}
    plain = {"keda": {"enabled": True}}
    production = chart.merge_values(chart.read_overlay("prod"), plain, restore)
    return [chart.render_manifests(plain), chart.render_manifests(production)]


@EACH
def test_every_program_is_one_that_a_person_has(page: str, command: str) -> None:
    """A pipe consists of kubectl, helm, our CLI, and what every machine has."""
    for program in split_command(command):
        assert program[0] in HERE | {"kubectl", "helm", "gleaner"}, (page, command)


@EACH
def test_the_cli_knows_the_command(page: str, command: str) -> None:
    """`gleaner` has these subcommands and options, also inside a pod."""
    for program in split_command(command):
        words = program[program.index("--") + 1 :] if "--" in program else program
        if words[0] == "xargs":
            words = words[words.index("gleaner") :]
        if words[0] == "gleaner":
            parsed = CliRunner().invoke(app, [*words[1:], "--help"])
            assert parsed.exit_code == 0, (page, command, parsed.output)


@KUBECTL
def test_kubectl_takes_the_options(tool: Tool, page: str, words: list[str]) -> None:
    """Kubectl itself parses the command; it fails only because no cluster answers."""
    nowhere = ["--server=http://127.0.0.1:9", "--request-timeout=2s"]
    command = [str(tool("kubectl")), *nowhere, *words]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "refused" in tried.stderr, (page, tried.stderr)


@KUBECTL
def test_what_kubectl_names_is_made_by_the_chart(
    releases: list[list[chart.Manifest]], page: str, words: list[str]
) -> None:
    """Objects, labels and containers of the command exist in both releases; the namespace is named."""
    kinds, names, labels = _read_targets(words)
    if kinds and not kinds & OF_CLUSTER:
        assert words[:2] in (["-n", "gleaner"], ["-n", "gleaner-drill"]), page
    for name in names:
        name = name.replace("drill-gleaner", "gleaner")
        for documents in releases[name in ADDED :]:
            assert name in _list_names(documents), (page, name)
    wanted = {tuple(label.split("=", 1)) for label in labels}
    for documents in releases[("app.kubernetes.io/component", "backup") in wanted :]:
        carriers = [carried for kind, carried in _list_labels(documents) if not kinds or kind in kinds]
        assert (
            any(
                all(carried.get(key) == value or PLACEHOLDER.match(value) for key, value in wanted)
                for carried in carriers
            )
            or not wanted
        ), (page, labels)


@KUBECTL
def test_what_runs_in_a_pod_is_in_its_image(
    releases: list[list[chart.Manifest]], page: str, words: list[str]
) -> None:
    """Programs, scripts and Python code of `kubectl exec`."""
    if "exec" not in words:
        return
    target, inside = words[words.index("exec") + 1], words[words.index("--") + 1 :]
    component = next((name for name in IMAGES if f"gleaner-{name}" in target), "")
    programs = IMAGES[component] if component else set().union(*IMAGES.values())
    assert component or target == "POD", (page, target)
    assert inside[0] in programs, (page, words)
    if inside[0] == "sh":
        folder, _, script = inside[1].rpartition("/")
        assert folder == "/etc/valkey"
        for documents in releases:
            assert script in chart.find_manifest(documents, "ConfigMap", "gleaner-valkey")["data"], page
    if inside[0] == "python":
        ast.parse(inside[2])


@KUBECTL
def test_logs_of_several_pods_are_complete(page: str, words: list[str]) -> None:
    """With a selector kubectl prints ten lines of a pod by default."""
    if "logs" in words and "-l" in words:
        assert any(word.startswith("--tail") for word in words), page


@EACH
def test_a_search_for_a_level_finds_our_lines(page: str, command: str) -> None:
    """`grep` for a level matches a line as the processes write it."""
    for program in split_command(command):
        if program[0] == "grep" and "ERROR" in program[-1]:
            for formatter in (_JsonFormatter, _GoogleFormatter):
                line = formatter({}).format(logging.makeLogRecord({"levelname": "ERROR", "msg": "worker.hung"}))
                assert re.search(program[-1], line), (page, program[-1], line)


@EACH
def test_helm_sets_values_that_exist(page: str, command: str) -> None:
    """`--set` names keys of values.yaml."""
    for program in split_command(command):
        settings = [after for word, after in itertools.pairwise(program) if word == "--set"]
        for setting in settings if program[0] == "helm" else ():
            value: Any = yaml.safe_load((chart.CHART / "values.yaml").read_text())
            for key in setting.partition("=")[0].split("."):
                assert key in value, (page, setting)
                value = value[key]


def test_what_is_not_tried_has_a_reason() -> None:
    """The mark is always followed by one."""
    for page in PAGES:
        for line in page.read_text().splitlines():
            assert "not tried" not in line or UNTRIED.search(line), (page.stem, line)


def _read_targets(words: list[str]) -> tuple[set[str], list[str], list[str]]:
    """Return kinds, `kind name` of each object, and label selectors of a kubectl command."""
    labels = [after for word, after in itertools.pairwise(words) if word == "-l"]
    if "--" in words:
        words = words[: words.index("--")]
    valued = {"-n", "-l", "-o", "-p", "-c"}
    plain = [
        word
        for at, word in enumerate(words)
        if not word.startswith("-") and (not at or words[at - 1] not in valued)
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
    """Return `kind name` of every object, of a StatefulSet's pod and claim, and of every Secret that is mounted."""
    names = {f"{document['kind'].lower()} {document['metadata']['name']}" for document in documents}
    for document in chart.select_kinds(documents, "StatefulSet"):
        name = document["metadata"]["name"]
        names |= {f"pod {name}-0", f"persistentvolumeclaim data-{name}-0"}
    return names | {f"secret {name}" for name in re.findall(r"'secretName': '([^']+)'", str(documents))}


def _list_labels(documents: list[chart.Manifest]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield kind and labels of objects and pods; a CronJob's template has those of its Jobs."""
    for document in documents:
        yield document["kind"].lower(), document["metadata"].get("labels", {})
        spec = document.get("spec", {})
        template = spec.get("jobTemplate", spec)
        if "jobTemplate" in spec:
            yield "job", template["metadata"].get("labels", {})
            template = template["spec"]
        if "template" in template:
            yield "pod", template["template"]["metadata"]["labels"]
