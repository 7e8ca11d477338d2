"""A TLS-only Redis without a default user, with the users of docs/reference/security-redis.md."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from tests.support.processes.harness import ROOT, free_port, wait_for
from tests.support.servers.certificates import Authority

START = ROOT / "charts" / "gleaner" / "files" / "valkey" / "start.sh"
USERS = ("gateway", "worker", "courier", "flower", "keda", "backup")
KEEPER = "keeper"
"""The tests' own user, who may look at everything."""


@dataclass(frozen=True)
class TlsAclRedis:
    """The running server.

    Attributes:
        settings: environment of a process that may enter, but for its URLs.
    """

    directory: Path
    port: int
    authority: Authority
    settings: dict[str, str]

    def url(self, user: str, db: int) -> str:
        """Return the URL of a database as this user."""
        return f"rediss://{user}:{user}-password@localhost:{self.port}/{db}"  # pragma: allowlist secret

    def urls(self, user: str) -> dict[str, str]:
        """Return the environment of a process that connects as this user."""
        return {**self.settings, "GLEANER_REDIS_URL": self.url(user, 1), "GLEANER_BROKER_URL": self.url(user, 0)}

    def client(self, user: str = KEEPER, db: int = 1, **options: Any) -> redis.Redis:
        """Return a client for the tests' use."""
        files = {
            "ssl_ca_certs": self.settings["GLEANER_REDIS_CA_FILE"],
            "ssl_certfile": self.settings["GLEANER_REDIS_CERT_FILE"],
            "ssl_keyfile": self.settings["GLEANER_REDIS_KEY_FILE"],
        }
        return redis.Redis.from_url(self.url(user, db), **{**files, "socket_timeout": 5, **options})

    def denied(self) -> list[str]:
        """Return the refusals since the last call: user, reason and object."""
        with self.client() as client:
            refusals = [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in client.acl_log()]
            client.acl_log_reset()
        return refusals


def write_users(directory: Path, passwords: Mapping[str, str]) -> Path:
    """Write the users' file as the chart and compose.yaml do, by their start script, and return where it is.

    Args:
        directory: where the file goes.
        passwords: the script's environment.
    """
    script = START.read_text().replace("exec valkey-server", ": not")
    environment = {"PATH": os.environ["PATH"], "RUN_FOLDER": str(directory), **passwords}
    subprocess.run(["sh", "-c", script], env=environment, check=True)
    return directory / "users.acl"


@contextmanager
def tls_acl_redis(binary: Path, directory: Path) -> Iterator[TlsAclRedis]:
    """Run the server until the block ends."""
    authority = Authority.make(directory)
    certificate, key = authority.issue("localhost")
    shown, shown_key = authority.issue("gleaner")
    users = write_users(directory, {f"{name.upper()}_PASSWORD": f"{name}-password" for name in USERS})
    with users.open("a") as file:
        file.write(f"user {KEEPER} on >{KEEPER}-password ~* &* +@all\n")
    port = free_port()
    options = {
        "--dir": str(directory), "--bind": "127.0.0.1", "--port": "0", "--tls-port": str(port),
        "--tls-cert-file": str(certificate), "--tls-key-file": str(key), "--tls-ca-cert-file": str(authority.path),
        "--tls-auth-clients": "yes", "--aclfile": str(users), "--appendonly": "yes", "--save": "",
        "--maxmemory-policy": "noeviction", "--hz": "500",
    }  # fmt: skip
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    flat = [part for pair in options.items() for part in pair]
    log = directory / "redis.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*guard, str(binary), *flat], stdout=output, stderr=subprocess.STDOUT)
    settings = {
        "GLEANER_REDIS_CA_FILE": str(authority.path),
        "GLEANER_REDIS_CERT_FILE": str(shown),
        "GLEANER_REDIS_KEY_FILE": str(shown_key),
    }
    running = TlsAclRedis(directory, port, authority, settings)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            with running.client() as client:
                return bool(client.ping())
        except RedisError:
            return False

    try:
        wait_for(answers, 10, "the server answers")
        yield running
    finally:
        process.terminate()
        process.wait(10)
