from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REQUIRE_TOOLS, ROOT

RELEASE = ROOT / "deploy" / "release.sh"
JARS = ROOT / ".tools" / "groovy" / "node_modules" / "npm-groovy-lint" / "lib" / "java"
RECORDER = Path(__file__).with_name("recorder.groovy")


BROKEN = {
    "unknown section": "pipeline { stagess { } }",
    "step outside of steps": "pipeline { stages { stage('a') { sh 'x' } } }",
    "unknown step": "pipeline { stages { stage('a') { steps { shh 'x' } } } }",
    "syntax": "pipeline { stages { stage('a') { steps { sh 'x' ",
}
Shells = list[tuple[str, str]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the Jenkinsfile against the recorder: on main, on a branch, to roll back, and broken."""
    java = shutil.which("java")
    if java is None or not JARS.is_dir():
        reason = "tool not here: java, or Groovy (`make tools` brings Groovy by npm)"
        if os.environ.get(REQUIRE_TOOLS) == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    runs = {"main": "-", "branch": "BRANCH=topic", "rollback": "ROLLBACK=prod"}
    runs["evil"] = "ROLLBACK=prod; touch x"
    folder = tmp_path_factory.mktemp("jenkins")
    for number, (name, text) in enumerate(BROKEN.items()):
        (folder / str(number)).write_text(text)
        runs[name] = f"FILE={folder / str(number)}"
    jars = os.pathsep.join(map(str, sorted(JARS.rglob("*.jar"))))
    command = [java, "-XX:TieredStopAtLevel=1", "-cp", jars, "groovy.ui.GroovyMain", str(RECORDER)]
    run = subprocess.run([*command, str(ROOT / "Jenkinsfile"), *runs.values()], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return dict(zip(runs, json.loads(run.stdout), strict=True))


def shells(answer: dict[str, Any]) -> Shells:
    """Return the stages that run a shell, with their scripts."""
    assert "steps" in answer, answer
    return [
        (re.findall(r"stage:([^/]+)", path)[-1], argument)
        for path, step, argument in answer["steps"]
        if step == "sh"
    ]


def test_jenkins_goes_from_commit_to_production(recorded: dict[str, Any]) -> None:
    """Tests first; build, scan, push, sign; staging, its smoke test; a person; production and its smoke test."""
    assert [stage for stage, _ in shells(recorded["main"])] == [
        *("Lint", "Unit", "Integration", "Console", "Operations", "Faults", "Security", "Chart"),
        *("Build", "Scan", "Push", "Sign"),
        *("Deploy staging", "Smoke test staging", "Deploy prod", "Smoke test prod"),
    ]
    approvals = [path for path, step, _ in recorded["main"]["steps"] if step == "input"]
    assert [path.endswith("stage:Promote/steps") for path in approvals] == [True]


def test_jenkins_runs_every_test(recorded: dict[str, Any]) -> None:
    """Each folder that `make test` runs has its stage; tests/ship is in `make chart-test`."""
    named = {path for _, command in shells(recorded["main"]) for path in re.findall(r"\btests/\w+", command)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert named == set(project["tool"]["pytest"]["ini_options"]["testpaths"])


def test_jenkins_ships_from_main_alone(recorded: dict[str, Any]) -> None:
    """A branch is tested and not shipped."""
    assert [stage for stage, _ in shells(recorded["branch"])][-1] == "Chart"


def test_jenkins_rolls_back_and_does_nothing_else(recorded: dict[str, Any]) -> None:
    """Asked to roll an environment back, the pipeline neither tests nor builds."""
    assert shells(recorded["rollback"]) == [("Rollback", 'deploy/release.sh rollback "$ROLLBACK"')]


def test_no_parameter_becomes_a_shell_s_text(recorded: dict[str, Any]) -> None:
    """Whoever may start a build chooses parameters: they are variables in quotes, in both pipelines."""
    evil = [command for name in ("evil", "main", "rollback") for _, command in shells(recorded[name])]
    evil += [argument for _, step, argument in recorded["evil"]["steps"] if step in ("sh", "echo")]
    assert not [command for command in evil if "touch" in command or "c0ffee" in command]
    assert "${params" not in (ROOT / "Jenkinsfile").read_text()
    for job in workflow()["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
    for command in evil + [s.get("run", "") for job in workflow()["jobs"].values() for s in job["steps"]]:
        for before in re.findall(r"(.)\$[A-Z]", command):
            assert before == '"', command


@pytest.mark.parametrize(
    "arguments",
    [
        ("rollback", "prod; touch x"), ("rollback", "--kube-context=x"), ("rollback", ""), ("smoke", "production"),
        ("build", "r.example.com/g $(touch x)", "c0ffee", "base"), ("build", "r.example.com/g", "c0ffee", "-base"),
        ("build", "--volume=/:/host", "c0ffee", "base"), ("build", "r/g", "../x", "base"), ("push", "r/../g", "v"),
        ("deploy", "prod", "r/g,images.gateway.tag=evil"), ("deploy", "prod", "r/g", "abc --set x=y"),
        ("deploy", "prod", "r/g", "main"), ("scan", "r/g\nx", "v"),
    ],
)  # fmt: skip
def test_an_argument_that_is_none_is_refused(arguments: tuple[str, ...]) -> None:
    """release.sh validates registries, versions, images, environments and commits."""
    run = subprocess.run(
        ["bash", str(RELEASE), *arguments], env={"DRY_RUN": "1", "PATH": os.environ["PATH"]},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, "")
    assert "is no " in run.stderr


def test_actions_are_pinned_by_commit() -> None:
    """A tag can be moved. One action's commit could not be checked here, and its line says so."""
    lines = (ROOT / ".github" / "workflows" / "ship.yaml").read_text().splitlines()
    used = [line for line in lines if "uses:" in line]
    assert len(used) >= 8
    for line in used:
        assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) or "to be pinned by commit" in line, line


