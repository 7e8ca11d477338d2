"""Label sets in the ledger: versions, limits, deletion."""

from __future__ import annotations

import redis

from jobs.ledger import Ledger, label_sets
from jobs.ledger.label_sets import STORED_VERSIONS, LabelSetVersions, NewVersion
from jobs.ledger.outcomes import LabelSetOutcome
from tests.support.recount import recount, stored


def put(store: Ledger, last: int, sealed: bytes = b"sealed", name: str = "drugs", most: int = 0) -> LabelSetOutcome:
    """Store the version after `last` for tenant t1."""
    return store.run(label_sets.put_label_set(NewVersion("t1", name, last, sealed, labels=3), most)).outcome


def test_a_version_is_read_as_it_was_stored(store: Ledger) -> None:
    """By number, or the latest; of another tenant or name there is none."""
    assert [put(store, 0, b"one"), put(store, 1, b"two")] == ["ok", "ok"]
    latest = store.run(label_sets.read_label_set("t1", "drugs"))
    assert (latest.versions, latest.sealed) == (LabelSetVersions(2, range(1, 3)), b"two")
    assert latest == store.run(label_sets.read_label_set("t1", "drugs", 2))
    assert store.run(label_sets.read_label_set("t1", "drugs", 1)).sealed == b"one"
    for tenant, name, version in (("t1", "drugs", 3), ("t2", "drugs", None), ("t1", "drug", None)):
        assert store.run(label_sets.read_label_set(tenant, name, version)).sealed == b""
    [listed] = store.run(label_sets.list_label_sets("t1"))
    assert (listed.name, listed.versions, listed.labels) == ("drugs", latest.versions, 3)
    assert listed.created == latest.created > 0
    assert store.run(label_sets.list_label_sets("t2")) == ()


def test_a_write_that_did_not_see_the_latest_version_is_refused(store: Ledger) -> None:
    """A repetition of the latest one is not a second version."""
    assert [put(store, 0, b"one"), put(store, 0, b"one")] == ["ok", "ok"]
    assert [put(store, 0, b"other"), put(store, 2, b"other")] == ["conflict", "conflict"]
    assert store.run(label_sets.read_label_set("t1", "drugs")).versions.latest == 1


def test_the_latest_versions_stay(store: Ledger, client: redis.Redis) -> None:
    """Older ones are removed, from the count of bytes too."""
    for last in range(STORED_VERSIONS + 2):
        assert put(store, last, b"x" * (last + 1)) == "ok"
    dropped = store.run(label_sets.read_label_set("t1", "drugs", 2))
    assert (dropped.sealed, dropped.versions.stored) == (b"", range(3, STORED_VERSIONS + 3))
    assert store.run(label_sets.read_label_set("t1", "drugs", 3)).sealed == b"xxx"
    assert stored(client) == recount(client)


def test_a_deleted_set_does_not_give_its_numbers_away(store: Ledger, client: redis.Redis) -> None:
    """A job's name@version stays unambiguous: the next set of this name goes on counting."""
    put(store, 0)
    put(store, 1, b"two")
    assert [store.run(label_sets.delete_label_set("t1", "drugs")) for _ in range(2)] == [True, False]
    gone = store.run(label_sets.read_label_set("t1", "drugs"))
    assert (gone.versions, gone.sealed) == (LabelSetVersions(2, range(0)), b"")
    assert 0 < client.ttl("{gleaner}:lset:t1:drugs") <= 7 * 24 * 3600
    assert stored(client) == {}
    assert [put(store, 0), put(store, 2, b"new")] == ["conflict", "ok"]
    assert store.run(label_sets.read_label_set("t1", "drugs")).versions == LabelSetVersions(3, range(3, 4))
    assert client.ttl("{gleaner}:lset:t1:drugs") == -1


def test_a_tenant_has_a_number_of_sets_and_of_bytes(store: Ledger, client: redis.Redis) -> None:
    """A new version of a set that exists needs no other set."""
    for number in range(label_sets.MAX_LABEL_SETS):
        put(store, 0, b"", f"set{number}")
    assert [put(store, 0), put(store, 1, b"two", "set7")] == ["full", "ok"]
    assert store.run(label_sets.put_label_set(NewVersion("t2", "drugs", 0, b"", 1))).outcome == "ok"
    used = stored(client)["t1"]
    assert put(store, 2, b"x", "set7", most=used) == "stored"
    assert put(store, 2, b"x", "set7", most=used + 1) == "ok"
    assert stored(client)["t1"] == used + 1


def test_a_count_that_an_older_courier_took_off_comes_back(store: Ledger, client: redis.Redis) -> None:
    """It knows no label sets and thinks that their records are of jobs that are gone."""
    put(store, 0, b"one")
    client.hdel("{gleaner}:kept:t1", "l:drugs")
    client.hset("{gleaner}:tenant:t1", "stored", 0)
    put(store, 1, b"three")
    assert stored(client) == recount(client)
