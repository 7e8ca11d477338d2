"""A cluster shared by all scenarios and drills."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import Tool
from tests.ship.bench.world import FAST_S, SMALL, World, running_world


@pytest.fixture(scope="session")
def world(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Install the default release where every operator is; BENCH_ENGINE=model runs the shipped model."""
    fast = os.environ.get("BENCH_ENGINE") != "model"
    with running_world(tool, tmp_path_factory.mktemp("programs"), engine_pace_s=FAST_S if fast else None) as world:
        world.upgrade(SMALL)
        yield world
