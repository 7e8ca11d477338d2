from __future__ import annotations

import hashlib
import hmac
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs import api_keys
from jobs.api_keys import KeyRing, KeysError, Role


class Clock:
    """Monotonic seconds that tests advance."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the current time."""
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the keys file, whose folder does not exist yet."""
    return tmp_path / "nested" / "keys.json"


def test_a_created_key_verifies_and_carries_tenant_and_role(path: Path) -> None:
    """The plain key that create returns is the one the ring accepts."""
    new = api_keys.create_key(path, tenant="acme", role="submitter", name="ci")

    record = KeyRing(path).verify(new.key)

    assert record is not None
    assert (record.key_id, record.tenant, record.role, record.name) == (
        new.key_id,
        "acme",
        Role.SUBMITTER,
        "ci",
    )
    assert new.key.startswith("gl_")


def test_the_file_is_private_and_holds_no_plain_key(path: Path) -> None:
    """Mode 600, hashes only."""
    new = api_keys.create_key(path, tenant="acme", role=Role.ADMIN)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert new.key not in path.read_text()
    assert new.key.removeprefix("gl_") not in path.read_text()


@pytest.mark.parametrize("presented", ["", "gl_", "gl_unknown", "x" * 10_000, "gl_ключ"])
def test_unknown_keys_are_refused(path: Path, presented: str) -> None:
    """Nothing that was not created verifies, however odd it looks."""
    api_keys.create_key(path, tenant="acme", role="viewer")

    assert KeyRing(path).verify(presented) is None


def test_an_expired_key_is_refused(path: Path) -> None:
    """A key ends at its expiry, to the microsecond."""
    end = datetime.now(UTC) + timedelta(hours=1)
    new = api_keys.create_key(path, tenant="acme", role="viewer", expires_at=end)
    ring = KeyRing(path)

    assert ring.verify(new.key, end - timedelta(microseconds=1)) is not None
    assert ring.verify(new.key, end) is None


def test_a_revoked_key_is_refused_and_stays_listed(path: Path) -> None:
    """Revocation keeps the record for the audit, and repeating it keeps the first time."""
    new = api_keys.create_key(path, tenant="acme", role="viewer")

    first = api_keys.revoke_key(path, new.key_id)

    assert KeyRing(path).verify(new.key) is None
    assert api_keys.revoke_key(path, new.key_id) == first
    assert [record.key_id for record in api_keys.list_keys(path)] == [new.key_id]


def test_rotation_gives_a_successor_and_lets_the_old_key_end(path: Path) -> None:
    """Both keys work during the overlap, only the new one after it."""
    old = api_keys.create_key(path, tenant="acme", role="submitter", name="ci")

    new = api_keys.rotate_key(path, old.key_id, overlap=timedelta(hours=1))

    ring = KeyRing(path)
    later = datetime.now(UTC) + timedelta(hours=2)
    assert ring.verify(old.key) is not None
    assert ring.verify(old.key, later) is None
    successor = ring.verify(new.key, later)
    assert successor is not None
    assert (successor.tenant, successor.role, successor.name) == ("acme", Role.SUBMITTER, "ci")


def test_rotation_keeps_a_sooner_expiry(path: Path) -> None:
    """The overlap never prolongs a key."""
    end = datetime.now(UTC) + timedelta(minutes=5)
    old = api_keys.create_key(path, tenant="acme", role="viewer", expires_at=end)

    api_keys.rotate_key(path, old.key_id)

    assert api_keys.list_keys(path)[0].expires_at == end


def test_a_revoked_key_cannot_be_rotated_back_to_life(path: Path) -> None:
    """Rotation needs a key that still works."""
    old = api_keys.create_key(path, tenant="acme", role="viewer")
    api_keys.revoke_key(path, old.key_id)

    with pytest.raises(KeysError, match="revoked"):
        api_keys.rotate_key(path, old.key_id)


def test_the_ring_follows_the_file_within_two_seconds(path: Path) -> None:
    """A running gateway sees new and revoked keys, looking at the file at most once a second."""
    clock = Clock()
    first = api_keys.create_key(path, tenant="acme", role="viewer")
    ring = KeyRing(path, clock=clock)
    second = api_keys.create_key(path, tenant="acme", role="viewer")
    api_keys.revoke_key(path, first.key_id)

    clock.now = 0.5
    assert ring.verify(first.key) is not None
    clock.now = 1.5
    assert ring.verify(first.key) is None
    assert ring.verify(second.key) is not None


def test_a_file_damaged_later_keeps_the_last_good_keys(path: Path) -> None:
    """A broken edit locks nobody out, and mending it is picked up."""
    clock = Clock()
    new = api_keys.create_key(path, tenant="acme", role="viewer")
    ring = KeyRing(path, clock=clock)
    good = path.read_text()

    path.write_text("{")
    clock.now = 2
    assert ring.verify(new.key) is not None

    content = json.loads(good)
    content["keys"] = []
    path.write_text(json.dumps(content))
    clock.now = 4
    assert ring.verify(new.key) is None


@pytest.mark.parametrize("content", [None, "", "[]", '{"version": 2, "keys": []}', '{"keys": [{"key_id": "k"}]}'])
def test_a_missing_or_damaged_file_is_said_at_the_start(path: Path, content: str | None) -> None:
    """A gateway does not start on a file it cannot read."""
    if content is not None:
        path.parent.mkdir()
        path.write_text(content)

    with pytest.raises(KeysError):
        KeyRing(path)


def test_a_damaged_file_is_not_overwritten(path: Path) -> None:
    """Creating a key never throws away lines that it could not read."""
    path.parent.mkdir()
    path.write_text("{")

    with pytest.raises(KeysError):
        api_keys.create_key(path, tenant="acme", role="viewer")
    assert path.read_text() == "{"


@pytest.mark.parametrize(
    ("tenant", "role"),
    [("", "viewer"), ("a:b", "viewer"), ("a b", "viewer"), ("x" * 65, "viewer"), ("a", "root")],
)
def test_bad_tenants_and_roles_are_refused(path: Path, tenant: str, role: str) -> None:
    """A tenant's name is part of store keys, so its alphabet is narrow."""
    with pytest.raises(KeysError):
        api_keys.create_key(path, tenant=tenant, role=role)


