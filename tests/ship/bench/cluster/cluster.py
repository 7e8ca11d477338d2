"""A cluster of local processes: objects in, pods kept as Kubernetes' controllers would keep them.

Deployments, StatefulSets, Jobs, CronJobs, Services, disruption budgets, quotas and nodes; what autoscalers do is in
`autoscaling.py`. Not simulated: networks and their policies (see crossings.py), users and capabilities, resources
other than GPUs.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any, Self

from tests.ship.bench.cluster import rolling
from tests.ship.bench.cluster.containers import Image, count_requests
from tests.ship.bench.cluster.network import Endpoint, Network
from tests.ship.bench.cluster.pods import Pod
from tests.ship.bench.cluster.volumes import Clock, Node
from tests.ship.bench.crossings import matches
from tests.support.processes.harness import wait_for

Manifest = dict[str, Any]
Key = tuple[str, str]
STEP_S = 0.05
WAIT_S = 120.0
GPU = "nvidia.com/gpu"


@dataclass
class Machine:
    """A node: its GPUs, and whether it takes pods."""

    name: str
    gpus: int = 0
    cordoned: bool = False


@dataclass
class Cluster:
    """Objects and pods.

    Attributes:
        images: end of a repository's name -> image.
        clock: how much faster waits pass.
        machines: the nodes.
        objects: by kind and name, as last applied; replicas as last scaled.
        pods: all that are there, with ended ones of Jobs.
        history: pods that are gone.
        refused: workloads for which a pod could not be created, by quota or for lack of a node.
    """

    images: dict[str, Image]
    clock: Clock = field(default_factory=Clock)
    machines: list[Machine] = field(default_factory=lambda: [Machine("node-a"), Machine("node-b")])
    objects: dict[Key, Manifest] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    history: list[Pod] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    controllers: list[Callable[[], None]] = field(default_factory=list)
    failure: Exception | None = None
    _serial: int = 0

    def __post_init__(self) -> None:
        """Start the controllers."""
        self.folder = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
        self.lock, self._closing = RLock(), Event()
        self.network = Network(self._list_endpoints)
        self._shared = Node(
            self.folder, self.clock, self._find_image, lambda: dict(self.objects), self.network.localise
        )
        self.controllers += [self._keep_deployments, self._keep_stateful_sets, self._keep_jobs, self._forget_ended]
        self._thread = Thread(target=self._run, name="controllers", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self._closing.set()
        self._thread.join()
        for pod in self.pods.values():
            pod.delete()
        for pod in self.pods.values():
            pod.ended.wait(WAIT_S)
        self.network.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # What users and Helm do

    def apply(self, manifest: Manifest) -> None:
        """Create or replace an object; replicas that it does not name stay."""
        with self.lock:
            key = (manifest["kind"], manifest["metadata"]["name"])
            manifest = copy.deepcopy(manifest)
            if key in self.objects and "replicas" in self.objects[key].get("spec", {}):
                manifest["spec"].setdefault("replicas", self.objects[key]["spec"]["replicas"])
            if key[0] == "Job" and key in self.objects and self.objects[key]["spec"] != manifest["spec"]:
                raise ValueError(f"Job {key[1]}: field is immutable")
            self.objects[key] = manifest
        if key[0] == "Service":  # without the lock, which the proxies need, too
            self.network.open_service(key[1], [port["port"] for port in manifest["spec"]["ports"]])

    def delete(self, kind: str, name: str) -> None:
        """Delete an object; its pods end."""
        with self.lock:
            self.objects.pop((kind, name), None)
            if kind == "Service":
                self.network.close_service(name)
            if kind == "PersistentVolumeClaim":
                shutil.rmtree(self.folder / "claims" / name, ignore_errors=True)
            for pod in self.pods.values():
                if pod.owner == (kind, name):
                    pod.delete()

    def scale(self, kind: str, name: str, replicas: int) -> None:
        """Set the replicas of a workload."""
        with self.lock:
            self.objects[kind, name]["spec"]["replicas"] = replicas

    def create_job_from(self, cron_job: str, name: str) -> None:
        """Run a CronJob's template now, as `kubectl create job --from` does."""
        template = self.objects["CronJob", cron_job]["spec"]["jobTemplate"]
        self.apply({"kind": "Job", "metadata": {"name": name}, "spec": copy.deepcopy(template["spec"])})

    def run_job(self, name: str) -> Pod:
        """Await the end of a Job; return its last pod."""
        self.await_condition(lambda: self._job_pod(name) is not None, f"Job {name} has ended")
        pod = self._job_pod(name)
        assert pod is not None
        return pod

    def drain(self, machine: str) -> None:
        """Cordon a node and evict its pods as budgets allow; return when none is left.

        Raises:
            AssertionError: a budget never lets a pod go.
        """
        self.find_machine(machine).cordoned = True

        def step() -> bool:
            left = [pod for pod in self.list_pods() if pod.node == machine and pod.phase != "Succeeded"]
            for pod in left:
                if not pod.deleting:
                    self.evict(pod)
            return not left

        self.await_condition(step, f"{machine} is drained")

    def evict(self, pod: Pod) -> bool:
        """Delete a pod if every budget allows it; return whether they do."""
        with self.lock:
            for (kind, _), budget in self.objects.items():
                if kind == "PodDisruptionBudget" and matches(budget["spec"]["selector"], pod.labels):
                    if not pod.ready and budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
                        continue
                    peers = [p for p in self.list_pods() if matches(budget["spec"]["selector"], p.labels)]
                    owners = {peer.owner for peer in peers}
                    expected = sum(self.objects[o]["spec"].get("replicas", 1) for o in owners if o in self.objects)
                    if not rolling.count_disruptions(budget["spec"], expected, sum(p.ready for p in peers)):
                        return False
            pod.delete()
            return True

    # What tests look at

    def find_machine(self, name: str) -> Machine:
        """Return a node."""
        return next(machine for machine in self.machines if machine.name == name)

    def list_pods(self, component: str = "") -> list[Pod]:
        """Return the pods that have not ended, of one component or all."""
        with self.lock:
            return [
                pod
                for pod in self.pods.values()
                if not pod.ended.is_set() and component in ("", pod.labels.get("app.kubernetes.io/component"))
            ]

    def url_of(self, service: str, port: int) -> str:
        """Return the URL of a Service's port."""
        return self.network.localise(f"http://{service}:{port}")

    def is_settled(self) -> bool:
        """Return whether every workload has exactly the ready pods that its present template and replicas want."""
        with self.lock:
            if any(pod.deleting for pod in self.list_pods()):
                return False
            for key in self.objects:
                if key[0] in ("Deployment", "Rollout", "StatefulSet"):
                    spec = self._read_spec(key)
                    pods = [pod for pod in self.list_pods() if pod.owner == key]
                    fresh = hash_template(spec["template"])
                    settled = all(pod.ready and hash_template(pod.template) == fresh for pod in pods)
                    if not settled or len(pods) != spec.get("replicas", 1):
                        return False
        return True

    def await_settled(self) -> None:
        """Wait until every workload is as it should be."""
        self.await_condition(self.is_settled, "every workload has its pods")

    def await_condition(self, condition: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
        """Wait until the condition holds.

        Raises:
            AssertionError: it does not in time; the message shows the pods.
        """

        def is_met() -> object:
            if self.failure is not None:
                raise self.failure
            return condition()

        try:
            wait_for(is_met, within_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe()}") from None

    def describe(self) -> str:
        """Return the pods and the end of the logs of those that are not ready."""
        pods = [*self.history[-3:], *self.pods.values()]
        return "\n".join(
            f"{pod.name} {pod.phase} ready={pod.ready} deleting={pod.deleting} restarts={pod.restarts} "
            f"{pod.exits[-3:]} {pod.reason}" + ("" if pod.ready else f"\n{pod.read_log(5)}")
            for pod in pods
        )

    # Controllers

    def _run(self) -> None:
        try:
            while not self._closing.wait(STEP_S):
                for control in list(self.controllers):
                    control()
        except Exception as error:  # noqa: BLE001 - the next wait raises it
            self.failure = error

    def _keep_deployments(self) -> None:
        with self.lock:
            for kind, name in list(self.objects):
                if kind not in ("Deployment", "Rollout"):
                    continue
                spec = self._read_spec((kind, name))
                owned = [pod for pod in self.list_pods() if pod.owner == (kind, name)]
                change = rolling.plan_deployment(
                    spec, self._states(spec, owned), sum(pod.deleting for pod in owned)
                )
                for victim in change.delete:
                    self.pods[victim].delete()
                for _ in range(change.create):
                    self._serial += 1
                    self._create(f"{name}-{self._serial:x}", (kind, name), spec["template"])

    def _read_spec(self, key: Key) -> Manifest:
        """Return a workload's spec; a Rollout's with the template of its Deployment, and without its steps."""
        spec = self.objects[key]["spec"]
        if "workloadRef" not in spec:
            return spec
        template = self.objects["Deployment", spec["workloadRef"]["name"]]["spec"]["template"]
        bounds = spec["strategy"].get("canary") or {"maxSurge": "100%", "maxUnavailable": 0}
        return {**spec, "template": template, "strategy": {"rollingUpdate": bounds}}

    def _keep_stateful_sets(self) -> None:
        with self.lock:
            for (kind, name), manifest in list(self.objects.items()):
                if kind != "StatefulSet":
                    continue
                owned = [pod for pod in self.list_pods() if pod.owner == (kind, name)]
                names = [f"{name}-{number}" for number in range(manifest["spec"].get("replicas", 1))]
                ending = [pod.name for pod in owned if pod.deleting]
                change = rolling.plan_stateful_set(names, self._states(manifest["spec"], owned), ending)
                for victim in change.delete:
                    self.pods[victim].delete()
                if change.create:
                    pod = names[change.create - 1]
                    self._create(pod, (kind, name), self._with_claims(manifest["spec"], pod))

    def _with_claims(self, spec: Manifest, pod: str) -> Manifest:
        """Return the template with a StatefulSet's claims as volumes, which are created where absent."""
        template = copy.deepcopy(spec["template"])
        for claim in spec.get("volumeClaimTemplates") or ():
            volume = claim["metadata"]["name"]
            key = ("PersistentVolumeClaim", f"{volume}-{pod}")
            self.objects.setdefault(key, {"kind": key[0], "metadata": {"name": key[1]}, "spec": claim["spec"]})
            template["spec"].setdefault("volumes", []).append(
                {"name": volume, "persistentVolumeClaim": {"claimName": key[1]}}
            )
        template["metadata"].setdefault("annotations", {})["bench/template"] = hash_template(spec["template"])
        return template

    def _keep_jobs(self) -> None:
        with self.lock:
            for key, manifest in list(self.objects.items()):
                if key[0] not in ("Job", "Pod") or key in {pod.owner for pod in self.pods.values()}:
                    continue
                template = manifest["spec"]["template"] if key[0] == "Job" else manifest
                self._serial += 1
                self._create(f"{key[1]}-{self._serial:x}", key, template)

    def _forget_ended(self) -> None:
        """Remove ended pods; those of Jobs stay as long as the Job."""
        with self.lock:
            for pod in list(self.pods.values()):
                jobs = pod.owner[0] in ("Job", "Pod") and pod.owner in self.objects
                if pod.ended.is_set() and not jobs:
                    del self.pods[pod.name]
                    self.history.append(pod)
                    if pod.owner[0] != "StatefulSet":
                        self.network.release_address(pod.name)

    def _job_pod(self, name: str) -> Pod | None:
        pods = [pod for pod in self.pods.values() if pod.owner[1] == name and pod.phase in ("Succeeded", "Failed")]
        return pods[-1] if pods else None

    def _states(self, spec: Manifest, pods: Iterable[Pod]) -> list[rolling.PodState]:
        fresh = hash_template(spec["template"])
        return [
            rolling.PodState(pod.name, hash_template(pod.template) == fresh, pod.ready, pod.created)
            for pod in pods
            if not pod.deleting
        ]

    def _create(self, name: str, owner: Key, template: Manifest) -> None:
        """Start a pod where quota and nodes allow it; otherwise the next step tries again."""
        gpus = int(count_requests(template["spec"], GPU))
        machine = self._choose_machine(gpus)
        if machine is None or not self._is_within_quota(gpus):
            self.refused.add(owner[1])
        else:
            self.refused.discard(owner[1])
            (self.folder / "claims").mkdir(exist_ok=True)
            for key in [key for key in self.objects if key[0] == "PersistentVolumeClaim"]:
                (self.folder / "claims" / key[1]).mkdir(exist_ok=True)
            address = self.network.address_of(name)
            self.pods[name] = Pod(name, owner, copy.deepcopy(template), (machine.name, address), self._shared)

    def _choose_machine(self, gpus: int) -> Machine | None:
        def count_free(machine: Machine) -> int:
            return machine.gpus - sum(
                int(count_requests(pod.template["spec"], GPU))
                for pod in self.list_pods()
                if pod.node == machine.name
            )

        candidates = [m for m in self.machines if not m.cordoned and (not gpus or count_free(m) >= gpus)]
        loads = {m.name: sum(pod.node == m.name for pod in self.list_pods()) for m in candidates}
        return min(candidates, key=lambda machine: loads[machine.name], default=None)

    def _is_within_quota(self, gpus: int) -> bool:
        """Return whether one more pod fits; terminating pods count until they are gone."""
        used = sum(int(count_requests(pod.template["spec"], GPU)) for pod in self.list_pods())
        for (kind, _), quota in self.objects.items():
            limit = quota["spec"]["hard"].get(f"requests.{GPU}") if kind == "ResourceQuota" else None
            if limit is not None and gpus and used + gpus > int(limit):
                return False
        return True

    def _find_image(self, name: str) -> Image:
        repository = name.partition("@")[0].rpartition(":")[0]
        ends = [end for end in self.images if repository.endswith(end)]
        return self.images[max(ends, key=len)]

    def _list_endpoints(self, service: str, port: int) -> list[Endpoint]:
        """Return the ready pods behind a Service's port."""
        with self.lock:
            manifest = self.objects.get(("Service", service))
            if manifest is None:
                return []
            [entry] = [entry for entry in manifest["spec"]["ports"] if entry["port"] == port]
            target = entry.get("targetPort", port)
            selector = {"matchLabels": manifest["spec"]["selector"]}
            every = manifest["spec"].get("publishNotReadyAddresses")
            pods = [pod for pod in self.list_pods() if (pod.ready or every) and matches(selector, pod.labels)]
            endpoints = [(pod.address, pod.find_port(target)) for pod in pods]
            return [(address, number) for address, number in endpoints if number is not None]


def hash_template(template: Mapping[str, Any]) -> str:
    """Return the hash of a pod template, or of the one that a StatefulSet's pod was made from."""
    made_from = (template["metadata"].get("annotations") or {}).get("bench/template")
    return made_from or hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
