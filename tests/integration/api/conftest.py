"""The gateway that the API's tests call in their process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.api import Api, running_api


@pytest.fixture
async def api(ledger_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """Run a gateway with the default settings."""
    async with running_api(ledger_url, broker_url, tmp_path) as running:
        yield running