def test_an_expiry_must_be_aware_and_in_the_future(path: Path) -> None:
    """Naive and past times are mistakes."""
    past = datetime.now(UTC) - timedelta(seconds=1)

    with pytest.raises(KeysError):
        api_keys.create_key(path, tenant="a", role="viewer", expires_at=past)
    with pytest.raises(KeysError):
        api_keys.create_key(path, tenant="a", role="viewer", expires_at=past.replace(tzinfo=None))


def test_writers_at_once_lose_nothing(path: Path) -> None:
    """The file lock serialises edits."""
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda n: api_keys.create_key(path, tenant=f"t{n}", role="viewer"), range(24)))

    assert {record.key_id for record in api_keys.list_keys(path)} == {new.key_id for new in created}
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("required", list(Role))
def test_each_role_includes_the_ones_below(role: Role, required: Role) -> None:
    """Of viewer, submitter and admin, each may do everything that the ones before it may."""
    order = [Role.VIEWER, Role.SUBMITTER, Role.ADMIN]

    assert role.includes(required) == (order.index(role) >= order.index(required))


def test_a_key_is_compared_by_its_hash_and_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By construction: only the SHA-256 of the key is looked up, and compare_digest decides."""
    path = tmp_path / "keys.json"
    good = api_keys.create_key(path, tenant="a", role="viewer").key
    ring = KeyRing(path)
    compared: list[tuple[str, str]] = []

    def compare(left: str, right: str) -> bool:
        compared.append((left, right))
        return hmac_compare(left, right)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert ring.verify(good) is not None
    digest = hashlib.sha256(good.encode()).hexdigest()
    assert compared == [(digest, digest)]
    assert all(good not in str(record) for record in ring._by_hash.values())
    assert good not in ring._by_hash
