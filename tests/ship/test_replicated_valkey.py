"""The chart's Valkey with a replica and Sentinels: rendered pods as processes, restarted, killed and emptied."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from gateway.store.durability import Barrier
from jobs.ledger import LedgerUnavailableError, record_key
from jobs.redis.clients import cancel_task, connect, connect_async
from jobs.settings import Durability
from tests.conftest import Tool
from tests.support.processes.harness import READY_S, wait_for
from tests.support.servers.replicated_valkey import Pod, ReplicatedValkey, replicated_valkey

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def store(tool: Tool) -> Iterator[ReplicatedValkey]:
    """Run two servers and three Sentinels; each test leaves them well."""
    values = {"backup": {"enabled": True, "destination": "store:ledgers"}}
    folder = Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))  # short, because of the sockets' paths
    try:
        with replicated_valkey(folder, tool("redis-cli"), values) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _writes(store: ReplicatedValkey, durability: Durability) -> AsyncIterator[list[str]]:
    """Write until the block ends, as a gateway does; yield the keys of acknowledged writes."""
    acknowledged: list[str] = []
    url = store.url("gateway", 1)
    async with connect_async(url, 2.0, "test") as client, connect_async(url, 2.0, "barrier") as other:
        barrier = Barrier(other, durability)

        async def write() -> None:
            for number in range(1_000_000):
                job = f"job_{durability}_{number}"
                with suppress(RedisError, OSError, LedgerUnavailableError):
                    await client.set(record_key(job), number)
                    await barrier.confirm_writes(job)
                    acknowledged.append(record_key(job))
                await asyncio.sleep(0.002)

        task = asyncio.create_task(write())
        try:
            yield acknowledged
            count = len(acknowledged)
            await asyncio.to_thread(wait_for, lambda: len(acknowledged) > count + 20, READY_S, "writes go on")
        finally:
            await cancel_task(task)
            await barrier.stop()


def _list_lost(store: ReplicatedValkey, keys: list[str]) -> list[str]:
    with connect(store.url("gateway", 1), 2.0, "test") as client:
        return [key for key, value in zip(keys, client.mget(keys), strict=True) if value is None]


def _split_roles(store: ReplicatedValkey) -> tuple[Pod, Pod]:
    """Return the master and the replica."""
    master, replica = sorted(store.valkeys, key=store.role)
    return master, replica


def _await_replica(store: ReplicatedValkey, pod: Pod) -> None:
    wait_for(lambda: store.role(pod) == "slave connected", READY_S, f"{pod.name} is a replica")
    wait_for(lambda: store.is_ready(pod), READY_S, f"{pod.name} is ready")


async def test_an_update_of_all_servers_loses_no_write(store: ReplicatedValkey) -> None:
    """Each master hands over before it ends, with every write that it answered, confirmed by a replica or not."""
    async with _writes(store, "process") as keys:
        for pod in reversed(store.valkeys):  # a StatefulSet's order
            await asyncio.to_thread(store.stop, pod)
            store.start(pod)
            await asyncio.to_thread(_await_replica, store, pod)
    assert [store.role(pod) for pod in store.valkeys] == ["slave connected", "master"]
    assert _list_lost(store, keys) == []


async def test_a_killed_master_comes_back_as_a_replica(store: ReplicatedValkey) -> None:
    """Clients follow to the new master, which has every write that was confirmed by a replica."""
    master, replica = _split_roles(store)
    async with _writes(store, "replica") as keys:
        await asyncio.to_thread(wait_for, lambda: len(keys) > 20, READY_S, "writes are confirmed")
        store.kill(master)
        await asyncio.to_thread(
            wait_for, lambda: store.role(replica) == "master", READY_S, "the replica takes over"
        )
        store.start(master)
        await asyncio.to_thread(_await_replica, store, master)
    assert store.role(replica) == "master"
    assert _list_lost(store, keys) == []


def test_an_empty_server_never_becomes_the_master_of_one_with_data(store: ReplicatedValkey) -> None:
    """The master's volume is lost, and it starts again before the Sentinels notice."""
    master, replica = _split_roles(store)
    with connect(store.url("gateway", 1), 2.0, "test") as client:
        client.set("{gleaner}:kept", "yes")
        assert client.wait(1, 2000) == 1
        store.kill(master)
        shutil.rmtree(master.folder / "data")
        store.start(master)
        _await_replica(store, master)
        assert client.get("{gleaner}:kept") == b"yes"
    assert store.role(replica) == "master"
    wait_for(lambda: not (master.folder / "data" / "unsynced").exists(), READY_S, "it may be chosen again")


def test_after_the_end_of_all_pods_the_same_server_is_the_master(store: ReplicatedValkey) -> None:
    """The Sentinels' volumes name it; neither the order of starts nor the number of a server decides."""
    master, replica = _split_roles(store)
    with connect(store.url("gateway", 1), 2.0, "test") as client:
        client.set("{gleaner}:last", "yes")
        for pod in (*store.sentinels, replica, master):
            store.kill(pod)
        for pod in (*store.sentinels, replica, master):
            store.start(pod)
        _await_replica(store, replica)
        assert store.role(master) == "master"
        assert client.get("{gleaner}:last") == b"yes"


def test_passwords_of_servers_and_sentinels_change_without_a_failover(store: ReplicatedValkey) -> None:
    """Old and new are valid together; a Sentinel starts again to read them, and a server reads them as it runs."""
    master, replica = _split_roles(store)
    for user in ("replication", "sentinel", "gateway"):
        store.passwords[f"{user}-password-previous"] = store.passwords[f"{user}-password"]
        store.passwords[f"{user}-password"] = f"new-of-{user}"
    for pod in store.valkeys:
        store.write_passwords(pod)
    for pod in store.valkeys:
        wait_for(lambda pod=pod: store.role(pod) != "", READY_S, "the server knows the new password")  # type: ignore[misc]
    for pod in store.sentinels:
        store.write_passwords(pod)
        assert pod.process
        assert pod.process.wait(10) == 0  # the kubelet starts it again
        store.start(pod)
    for user in ("replication", "sentinel", "gateway"):
        del store.passwords[f"{user}-password-previous"]
    for pod in store.valkeys:
        store.write_passwords(pod)
    store.kill(replica)
    store.start(replica)
    _await_replica(store, replica)
    assert store.role(master) == "master"
    with connect(store.url("gateway", 1), 2.0, "test") as client:
        assert client.ping()


def test_the_backup_finds_the_master(store: ReplicatedValkey) -> None:
    """The snapshot's container asks the Sentinels with the backup's own user."""
    master, _ = _split_roles(store)
    assert store.run_snapshot() == f"-h {master.host} --user backup"


def test_who_asks_a_sentinel_may_change_nothing(store: ReplicatedValkey) -> None:
    """Clients read the master's address; only the servers' own scripts may ask for a failover."""
    [pod, *_] = store.sentinels
    with store.client(pod, "gateway", 26379) as client:
        for command in ("FAILOVER gleaner", "REMOVE gleaner", "SET gleaner quorum 1", "RESET *"):
            with pytest.raises(RedisError, match="no permissions"):
                client.execute_command("SENTINEL", *command.split())
