from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from jobs import api_keys
from jobs.api_keys import KeyRing, KeysError, KeysStaleError
from tests.security.bounds.test_access_bounds import JOB, WITHIN_S, bearer, follow
from tests.support.processes.gateways import running_gateway
from tests.support.processes.harness import wait_for


def _duplicated(good: str) -> str:
    content = json.loads(good)
    content["keys"] *= 2
    return json.dumps(content)


def _same_id(good: str) -> str:
    content = json.loads(good)
    content["keys"].append({**content["keys"][0], "sha256": "0" * 64})
    return json.dumps(content)


DAMAGES: dict[str, Callable[[str], str | None]] = {
    "missing": lambda _: None,
    "empty": lambda _: "",
    "half-written": lambda good: good[: len(good) // 2],
    "not an object": lambda _: "[]",
    "wrong types": lambda good: good.replace('"role": "viewer"', '"role": 7'),
    "not UTF-8": lambda good: good.replace("acme", "\udcff"),
    "keys twice": _duplicated,
    "an id twice": _same_id,
    "huge": lambda good: good + " " * (api_keys.MAX_FILE_BYTES + 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_keys_file_closes_the_door_after_a_while(tmp_path: Path, damage: str) -> None:
    """The last good keys count for a while; a restored file counts at once, without its revoked keys."""
    path, now = tmp_path / "keys.json", [0.0]
    new = api_keys.create_key(path, tenant="acme", role="viewer")
    ring = KeyRing(path, max_stale_s=60, clock=lambda: now[0])
    good = path.read_text()
    bad = DAMAGES[damage](good)
    if bad is None:
        path.unlink()
    else:
        path.write_text(bad, errors="surrogateescape")

    now[0] = 10
    assert ring.verify(new.key) is not None
    assert (ring.readable, ring.stale_s) == (False, 0)
    now[0] = 69
    assert ring.verify(new.key) is not None
    for now[0] in (71, 100, 1000):
        with pytest.raises(KeysStaleError):
            ring.verify(new.key)
    with pytest.raises(KeysError):
        KeyRing(path)

    path.write_text(good)
    now[0] = 1002
    assert ring.verify(new.key) is not None
    assert (ring.readable, ring.stale_s) == (True, 0)
    api_keys.revoke_key(path, new.key_id)
    now[0] = 1004
    assert ring.verify(new.key) is None


def test_what_is_no_file_does_not_stop_the_ring(tmp_path: Path) -> None:
    """A pipe would block whoever opens it, a folder cannot be read; both are said."""
    path, now = tmp_path / "keys.json", [0.0]
    new = api_keys.create_key(path, tenant="acme", role="viewer")
    ring = KeyRing(path, clock=lambda: now[0])
    path.unlink()
    for make in (os.mkfifo, os.mkdir):
        make(path)
        now[0] += 2
        assert ring.verify(new.key) is not None  # 0 seconds: never closes
        assert not ring.readable
        path.unlink() if path.is_fifo() else path.rmdir()


def test_a_mounted_secret_s_swap_is_followed(tmp_path: Path) -> None:
    """Kubernetes replaces a link to a folder, and the file's own path never changes."""
    now = [0.0]
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
    old = api_keys.create_key(tmp_path / "..1" / "keys.json", tenant="acme", role="viewer")
    new = api_keys.create_key(tmp_path / "..2" / "keys.json", tenant="acme", role="viewer")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    ring = KeyRing(tmp_path / "keys.json", max_stale_s=60, clock=lambda: now[0])
    assert ring.verify(old.key) is not None

    (tmp_path / "..fresh").symlink_to("..2")
    (tmp_path / "..fresh").replace(tmp_path / "..data")
    now[0] = 2
    assert (ring.verify(old.key), ring.readable) == (None, True)
    assert ring.verify(new.key) is not None
    (tmp_path / "..data").unlink()
    now[0] = 4
    assert ring.verify(new.key) is not None
    assert not ring.readable


def test_a_gateway_without_its_keys_says_so_and_closes(tmp_path: Path, ledger_url: str, broker_url: str) -> None:
    """In its metrics at once, also while nobody calls; then 503 for every key; it opens again by itself."""
    path = tmp_path / "keys.json"
    with (
        running_gateway(tmp_path, ledger_url, broker_url, GLEANER_KEYS_MAX_STALE_S="3") as (gateway, admin),
        ThreadPoolExecutor(1) as pool,
        httpx.Client(base_url=gateway.url, headers=bearer(admin), timeout=30) as client,
    ):
        job = client.post("/v1/jobs", json=JOB).json()["id"]
        began = threading.Event()
        stream = pool.submit(follow, gateway.url, job, bearer(admin), began)
        assert began.wait(10)
        path.rename(tmp_path / "gone")
        wait_for(lambda: "gleaner_keys_file_ok 0.0" in gateway.probe("/metrics")[1], 5, "the metric")
        assert client.get("/v1/limits").status_code == 200
        wait_for(lambda: client.get("/v1/limits").status_code == 503, 10, "the closed door")
        refused = client.get("/v1/limits")
        assert (refused.json()["code"], int(refused.headers["retry-after"]) > 0) == ("keys_unavailable", True)
        name, problem = stream.result(WITHIN_S)[-1]
        assert (name, problem["code"]) == ("error", "keys_unavailable")
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 200

        (tmp_path / "gone").rename(path)
        wait_for(lambda: client.get("/v1/limits").status_code == 200, 3, "the open door")
        wait_for(lambda: "gleaner_keys_file_ok 1.0" in gateway.probe("/metrics")[1], 5, "the metric")
