from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement

from scripts import locks
from tests.conftest import ROOT
from tests.support import chart
from tests.support.processes.harness import wait_for
from tests.support.servers.tls_acl_redis import write_users

DOCKERFILES = ("Dockerfile.gateway", "Dockerfile.worker")
BIN = Path(sys.executable).parent


def compose() -> dict[str, Any]:
    """compose.yaml, its anchors resolved."""
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    """The Dockerfiles pass hadolint without an exception."""
    run = subprocess.run([BIN / "hadolint", name], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("name", DOCKERFILES)
def test_a_dockerfile_is_pinnable_and_small(name: str) -> None:
    """The base is an argument (pipelines pin its digest), no heredocs (old builders), exec form for SIGTERM."""
    text = (ROOT / name).read_text()
    assert re.search(r"^ARG BASE=\S+$", text, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE))
    assert bases - stages == {"${BASE}"}
    assert "<<" not in text
    assert re.findall(r"^(?:ENTRYPOINT|CMD) (?!\[)", text, re.MULTILINE) == []


def test_trivy_finds_nothing(tmp_path: Path) -> None:
    """Trivy's checks of Dockerfiles, every severity."""
    for name in DOCKERFILES:
        (tmp_path / name).write_text((ROOT / name).read_text())
    assert trivy(tmp_path) == []