@pytest.mark.parametrize("name", BROKEN)
def test_the_recorder_refuses_what_jenkins_refuses(name: str, recorded: dict[str, Any]) -> None:
    """An unknown section, a step outside of steps, an unknown step, broken syntax."""
    assert "refused" in recorded[name]


def test_every_command_of_the_pipelines_exists(recorded: dict[str, Any]) -> None:
    """`make x` is a target, `release.sh x` a step, in both pipelines."""
    commands = [command for _, command in shells(recorded["main"])] + [
        step["run"] for job in workflow()["jobs"].values() for step in job["steps"] if "run" in step
    ]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = set(re.findall(r"^([a-z]+)\(\) \{", RELEASE.read_text(), re.MULTILINE))
    for command in commands:
        assert set(re.findall(r"\bmake ([a-z-]+)", command)) <= targets, command
        assert set(re.findall(r"release\.sh ([a-z]+)", command)) <= steps, command
        assert all((ROOT / path).exists() for path in re.findall(r"\btests/\w+", command)), command


@functools.cache
def workflow() -> dict[str, Any]:
    """Return the GitHub Actions workflow."""
    return dict(yaml.safe_load((ROOT / ".github" / "workflows" / "ship.yaml").read_text()))


def test_github_takes_the_same_steps_in_the_same_order(recorded: dict[str, Any]) -> None:
    """Both pipelines call the same release steps; prod waits for staging, everything for the tests."""
    jobs = workflow()["jobs"]
    assert jobs["images"]["needs"] == "test"
    assert jobs["staging"]["needs"] == "images"
    assert jobs["prod"]["needs"] == "staging"
    assert jobs["prod"]["environment"] == "prod"
    ours = [
        step
        for name in ("images", "staging", "prod")
        for command in jobs[name]["steps"]
        for step in re.findall(r"release\.sh ([a-z]+)", command.get("run", ""))
    ]
    assert ours == [
        step for _, command in shells(recorded["main"]) for step in re.findall(r"release\.sh ([a-z]+)", command)
    ]
    assert workflow()["permissions"] == {"contents": "read"}


def test_a_dry_release_prints_the_commands_that_it_would_run(tmp_path: Path) -> None:
    """From build to deploy: a pinned base, a scan that fails on HIGH, digests signed and deployed."""
    work = tmp_path / "checkout"
    (work / "deploy").mkdir(parents=True)
    shutil.copy(RELEASE, work / "deploy" / "release.sh")
    registry, environment = "r.example.com/g", {"DRY_RUN": "1", "REGISTRY_USER": "u", "REGISTRY_PASSWORD": "p"}

    def step(*arguments: str) -> list[str]:
        command = ["bash", str(work / "deploy" / "release.sh"), *arguments]
        variables = {**environment, "PATH": os.environ["PATH"], "COSIGN_KEY": "k"}
        run = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
        return run.stdout.splitlines()

    build = step("build", registry, "c0ffee", "base@sha256:0")
    assert len(build) == 3
    assert all("--build-arg BASE=base@sha256:0" in line for line in build)
    scan = step("scan", registry, "c0ffee")
    assert sum("--exit-code 1" in line for line in scan) == 3
    assert sum("cyclonedx" in line for line in scan) == 3
    assert "p" not in " ".join(step("push", registry, "c0ffee")).split()  # the password is on no command line
    signed = step("sign")
    assert len(signed) == 6
    assert all("@sha256:" in line for line in signed)
    assert "--predicate sbom-worker-cuda.json r.example.com/g/gleaner-worker@sha256:dry-run" in signed[-1]
    [deploy] = step("deploy", "prod", registry, "0123abc")
    assert "--values charts/gleaner/values-prod.yaml" in deploy
    assert "images.gateway.digest=sha256:dry-run" in deploy
    assert "models.gliner-medium-v2\\.1.revision=0123abc" in deploy
    assert "revision" not in step("deploy", "prod", registry)[0]  # the overlay's own pin holds
    assert step("smoke", "prod") == ["helm test gleaner --namespace gleaner --logs --timeout 20m"]
    assert step("rollback", "prod") == ["helm rollback gleaner --namespace gleaner --wait --timeout 30m"]
