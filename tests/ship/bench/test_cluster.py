"""The life of a release on a cluster of local processes: rendered by Helm, scaled by KEDA's algorithm.

The tests tell one story, in this order, and each leaves the release as it should be.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator

import httpx
import pytest
import redis
from moto.server import ThreadedMotoServer
from redis.backoff import NoBackoff
from redis.retry import Retry

from gleaner import NotFound
from tests.ship.bench.cluster.containers import read_data
from tests.ship.bench.release import Values, make_secret
from tests.ship.bench.world import WORKER, World

pytestmark = pytest.mark.timeout(300)


def test_an_installation_on_an_empty_cluster_serves(world: World) -> None:
    """Nothing else is prepared; no worker runs, and `helm test` gets its entities from zero."""
    assert not world.cluster.list_pods("worker")
    assert "succeeded" in world.release.test()
    assert world.operator.peaks[WORKER] == 1


def test_keda_needs_the_users_password(world: World) -> None:
    """The rendered trigger reads the ledger; with another user, or without its password, it fails."""
    spec = world.cluster.objects["ScaledObject", WORKER]["spec"]
    assert [reading.value is None for reading in world.operator.read_triggers(spec)] == [False]
    for change in ({"username": "gateway"}, {"username": "nobody"}):
        wrong = copy.deepcopy(spec)
        wrong["triggers"][0]["metadata"] |= change
        assert [reading.value for reading in world.operator.read_triggers(wrong)] == [None]


def test_an_upgrade_under_load_loses_nothing(world: World) -> None:
    """KEDA starts three workers; then all but Valkey are replaced. No request fails, and no document runs twice."""
    with world.load() as load:
        world.await_workers(3)
        before = {pod.name for pod in world.cluster.list_pods()}
        world.upgrade({"images": {"gateway": {"tag": "2"}, "worker": {"tag": "2"}}})
        remaining = before & {pod.name for pod in world.cluster.list_pods()}
    assert remaining == {"gleaner-valkey-0"}
    assert load.failures == []
    assert load.check_all() > 0
    assert world.list_unclean_ends() == []


def test_a_setting_of_valkey_restarts_it(world: World) -> None:
    """Its checksum makes a new pod; meanwhile the API answers 503, and workers keep their shards."""
    [valkey] = world.cluster.list_pods("valkey")
    with world.load() as load:
        world.await_workers(1)
        world.upgrade({"valkey": {"maxmemory": "300mb"}})
    [restarted] = world.cluster.list_pods("valkey")
    assert restarted is not valkey
    memory = restarted.execute("valkey", ["sh", "/etc/valkey/cli.sh", "info", "memory"])
    assert "maxmemory:314572800" in memory
    assert {failure.partition(" ")[2] for failure in load.failures} <= {"503"}
    assert load.check_all() > 0
    assert world.list_unclean_ends() == []


def test_passwords_are_rotated_without_a_failed_request(world: World) -> None:
    """Old and new are valid together; an upgrade replaces who reads them; then the old ones go. KEDA follows."""
    users = ("gateway", "worker", "courier", "keda")
    old = read_data("Secret", "gleaner-valkey", world.cluster.objects)
    new = {f"{user}-password": secrets.token_hex(8) for user in users}
    previous = {f"{name}-previous": old[name] for name in new}
    with world.load() as load:
        world.await_workers(1)
        world.edit_secret("gleaner-valkey", **new, **previous)
        await_password(world, "gateway", new["gateway-password"])
        before = {pod.name for pod in world.cluster.list_pods()}
        world.upgrade()
        after = {pod.name for pod in world.cluster.list_pods()}
        world.edit_secret("gleaner-valkey", **dict.fromkeys(previous))
        world.cluster.await_condition(
            lambda: not is_accepted(world, "gateway", old["gateway-password"]), "the old password is gone"
        )
        world.upgrade()
    assert {name.rpartition("-")[0] for name in before & after} == {"gleaner-valkey", "gleaner-flower"}
    assert load.failures == []
    assert load.check_all() > 0
    assert world.operator.fallbacks == set()
    assert world.list_unclean_ends() == []


def await_password(world: World, user: str, password: str) -> None:
    """Wait until Valkey takes a password."""
    world.cluster.await_condition(lambda: is_accepted(world, user, password), f"{user} may use the new password")


def is_accepted(world: World, user: str, password: str) -> bool:
    """Return whether Valkey takes a password."""
    host, _, port = world.cluster.network.localise("gleaner-valkey.gleaner.svc:6379").partition(":")
    once = Retry(NoBackoff(), 0)
    with redis.Redis(host, int(port), username=user, password=password, retry=once) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return False


def test_every_node_can_be_drained(world: World) -> None:
    """Budgets let one pod of a kind go at a time, the ledger, too; everything accepted is done once."""
    with world.load() as load:
        world.await_workers(2)
        for machine in world.cluster.machines:
            world.cluster.drain(machine.name)
            machine.cordoned = False
            world.cluster.await_settled()
    assert {failure.partition(" ")[2] for failure in load.failures} <= {"503"}
    assert load.check_all() > 0
    assert world.list_unclean_ends() == []


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """Run an object store with an empty bucket; return rclone's variables for it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.post(f"http://{host}:{port}/moto-api/reset", trust_env=False).raise_for_status()
    httpx.put(f"http://{host}:{port}/ledgers", trust_env=False).raise_for_status()
    options = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": f"http://{host}:{port}"}
    options |= {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}
    yield {f"RCLONE_CONFIG_STORE_{name}": value for name, value in options.items()}
    server.stop()