def test_compose_meets_its_schema() -> None:
    """compose.yaml conforms to the Compose specification."""
    schema = json.loads((chart.require_schemas() / "compose-spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(compose())


def test_compose_reads_it_itself() -> None:
    """`docker compose config` resolves it without a word; needs the plugin, but no engine."""
    command = ["docker", "compose", "--file", "compose.yaml", "config", "--quiet"]
    if shutil.which("docker") is None or subprocess.run([*command[:2], "version"], capture_output=True).returncode:
        pytest.skip("no `docker compose` here; its schema is checked all the same")
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


@pytest.mark.parametrize("name", compose()["services"])
def test_every_container_is_fenced_in(name: str) -> None:
    """Read-only root, no capabilities, no new privileges, limits of CPU and memory; ports on loopback only."""
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_compose_runs_what_the_images_hold() -> None:
    """Each of our services starts a module that exists, with time to drain."""
    services = compose()["services"]
    for name in ("gateway", "worker"):
        assert services[name]["command"] == ["-m", name]
    for name, module in (("courier", "gateway.courier"), ("flower", "jobs.queue.flower")):
        assert services[name]["command"] == ["-m", module]
        assert importlib.util.find_spec(module) is not None
    for name in ("gateway", "worker", "courier"):
        assert services[name]["stop_grace_period"] == "80s"


def test_no_password_is_in_a_container_s_description() -> None:
    """Nothing that `docker inspect` or a process list shows: passwords are files, each where it is needed."""
    read = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert not re.search(r"\$\{?\w*PASSWORD|requirepass|://[^/\s]*@", (ROOT / "compose.yaml").read_text())
    assert all(set(secret) == {"file"} for secret in read["secrets"].values())
    mounted = {
        name: [item if isinstance(item, str) else item["source"] for item in service.get("secrets", ())]
        for name, service in read["services"].items()
    }
    assert mounted == {
        "valkey": ["gateway", "worker", "courier", "flower"], "gateway": ["gateway"], "worker": ["worker"],
        "courier": ["courier"], "flower": ["flower", "flower-page"], "grafana": ["grafana"],
        "prometheus": [], "alertmanager": [],
    }  # fmt: skip


def test_compose_s_passwords_reach_the_processes_and_the_server(tmp_path: Path) -> None:
    """The scripts that Compose mounts: URLs with own users, Flower without the ledger, and the same hashes."""
    folder = tmp_path / "compose"
    folder.mkdir()
    shutil.copy(ROOT / "deploy" / "compose" / "make-passwords.sh", folder)
    for _ in range(2):
        subprocess.run(["sh", str(folder / "make-passwords.sh")], check=True)
    passwords = {path.name: path.read_text().strip() for path in (folder / "passwords").iterdir()}
    assert (folder / "passwords").stat().st_mode & 0o077 == 0
    assert len(set(passwords.values())) == 6
    text = (ROOT / "deploy" / "compose" / "with-passwords.sh").read_text()
    for user in ("gateway", "worker", "courier", "flower"):
        secrets = tmp_path / user
        secrets.mkdir()
        (secrets / "store").write_text(passwords[user] + "\n")
        if user == "flower":
            (secrets / "flower").write_text(passwords["flower-page"] + "\n")
        script = text.replace("/run/secrets", str(secrets)).replace("exec python", f"exec {sys.executable}")
        shown = (
            "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('GLEANER')}))"
        )
        run = subprocess.run(
            ["sh", "-c", script, "sh", "-c", shown], env={"STORE_USER": user, "PATH": os.environ["PATH"]},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        url = f"redis://{user}:{passwords[user]}@valkey:6379"
        expected = {"GLEANER_BROKER_URL": f"{url}/0", "GLEANER_REDIS_URL": f"{url}/1"}
        if user == "flower":
            expected = {"GLEANER_BROKER_URL": f"{url}/0", "GLEANER_FLOWER_PASSWORD": passwords["flower-page"]}
        assert json.loads(run.stdout) == expected
    users = write_users(tmp_path, {"PASSWORDS": str(folder / "passwords")}).read_text()
    assert hashlib.sha256(passwords["courier"].encode()).hexdigest() in users
    assert "flower-page" not in users
    named = re.findall(r"^user (\w+) on", users, re.MULTILINE)
    assert named == ["gateway", "courier", "worker", "flower", "reloader"]


def _pins(path: Path) -> dict[str, str]:
    """Each package of a lock with its version."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;]+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", [*locks.EXTRAS, "cuda", *locks.TOOLS])
def test_every_package_of_an_image_is_pinned_by_hash(name: str) -> None:
    """Each entry has SHA-256 hashes, and the version that the tests ran with."""
    path = ROOT / "locks" / f"{name}.txt"
    for entry in list(locks._split_entries(path.read_text()))[1:]:
        assert re.match(r"[a-z0-9._-]+==\S+( ; .*)? \\\n( +--hash=sha256:[0-9a-f]{64}( \\\n)?)+$", entry), entry
    tested = dict(re.findall(r"^([^#=\s]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    tested = {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in tested.items()}
    pins = _pins(path)
    assert {package: tested[package] for package in pins if package in tested} == {
        package: version for package, version in pins.items() if package in tested
    }
    if name != "cuda":
        libraries = [package for package in pins if package.startswith(("torch", "nvidia", "cuda"))]
        assert libraries == (["nvidia-ml-py"] if name == "gpu" else [])


@pytest.mark.parametrize("name", locks.EXTRAS)
def test_a_lock_holds_all_that_its_extras_need(name: str) -> None:
    """A dependency that was added to pyproject.toml and not to the locks would be missing in the image."""
    client = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = tomllib.loads((ROOT / "service" / "pyproject.toml").read_text())["project"]
    rest = [*client["dependencies"], *needed["dependencies"]]
    rest += [line for extra in locks.EXTRAS[name] for line in needed["optional-dependencies"][extra]]
    pins = _pins(ROOT / "locks" / f"{name}.txt")
    while rest:
        requirement = Requirement(rest.pop())
        if requirement.marker is None or requirement.marker.evaluate({"python_version": "3.11"}):
            package = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if package != "torch":
                assert package in pins
                assert requirement.specifier.contains(pins[package], prereleases=True), package


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_install_nothing_without_a_hash(name: str) -> None:
    """Installs use locks with hashes, wheels built here, or torch from its index, and nothing else."""
    text = re.sub(r"\\\n\s*", "", (ROOT / name).read_text())
    installs = re.findall(r"pip install [^&|;]*", text)
    assert installs
    for install in installs:
        hashed = "--require-hashes" in install and "--only-binary :all:" in install
        local_wheels = "--no-deps --no-index" in install
        torch = '--no-deps --only-binary :all: --index-url "${TORCH_INDEX}" --requirement torch.txt' in install
        assert hashed or local_wheels or torch, install
    assert "extra-index-url" not in text
    version = re.findall(r"^ARG TORCH=(\S+)$", text, re.MULTILINE)
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert set(version) <= {pinned[1]}


Stages = dict[str, tuple[str, list[tuple[str, str]]]]


def parse_stages(name: str) -> Stages:
    """Return a Dockerfile's stages: name -> base and instructions."""
    text = re.sub(r"\\\n\s*", "", (ROOT / name).read_text())
    stages: Stages = {}
    for line in text.splitlines():
        if match := re.match(r"FROM (\S+)(?: AS (\S+))?$", line):
            instructions: list[tuple[str, str]] = []
            stages[match[2] or "final"] = (match[1], instructions)
        elif stages and (match := re.match(r"([A-Z]+) (.*)$", line)):
            instructions.append((match[1], match[2]))
    return stages


def instructions_of(stages: Stages, target: str) -> list[tuple[str, str]]:
    """Return a stage's instructions after those of the stages that it is built on."""
    base, instructions = stages[target]
    return (instructions_of(stages, base) if base in stages else []) + instructions


def stages_for(stages: Stages, target: str) -> set[str]:
    """Return every stage that a build of the target runs."""
    base, instructions = stages[target]
    needed = {base, *(match for _, rest in instructions for match in re.findall(r"--from=(\S+)", rest))}
    return {target}.union(*(stages_for(stages, stage) for stage in needed & set(stages)))


IMAGES = [("Dockerfile.gateway", "final"), ("Dockerfile.worker", "cpu"), ("Dockerfile.worker", "cuda")]


@pytest.mark.parametrize(("name", "target"), IMAGES)
def test_a_commit_changes_the_last_layer_only(name: str, target: str) -> None:
    """Packages lie below the code, and the commit's label comes last: a node pulls megabytes, not gigabytes."""
    stages = parse_stages(name)
    copies = [
        (number, rest) for number, (kind, rest) in enumerate(instructions_of(stages, target)) if kind == "COPY"
    ]
    assert copies[0][1].endswith("/opt/venv /opt/venv")
    assert copies[-1][1].endswith("/app /app")
    per_build = [n for n, (kind, _) in enumerate(instructions_of(stages, target)) if kind == "ARG"]
    assert min(per_build) > copies[-1][0]
    [packages] = re.findall(r"--from=(\S+)", copies[0][1])
    copied = " ".join(rest for kind, rest in instructions_of(stages, packages) if kind == "COPY")
    assert not re.search(r"\b(jobs|worker|gateway|gleaner|README.md|pyproject.toml|service)\b", copied)


def test_a_target_builds_the_packages_of_one_device() -> None:
    """The CUDA image does not install the CPU's packages first, nor the other way round."""
    stages = parse_stages("Dockerfile.worker")
    assert {stage for stage in stages_for(stages, "cuda") if "cpu" in stage} == set()
    assert {stage for stage in stages_for(stages, "cpu") if "cuda" in stage} == set()


def test_images_hold_the_extras_that_settings_switch_on() -> None:
    """Traces in every image, GPU metrics in the one for GPUs, GLiNER2 in both workers."""
    extras = {
        stage: rest.removeprefix("EXTRAS=").split(",")
        for name in DOCKERFILES
        for stage, (_, instructions) in parse_stages(name).items()
        for kind, rest in instructions
        if kind == "ARG" and rest.startswith("EXTRAS=")
    }
    assert extras == {
        "build": ["gateway", "otel"],
        "venv-cpu": ["worker", "openvino", "gliner2", "s3", "otel"],
        "venv-cuda": ["worker", "gliner2", "s3", "gpu", "otel"],
    }


TRIMMED = (
    "torch", "openvino", "onnx", "sympy", "numpy", "networkx", "mpmath", "zstandard", "transformers", "botocore"
)  # fmt: skip


@pytest.mark.slow
def test_a_trimmed_environment_still_runs_the_model(tmp_path: Path) -> None:
    """No runtime and no object store reads a file that trim.sh removes."""
    installed = Path(str(importlib.util.find_spec("torch").origin)).parents[1]  # type: ignore[union-attr]
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for package in (*TRIMMED, "numpy.libs"):
        if (installed / package).is_dir():
            shutil.copytree(installed / package, packages / package, copy_function=link_or_copy)
    before = measure_bytes(packages)
    subprocess.run(["sh", ROOT / "deploy" / "images" / "trim.sh", tmp_path], check=True)
    assert before - measure_bytes(packages) > 250e6
    code = (
        "import sys; from worker.app import load_engine; from worker.settings import WorkerSettings\n"
        "for runtime in ('torch', 'openvino'): "
        "load_engine(WorkerSettings(device='cpu', precision='fp32', runtime=runtime, model_cache=sys.argv[1]))\n"
        "import openvino, torch, botocore.session, zstandard\n"
        "session = botocore.session.get_session()\n"
        "for service in ('s3', 'sts', 'sso', 'sso-oidc'): session.create_client(service, region_name='eu-west-1')\n"
        "zstandard.decompress(zstandard.compress(b'text'))\n"
        "print(*(module.__file__ for module in (openvino, torch, botocore, zstandard)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), *sys.path])}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cache")], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert all(path.startswith(str(packages)) for path in run.stdout.split()), run.stdout


def link_or_copy(source: str, target: str) -> None:
    """Link a file, or copy it to another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def measure_bytes(folder: Path) -> int:
    """Return the size of a folder's files."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_baked_model_is_complete_and_the_same_layer_each_time(tmp_path: Path) -> None:
    """bake.py fetches what a worker loads, and all files have the same time; without a source it does nothing."""
    bake, shipped = ROOT / "deploy" / "images" / "bake.py", ROOT / "models" / "gleaner-small"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for source, folder in (("", tmp_path / "none"), (str(shipped), tmp_path / "models")):
        subprocess.run([sys.executable, bake, folder, source, "", ""], env=environment, check=True)
    assert list((tmp_path / "none").iterdir()) == []
    baked = tmp_path / "models" / "baked"
    assert (baked / "gliner_config.json").read_bytes() == (shipped / "gliner_config.json").read_bytes()
    assert {path.stat().st_mtime for path in (tmp_path / "models").rglob("*")} == {0}


@pytest.mark.parametrize("overlay", ["prod", "aws", "azure"])
def test_prepull_keeps_each_model_s_image_on_its_nodes(overlay: str) -> None:
    """A DaemonSet per model: the workers' image, on their nodes, and no part of what selects workers."""
    values = chart.merge_values(
        chart.read_overlay("prod"), chart.read_overlay(overlay), {"prepull": {"enabled": True}}
    )
    documents = chart.render_manifests(values)
    workers = {
        document["metadata"]["labels"]["gleaner.io/model"]: document["spec"]
        for document in chart.select_kinds(documents, "Deployment")
        if document["metadata"]["labels"].get("app.kubernetes.io/component") == "worker"
    }
    daemons = chart.select_kinds(documents, "DaemonSet")
    assert len(daemons) == len(workers) > 0
    for daemon in daemons:
        labels, pod = daemon["spec"]["template"]["metadata"]["labels"], daemon["spec"]["template"]["spec"]
        worker = workers[labels["gleaner.io/model"]]
        assert not worker["selector"]["matchLabels"].items() <= labels.items()
        assert pod["containers"][0]["image"] == worker["template"]["spec"]["containers"][0]["image"]
        for field in ("nodeSelector", "tolerations", "affinity", "serviceAccountName"):
            assert pod.get(field) == worker["template"]["spec"].get(field), field
    assert chart.select_kinds(chart.render_manifests(chart.read_overlay("prod")), "DaemonSet") == []


def test_the_container_that_keeps_an_image_ends_at_once() -> None:
    """The first process of a container has no default action for SIGTERM, so it waits for the signal."""
    [daemon, *_] = chart.select_kinds(chart.render_manifests({"prepull": {"enabled": True}}), "DaemonSet")
    [_, *arguments] = daemon["spec"]["template"]["spec"]["containers"][0]["command"]
    process = subprocess.Popen([sys.executable, *arguments])
    kernel_function = Path(f"/proc/{process.pid}/wchan")
    wait_for(lambda: "sigtimedwait" in kernel_function.read_text(), 20, "it waits for the signal")
    assert process.poll() is None
    process.terminate()
    assert process.wait(5) == 0


def trivy(folder: Path, severity: str = "UNKNOWN,LOW,MEDIUM,HIGH,CRITICAL") -> list[str]:
    """Trivy's findings in a folder: id, file, message. Its checks are built in; nothing is fetched."""
    command = [str(BIN / "trivy"), "config", "--skip-check-update", "--skip-version-check", "--quiet"]
    command += ["--cache-dir", str(folder / ".trivy"), "--severity", severity, "--format", "json", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout).get("Results", [])
    misconfigurations = [
        (result["Target"], finding) for result in results for finding in result.get("Misconfigurations", [])
    ]
    return sorted(f"{finding['ID']} {target} {finding['Message']}" for target, finding in misconfigurations)
