"""A pod as local processes: init containers, main containers, probes, restarts, and its end.

A thread per pod does the work of kubelet. Waits in which nothing but time passes are shortened by the clock's pace;
the limits that processes must keep (grace, thresholds of probes) are real seconds.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from tests.ship.bench.cluster.containers import (
    ConfigError,
    Placement,
    build_command,
    build_environment,
)
from tests.ship.bench.cluster.volumes import Node, Volumes
from tests.support.processes.harness import guard

Manifest = Mapping[str, Any]
LOOK_S = 0.1
"""Interval of a pod's thread."""
HEALTHY_S = 0.5
"""Interval of probes that have passed."""
MAX_BACKOFF_S = 2.0
EXEC_S = 20.0


@dataclass(frozen=True)
class Exit:
    """The end of a container: code, and whether it took longer than its grace."""

    container: str
    code: int
    killed: bool = False


class Pod:
    """A pod; it starts at once, and `delete` ends it.

    Attributes:
        owner: kind and name of the object that made it.
        template: the pod template that it was made from.
        node: name of its node.
        address: its IP address.
        ready: all containers have started and are ready.
        was_ready: it was so once.
        phase: Pending, Running, Succeeded or Failed.
        reason: of a container that cannot start; else "".
        restarts: of containers.
        exits: ends of main containers, in order.
        ended: set when no process is left.
    """

    def __init__(
        self, name: str, owner: tuple[str, str], template: Manifest, node: tuple[str, str], shared: Node
    ) -> None:
        self.name, self.owner, self.template, (self.node, self.address) = name, owner, template, node
        self.created = time.monotonic()
        self.ready, self.was_ready, self.phase, self.reason, self.restarts = False, False, "Pending", "", 0
        self.exits: list[Exit] = []
        self.ended, self._deleted = Event(), Event()
        self._shared = shared
        self._spec: Manifest = template["spec"]
        self._volumes = Volumes(name, self.address, self._spec, shared)
        self._thread = Thread(target=self._run, name=f"pod {name}", daemon=True)
        self._thread.start()

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return dict(self.template["metadata"].get("labels") or {})

    @property
    def deleting(self) -> bool:
        """Return whether it is being ended."""
        return self._deleted.is_set()

    def delete(self) -> None:
        """Begin its end; from now on it is no endpoint."""
        self.ready = False
        self._deleted.set()

    def find_port(self, port: int | str) -> int | None:
        """Return the number of a container's port, by name or number; None if it has none."""
        for container in self._spec["containers"]:
            for entry in container.get("ports") or ():
                if port in (entry.get("name"), entry["containerPort"]):
                    return int(entry["containerPort"])
        return None

    def execute(self, container: str, command: list[str]) -> str:
        """Run a command in a container, as `kubectl exec` does; return its output.

        Raises:
            AssertionError: it fails.
        """
        [manifest] = [entry for entry in self._spec["containers"] if entry["name"] == container]
        run = self._execute(manifest, command, EXEC_S)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def _execute(
        self, manifest: Manifest, command: list[str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        image, placement = self._shared.find_image(manifest["image"]), self._describe_placement()
        environment = build_environment(manifest, image, self._shared.read_objects(), placement)
        words = [placement.translate(word) for word in command]
        return subprocess.run(
            words, env=environment, timeout=timeout_s, capture_output=True, text=True, check=False
        )

    def _describe_placement(self) -> Placement:
        return Placement(self.name, self.address, self.node, self._volumes.mounts, self._shared.localise)

    def read_log(self, lines: int = 20) -> str:
        """Return the end of its containers' output."""
        texts = [path.read_text(errors="replace") for path in sorted(self._volumes.folder.glob("*.log"))]
        return "\n".join("\n".join(text.splitlines()[-lines:]) for text in texts)

    def _run(self) -> None:
        try:
            if self._run_init_containers():
                running = [Container(container, self) for container in self._spec["containers"]]
                self._watch(running)
                self._stop(running)
        finally:
            self.ready = False
            self.ended.set()

    def _run_init_containers(self) -> bool:
        """Run them to their end one after the other; return False if the pod ends before that."""
        for manifest in self._spec.get("initContainers") or ():
            container = Container(manifest, self)
            while not self._deleted.wait(LOOK_S):
                container.advance()
                if container.code == 0:
                    break
                if container.code is not None:
                    if self._spec.get("restartPolicy") == "Never":
                        self.exits.append(Exit(manifest["name"], container.code))
                        self.phase = "Failed"
                        return False
                    container.restart()
            else:
                container.stop(0.0)
                return False
        return True

    def _watch(self, containers: list[Container]) -> None:
        while not self._deleted.wait(LOOK_S):
            self._volumes.refresh()
            for container in containers:
                container.advance()
            codes = [container.code for container in containers]
            if self._spec.get("restartPolicy") == "Never":
                if None not in codes:
                    self.exits += [Exit(c.name, c.code or 0) for c in containers]
                    self.phase = "Failed" if any(codes) else "Succeeded"
                    return
            else:
                for container in containers:
                    if container.code is not None:
                        self.exits.append(Exit(container.name, container.code))
                        self.restarts += 1
                        container.restart()
            if any(container.running for container in containers):
                self.phase = "Running"
            self.ready = not self.deleting and all(container.ready for container in containers)
            self.was_ready = self.was_ready or self.ready

    def _stop(self, containers: list[Container]) -> None:
        grace_s = float(self._spec.get("terminationGracePeriodSeconds", 30))
        threads = [
            Thread(target=lambda c=container: self.exits.extend(c.stop(grace_s)))  # type: ignore[misc]
            for container in containers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def start_container(self, manifest: Manifest) -> subprocess.Popen[bytes] | None:
        """Start a container's process; return None, with `reason` set, while it cannot be made."""
        image, objects = self._shared.find_image(manifest["image"]), self._shared.read_objects()
        placement = self._describe_placement()
        try:
            self._volumes.refresh()
            command = build_command(manifest, image, objects, placement)
            environment = build_environment(manifest, image, objects, placement)
        except ConfigError as error:
            self.reason = f"CreateContainerConfigError: {error}"
            return None
        self.reason = ""
        with (self._volumes.folder / f"{manifest['name']}.log").open("ab") as log:
            return subprocess.Popen(
                [*guard(), *command],
                cwd=self._volumes.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def sleep_before_stop(self, manifest: Manifest) -> None:
        """Do a container's preStop."""
        hook = (manifest.get("lifecycle") or {}).get("preStop") or {}
        if "sleep" in hook:
            time.sleep(self._shared.clock.shorten(hook["sleep"]["seconds"]))  # nothing else happens in it
        elif "exec" in hook:
            self._execute(manifest, hook["exec"]["command"], EXEC_S)

    def probe(self, manifest: Manifest, probe: Manifest) -> bool:
        """Run a probe once."""
        timeout_s = float(probe.get("timeoutSeconds", 1))
        if "exec" in probe:
            try:
                return self._execute(manifest, probe["exec"]["command"], timeout_s).returncode == 0
            except subprocess.TimeoutExpired:
                return False
        target = probe.get("httpGet") or probe["tcpSocket"]
        port = self.find_port(target["port"])
        assert port is not None, probe
        try:
            if "httpGet" not in probe:
                with socket.create_connection((self.address, port), timeout_s):
                    return True
            connection = http.client.HTTPConnection(self.address, port, timeout=timeout_s)
            try:
                connection.request("GET", target["path"])
                return 200 <= connection.getresponse().status < 400
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            return False


class Container:
    """A container of a pod: its process, and the state of its probes.

    Attributes:
        code: of its last end; None while it runs or has not started.
        ready: its probes say so, or it has none.
    """

    def __init__(self, manifest: Manifest, pod: Pod) -> None:
        self.name, self._manifest, self._pod = manifest["name"], manifest, pod
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff_s = 0.0
        self.restart(backoff_s=0.0)

    @property
    def running(self) -> bool:
        """Return whether its process runs."""
        return self._process is not None and self.code is None

    def restart(self, backoff_s: float | None = None) -> None:
        """Forget the ended process; the next `advance` starts another one, later each time."""
        self._backoff_s = min(MAX_BACKOFF_S, 2 * self._backoff_s or LOOK_S) if backoff_s is None else backoff_s
        self._start_at = time.monotonic() + self._backoff_s
        self._process, self.code, self.ready, self._started = None, None, False, False
        self._failing_since: dict[str, float] = {}
        self._next_at: dict[str, float] = {}

    def advance(self) -> None:
        """Start the process if that is due, notice its end, and run the probes that matter now."""
        if self._process is None:
            if time.monotonic() >= self._start_at:
                self._process = self._pod.start_container(self._manifest)
            return
        self.code = self._process.poll()
        if self.code is not None:
            self.ready = False
            self._end_group()
            return
        if not self._started:
            self._started = self._passes("startupProbe")
        if self._started:
            self._passes("livenessProbe", verdict=True)
            self.ready = self._passes("readinessProbe", verdict=self.ready)

    def stop(self, grace_s: float) -> list[Exit]:
        """Do preStop, send SIGTERM, wait for the grace, then kill; return its end, if it ran."""
        if self._process is None or self.code is not None:
            return []
        began = time.monotonic()
        if grace_s:
            self._pod.sleep_before_stop(self._manifest)
        self._process.terminate()
        try:
            code, killed = self._process.wait(max(0.0, began + grace_s - time.monotonic())), False
        except subprocess.TimeoutExpired:
            self._process.kill()
            code, killed = self._process.wait(), True
        self._end_group()
        return [Exit(self.name, code, killed)]

    def _passes(self, kind: str, verdict: bool = False) -> bool:
        """Run a probe; a startup or liveness probe that fails for too long kills the process.

        Args:
            kind: the field of the container.
            verdict: the probe's verdict until it has failed for too long.
        """
        probe = self._manifest.get(kind)
        if probe is None:
            return True
        if time.monotonic() < self._next_at.get(kind, 0.0):
            return verdict
        self._next_at[kind] = time.monotonic() + (HEALTHY_S if verdict else LOOK_S)
        if self._pod.probe(self._manifest, probe):
            self._failing_since.pop(kind, None)
            return True
        since = self._failing_since.setdefault(kind, time.monotonic())
        limit_s = probe.get("failureThreshold", 3) * probe.get("periodSeconds", 10)
        if time.monotonic() - since < limit_s:
            return verdict
        if kind != "readinessProbe" and self._process is not None:
            self._process.kill()
        return False

    def _end_group(self) -> None:
        """Kill what the process left behind, as the end of a container's first process does."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
