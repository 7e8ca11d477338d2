from __future__ import annotations

import fnmatch
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import versions
from tests.conftest import REQUIRE_TOOLS, ROOT

RELEASE = ROOT / "deploy" / "release.sh"
JARS = ROOT / ".tools" / "groovy" / "node_modules" / "npm-groovy-lint" / "lib" / "java"
ROLLBACK = ROOT / "deploy" / "rollback.Jenkinsfile"
RECORDER = Path(__file__).with_name("recorder.groovy")


BROKEN = {
    "unknown section": "pipeline { stagess { } }",
    "step outside of steps": "pipeline { stages { stage('a') { sh 'x' } } }",
    "unknown step": "pipeline { stages { stage('a') { steps { shh 'x' } } } }",
    "syntax": "pipeline { stages { stage('a') { steps { sh 'x' ",
}
WORKFLOWS = ("ship", "release", "rollback")
WAIT = (
    "kubectl rollout status deployment,statefulset "
    "--namespace gleaner --selector app.kubernetes.io/instance=gleaner --timeout 30m"
)
Shells = list[tuple[str, str]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run both Jenkinsfiles against the recorder: on main, on a branch, to roll back, and broken."""
    java = shutil.which("java")
    if java is None or not JARS.is_dir():
        reason = "tool not here: java, or Groovy (`make tools` brings Groovy by npm)"
        if os.environ.get(REQUIRE_TOOLS) == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    runs = {"main": "-", "branch": "BRANCH=topic", "aws": "PLACE=aws"}
    runs["rollback"] = f"ROLLBACK=prod,FILE={ROLLBACK}"
    runs["evil"] = f"ROLLBACK=prod; touch x,FILE={ROLLBACK}"
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
    """Tests first; build, scan, push, sign; dev, staging; a person; production; each with a smoke test."""
    assert [stage for stage, _ in shells(recorded["main"])] == [
        *("Lint", "Unit", "Integration", "Console", "Operations", "Faults", "Security", "Chart"),
        *("Build", "Scan", "Push", "Sign"),
        *("Deploy dev", "Smoke test dev", "Deploy staging", "Smoke test staging", "Deploy prod", "Smoke test prod"),
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


def test_a_rollback_waits_for_no_deployment() -> None:
    """A deployment may wait for a person: a rollback is in no queue with it, nor replaced by a newer push."""
    ship, rollback = workflow("ship"), workflow("rollback")
    assert rollback["concurrency"]["group"] == "rollback-${{ inputs.environment }}"
    assert not ship["concurrency"]["group"].startswith("rollback")
    for name, file in (("ship", ROOT / "Jenkinsfile"), ("rollback", ROLLBACK)):
        steps = [step.get("run", "") for job in workflow(name)["jobs"].values() for step in job["steps"]]
        for text in (file.read_text(), "\n".join(steps)):
            assert ("release.sh rollback" in text) is (name == "rollback"), name
    assert "disableConcurrentBuilds" not in ROLLBACK.read_text()


def test_every_step_on_a_cluster_has_the_credentials_of_that_cluster(recorded: dict[str, Any]) -> None:
    """The roll-back, too."""
    stages = {"Rollback": "kubeconfig-prod"}
    stages |= {
        f"{kind} {environment}": f"kubeconfig-{environment}"
        for kind in ("Deploy", "Smoke test")
        for environment in ("dev", "staging", "prod")
    }
    for stage, credentials in stages.items():
        steps = recorded["rollback" if stage == "Rollback" else "main"]["steps"]
        ours = [item for item in steps if f"stage:{stage}/steps/container/" in f"{item[0]}/"]
        assert [argument for _, step, argument in ours if step == "file"] == [
            f"[credentialsId:{credentials}, variable:KUBECONFIG]"
        ], stage
        assert all(path.endswith("/withCredentials") for path, step, _ in ours if step == "sh"), stage


def test_no_parameter_becomes_a_shell_s_text(recorded: dict[str, Any]) -> None:
    """Whoever may start a build chooses parameters: they are variables in quotes, in both pipelines."""
    evil = [command for name in ("evil", "main", "rollback") for _, command in shells(recorded[name])]
    evil += [argument for _, step, argument in recorded["evil"]["steps"] if step in ("sh", "echo")]
    assert not [command for command in evil if "touch" in command or "c0ffee" in command]
    for path in (ROOT / "Jenkinsfile", ROLLBACK):
        text = path.read_text()
        assert "${params" not in text
        # in double quotes Groovy replaces variables
        assert not re.search(r"^\s*sh\s*\(?\s*[^\s'(]", text, re.MULTILINE)
    commands = [
        step.get("run", "")
        for name in WORKFLOWS
        for job in workflow(name)["jobs"].values()
        for step in job["steps"]
    ]
    assert not [command for command in commands if "${{" in command]
    for command in evil + commands:
        for before in re.findall(r"(.)\$[A-Z]", command):
            assert before == '"', command


@pytest.mark.parametrize(
    "arguments",
    [
        ("rollback", "prod; touch x"), ("rollback", "--kube-context=x"), ("rollback", ""), ("smoke", "production"),
        ("build", "r.example.com/g $(touch x)", "c0ffee", "base"), ("build", "r.example.com/g", "c0ffee", "-base"),
        ("build", "--volume=/:/host", "c0ffee", "base"), ("build", "r/g", "../x", "base"), ("push", "r/../g", "v"),
        ("deploy", "prod", "none", "r/g,images.gateway.tag=evil"),
        ("deploy", "prod", "none", "r/g", "abc --set x=y"),
        ("deploy", "prod", "none", "r/g", "main"), ("scan", "r/g\nx", "v"), ("deploy", "prod", "../aws", "r/g"),
        ("deploy", "prod", "aws -f x", "r/g"), ("package", "1 2"), ("publish", "r/g", "$(x)"),
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


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_by_commit(name: str) -> None:
    """A tag can be moved, and was, to programs that stole a pipeline's secrets."""
    lines = (ROOT / ".github" / "workflows" / f"{name}.yaml").read_text().splitlines()
    used = [line for line in lines if "uses:" in line]
    assert used
    for line in used:
        assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_nothing_in_a_release_comes_from_a_third_party_s_package() -> None:
    """Programs that see a pipeline's secrets come from their makers; PyPI gives what locks/ pins by hash."""
    for name in WORKFLOWS:
        for job in workflow(name)["jobs"].values():
            for step in job["steps"]:
                install = re.search(r"pip install (.*)", step.get("run", ""))
                assert install is None or "--require-hashes" in install[1], step
                owner = step.get("uses", "actions/").partition("/")[0]
                assert owner in ("actions", "aquasecurity", "sigstore"), step


def test_locks_hold_names_and_hashes_alone() -> None:
    """No index with a password in its URL, which uv would write: `make secrets` leaves these files out."""
    line = re.compile(r"#.*|[\w.-]+(\[[\w,-]+\])?==\S+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    locks = sorted((ROOT / "locks").glob("*.txt"))
    assert locks
    for path in locks:
        assert [text for text in path.read_text().splitlines() if not line.fullmatch(text)] == [], path.name


@pytest.mark.parametrize("name", BROKEN)
def test_the_recorder_refuses_what_jenkins_refuses(name: str, recorded: dict[str, Any]) -> None:
    """An unknown section, a step outside of steps, an unknown step, broken syntax."""
    assert "refused" in recorded[name]


def test_every_command_of_the_pipelines_exists(recorded: dict[str, Any]) -> None:
    """`make x` is a target, `release.sh x` a step, in both pipelines."""
    commands = [command for _, command in shells(recorded["main"])] + [
        step["run"]
        for name in WORKFLOWS
        for job in workflow(name)["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = set(re.findall(r"^([a-z_]+)\(\) \{", RELEASE.read_text(), re.MULTILINE))
    for command in commands:
        assert set(re.findall(r"\bmake ([a-z-]+)", command)) <= targets, command
        assert set(re.findall(r"release\.sh ([a-z]+)", command)) <= steps, command
        assert all((ROOT / path).exists() for path in re.findall(r"\btests/\w+", command)), command


@functools.cache
def workflow(name: str = "ship") -> dict[str, Any]:
    """Return a workflow of GitHub Actions."""
    return dict(yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yaml").read_text()))


def test_github_takes_the_same_steps_in_the_same_order(recorded: dict[str, Any]) -> None:
    """Both pipelines call the same release steps; prod waits for staging, everything for the tests."""
    jobs = workflow()["jobs"]
    assert jobs["images"]["needs"] == "test"
    assert jobs["dev"]["needs"] == "images"
    assert jobs["staging"]["needs"] == "dev"
    assert jobs["prod"]["needs"] == "staging"
    assert jobs["prod"]["environment"] == "prod"
    ours = [
        step
        for name in ("images", "dev", "staging", "prod")
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
    assert len(build) == 4
    assert all("--build-arg BASE=base@sha256:0" in line for line in build[1:])
    assert all(f"--cache-from {registry}/gleaner-cache" in line for line in build[1:])
    scan = step("scan", registry, "c0ffee")
    assert sum("--exit-code 1" in line for line in scan) == 3
    assert sum("cyclonedx" in line for line in scan) == 3
    assert "p" not in " ".join(step("push", registry, "c0ffee")).split()  # the password is on no command line
    signed = step("sign")
    assert len(signed) == 6
    assert all("@sha256:" in line and "--key k" in line for line in signed)
    assert "--predicate sbom-worker-cuda.json r.example.com/g/gleaner-worker@sha256:dry-run" in signed[-1]
    [deploy] = step("deploy", "prod", "aws", registry, "0123abc")
    # The place's overlay comes last: what it sets is true of that place.
    assert "--values charts/gleaner/values-prod.yaml --values charts/gleaner/values-aws.yaml" in deploy
    assert "images.gateway.digest=sha256:dry-run" in deploy
    assert "models.gliner-medium-v2\\.1.revision=0123abc" in deploy
    [deploy] = step("deploy", "prod", "none", registry)
    assert "revision" not in deploy  # the overlay's own pin holds
    assert deploy.count("--values") == 1
    assert step("smoke", "prod") == ["helm test gleaner --namespace gleaner --logs --timeout 60m"]
    assert step("rollback", "prod") == [
        "helm rollback gleaner --namespace gleaner --force-conflicts --timeout 30m",
        WAIT,
    ]


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
@pytest.mark.parametrize("location", ["none", "aws", "gcp", "azure", "onprem"])
def test_the_overlays_that_a_deployment_names_exist(environment: str, location: str, tmp_path: Path) -> None:
    """Each environment on each place."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(RELEASE, tmp_path / "deploy")
    write_digests(tmp_path, "GATEWAY", "WORKER", "WORKER_CUDA")
    run = subprocess.run(
        ["bash", str(tmp_path / "deploy" / "release.sh"), "deploy", environment, location, "r.example.com/g"],
        env={"DRY_RUN": "1", "PATH": os.environ["PATH"]}, capture_output=True, text=True,
    )  # fmt: skip
    overlays = re.findall(r"--values (\S+)", run.stdout)
    assert len(overlays) == (1 if location == "none" else 2), run.stderr
    assert all((ROOT / overlay).is_file() for overlay in overlays)


def write_digests(folder: Path, *images: str) -> None:
    """Write the file that `release.sh push` leaves for `release.sh deploy`."""
    (folder / "digests.env").write_text("".join(f"{image}=r/i@sha256:{'0' * 64}\n" for image in images))


@pytest.mark.parametrize("missing", ["GATEWAY", "WORKER", "WORKER_CUDA"])
def test_an_image_without_a_digest_is_not_deployed(missing: str, tmp_path: Path) -> None:
    """By its tag the chart would deploy whatever has that tag now."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(RELEASE, tmp_path / "deploy")
    write_digests(tmp_path, *({"GATEWAY", "WORKER", "WORKER_CUDA"} - {missing}))
    run = subprocess.run(
        ["bash", str(tmp_path / "deploy" / "release.sh"), "deploy", "prod", "none", "r.example.com/g"],
        env={"DRY_RUN": "1", "PATH": os.environ["PATH"]}, capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, "")
    assert f"digest of {missing} " in run.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the tracked files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


PROGRAM = """#!/bin/sh
printf '%s\\n' "{name} $*" >> "{log}"
{body}
"""


def add_program(folder: Path, name: str, body: str = "") -> None:
    """Write a program that records its calls in `calls` and runs `body`."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(PROGRAM.format(name=name, log=folder / "calls", body=body))
    (folder / name).chmod(0o755)


def test_a_version_s_chart_and_wheels_are_made_published_and_signed(checkout: Path) -> None:
    """A tag gives real wheels of both distributions and the chart; all are signed, keyless without a key."""
    programs = checkout / "programs"
    add_program(programs, "helm", 'case $1 in package) echo > dist/gleaner-0.1.0.tgz ;; '
                f'push) echo "Digest: sha256:{"a" * 64}" ;; esac')  # fmt: skip
    add_program(programs, "buildah")
    add_program(programs, "cosign")
    build_tools = checkout / "build"
    subprocess.run([sys.executable, "-m", "venv", build_tools], check=True)
    install = ["-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", f"{ROOT}/locks/build.txt"]
    subprocess.run([build_tools / "bin" / "python3", *install], check=True)
    environment = {"PATH": f"{programs}:{build_tools / 'bin'}:{os.environ['PATH']}", "HOME": str(checkout)}
    environment |= {"REGISTRY_USER": "u", "REGISTRY_PASSWORD": "secret"}  # pragma: allowlist secret
    (checkout / "dist").mkdir()

    def step(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(checkout / "deploy" / "release.sh"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    wrong = step("package", "9.9.9")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "the release is 9.9.9, but pyproject.toml" in wrong.stderr
    packaged = step("package", "0.1.0")
    assert packaged.returncode == 0, packaged.stderr
    assert sorted(path.name for path in (checkout / "dist").glob("*.whl")) == [
        "gleaner_ner-0.1.0-py3-none-any.whl", "gleaner_ner_service-0.1.0-py3-none-any.whl",
    ]  # fmt: skip
    wheels = sorted(f"dist/{path.name}" for path in (checkout / "dist").glob("*.whl"))
    assert step("publish", "ghcr.io/o", "0.1.0").returncode == 0
    assert (checkout / "digests.env").read_text() == f"CHART=ghcr.io/o/charts/gleaner@sha256:{'a' * 64}\n"
    assert step("sign").returncode == 0
    add_program(programs, "helm", "[ $1 = registry ] || (echo unauthorized >&2; exit 1)")
    refused = step("publish", "ghcr.io/o", "0.1.0")
    assert (refused.returncode, "unauthorized" in refused.stderr) == (1, True)
    calls = [call for call in (programs / "calls").read_text().splitlines() if call.startswith("cosign")]
    assert calls[-3:] == [
        f"cosign sign --yes ghcr.io/o/charts/gleaner@sha256:{'a' * 64}",
        *(f"cosign sign-blob --yes --bundle {wheel}.sigstore.json {wheel}" for wheel in wheels),
    ]
    assert "secret" not in (programs / "calls").read_text()


def test_every_file_that_states_a_version_is_checked(checkout: Path) -> None:
    """A version raised in all files but one is refused, whichever one it is."""
    assert {where.partition(":")[0] for where, _ in versions.list_versions(ROOT)} == set(versions.PATTERNS)
    assert versions.main([], checkout) == 0
    for name in versions.PATTERNS:
        text = (checkout / name).read_text()
        (checkout / name).write_text(text.replace("0.1.0", "0.1.1", 1))
        assert versions.main([], checkout) == 1, name
        (checkout / name).write_text(text)


def test_a_base_without_a_digest_gets_the_one_that_it_has_now(tmp_path: Path) -> None:
    """All images are built on one digest, and carry it as a label, whatever the tag points to meanwhile."""
    programs = tmp_path / "programs"
    add_program(programs, "buildah", f'[ "$1" != inspect ] || echo sha256:{"b" * 64}')
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "REGISTRY_USER": "u", "REGISTRY_PASSWORD": "p"}
    command = ["bash", str(RELEASE), "build", "r.example.com:5000/g", "c0ffee", "r.example.com:5000/python:3.11"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    builds = [call for call in (programs / "calls").read_text().splitlines() if call.startswith("buildah bud")]
    assert len(builds) == 3
    pinned = f"r.example.com:5000/python@sha256:{'b' * 64}"
    assert all(f"BASE={pinned}" in call and f"base.name={pinned}" in call for call in builds)


AUTOSCALERS = """case "$*" in
  "get horizontalpodautoscaler"*) cat <<END
Deployment/gleaner-worker-a 5
Deployment/gleaner-worker-b 0
Rollout/gleaner-gateway 3
END
esac"""


def test_a_rollback_keeps_the_replicas_of_the_autoscalers(tmp_path: Path) -> None:
    """Helm sets those of the older revision, by force; right after that the former ones are set again."""
    programs = tmp_path / "programs"
    add_program(programs, "kubectl", AUTOSCALERS)
    add_program(programs, "helm")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(["bash", str(RELEASE), "rollback", "prod"], env=environment, check=True, capture_output=True)
    read, *calls = (programs / "calls").read_text().splitlines()
    assert read.startswith("kubectl get horizontalpodautoscaler")
    assert calls == [
        "helm rollback gleaner --namespace gleaner --force-conflicts --timeout 30m",
        "kubectl --namespace gleaner scale Deployment/gleaner-worker-a --replicas 5",
        "kubectl --namespace gleaner scale Rollout/gleaner-gateway --replicas 3",
        WAIT,
    ]


def test_the_admission_policy_admits_what_the_release_signs() -> None:
    """The identity is that of the release's workflow for a tag, the images are those that it pushes."""
    [policy] = yaml.safe_load_all((ROOT / "deploy" / "admission" / "verify-images.yaml").read_text())
    [authority] = policy["spec"]["authorities"]
    [identity] = authority["keyless"]["identities"]
    subject = re.compile(identity["subjectRegExp"].replace("OWNER/REPOSITORY", "o/r"))
    signer = "https://github.com/o/r/.github/workflows/release.yaml@refs/tags/v1.2.3"
    assert subject.fullmatch(signer)
    for other in (signer.replace("tags/v1.2.3", "heads/main"), signer.replace("release", "ship"),
                  signer.replace("github.com/o/r", "github.com/o/r2")):  # fmt: skip
        assert not subject.fullmatch(other)
    assert (ROOT / ".github" / "workflows" / "release.yaml").is_file()
    globs = [entry["glob"] for entry in policy["spec"]["images"]]
    pushed = {f"ghcr.io/OWNER/gleaner-{name}@sha256:0" for name in ("gateway", "worker")}
    assert {image for image in pushed if any(fnmatch.fnmatch(image, glob) for glob in globs)} == pushed
    assert workflow("release")["jobs"]["publish"]["permissions"]["id-token"] == "write"