BACKUP: Values = {"backup": {"enabled": True, "destination": "store:ledgers/prod"}}


@pytest.mark.slow
def test_a_lost_volume_is_restored_as_the_page_says(world: World, bucket: dict[str, str]) -> None:
    """Jobs from before the backup are there, and open ones finish; a job accepted later is unknown."""
    cluster = world.cluster
    cluster.apply(make_secret("gleaner-backup", bucket))
    world.upgrade(BACKUP)
    with world.client() as client:
        done = client.submit(["Ada Lovelace"], ["person"])
        assert len(list(done.results())) == 1
        with world.operator.pause():
            cluster.scale("Deployment", WORKER, 0)
            world.await_zero()
            waiting = client.submit(["Grace Hopper"] * 40, ["person"])
            run_job_from(world, "gleaner-backup-now")
            lost = client.submit(["Alan Turing"], ["person"])
            lose_volume_and_restore(world)
    assert "succeeded" in world.release.test()
    with world.client() as client:
        assert client.job(done.id).refresh().status == "succeeded"
        assert len(list(client.job(waiting.id).results())) == 40
        with pytest.raises(NotFound):
            client.job(lost.id).refresh()
    world.upgrade({"backup": {"fetch": {"enabled": False}}, "valkey": {"restore": {"enabled": False}}})
    assert ("PersistentVolumeClaim", "gleaner-restore") not in cluster.objects
    run_job_from(world, "gleaner-backup-again")


def lose_volume_and_restore(world: World) -> None:
    """Do steps 1 to 3 of the page (disaster-recovery.md, Restore)."""
    cluster = world.cluster
    world.upgrade({"backup": {"fetch": {"enabled": True}}}, settle=False)
    assert cluster.run_job("gleaner-restore").phase == "Succeeded"
    cluster.scale("StatefulSet", "gleaner-valkey", 0)
    cluster.await_condition(lambda: not cluster.list_pods("valkey"), "Valkey has stopped")
    cluster.delete("PersistentVolumeClaim", "data-gleaner-valkey-0")
    world.upgrade({"valkey": {"restore": {"enabled": True}}})
    assert ("Job", "gleaner-restore") not in cluster.objects


def run_job_from(world: World, name: str) -> None:
    """Run the backup's CronJob now."""
    world.cluster.create_job_from("gleaner-backup", name)
    pod = world.cluster.run_job(name)
    assert pod.phase == "Succeeded", pod.read_log()
    world.cluster.delete("Job", name)


def test_it_goes_back_to_zero(world: World) -> None:
    """Without work the last worker is stopped, and every process of the story has ended by itself."""
    world.await_zero()
    assert world.cluster.is_settled()
    assert world.list_unclean_ends() == []
