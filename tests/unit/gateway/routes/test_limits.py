"""A caller's limits: null where there is none."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.access import Caller
from gateway.access.rate_limits import Limiter
from gateway.routes.limits import LimitsBody, get_limits
from gateway.settings import GatewaySettings
from jobs.api_keys import KeyLimits, Role
from jobs.ledger import OpenWork
from jobs.ledger.access import RateWindow, Taken
from jobs.observability.metrics import GatewayMetrics
from tests.support.fakes.routes import FakeBarrier, make_services
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER

pytestmark = pytest.mark.anyio


async def read_limits(caller: Caller = CALLER, **settings: Any) -> LimitsBody:
    """Return the limits of a caller of a gateway with these settings, who used 3 of everything."""
    options = GatewaySettings(auth="off", **settings)
    ledger = ScriptedLedger(
        read_open_work=OpenWork(key_jobs=1, jobs=2, characters=3, stored_bytes=4),
        take_rates=Taken(None, (RateWindow(0, 0, 3, 500),)),
    )
    limiter = Limiter(options, ledger, GatewayMetrics(CollectorRegistry()))
    services = make_services(settings=options, ledger=ledger, limiter=limiter, barrier=FakeBarrier())
    return await get_limits(services, caller)


async def test_by_default_there_is_no_limit() -> None:
    """The used amounts are shown all the same."""
    body = await read_limits()
    assert (body.open.key_jobs_limit, body.open.jobs_limit, body.open.characters_limit) == (None, None, None)
    assert (body.open.key_jobs, body.open.jobs, body.open.characters) == (1, 2, 3)
    assert (body.stored.bytes, body.stored.bytes_limit) == (4, None)
    assert body.rates == []


async def test_limits_of_a_key_stand_before_everyone_s() -> None:
    """They were given to it on purpose."""
    caller = Caller("k", "acme", Role.VIEWER, KeyLimits(open_jobs=7, stored_bytes=9))
    settings = {"key_open_jobs": 70, "tenant_max_stored_bytes": 90, "tenant_max_open_jobs": 80}
    body = await read_limits(caller, **settings)
    assert (body.open.key_jobs_limit, body.open.jobs_limit, body.stored.bytes_limit) == (7, 80, 9)
    usual = await read_limits(**settings)
    assert (usual.open.key_jobs_limit, usual.stored.bytes_limit) == (70, 90)


async def test_a_rate_is_shown_with_what_remains() -> None:
    """Its time until all of it is available is rounded up."""
    [rate] = (await read_limits(key_requests_per_s=10)).rates
    assert (rate.name, rate.limit, rate.remaining, rate.resets_in_s) == ("requests-key", 10, 7, 1)


@pytest.mark.parametrize(("durability", "append_only"), [("process", None), ("disk", True)])
async def test_whether_the_server_writes_to_disk_is_known_only_if_it_was_asked(
    durability: str, append_only: bool | None
) -> None:
    """With `process` no response waits for it."""
    body = await read_limits(durability=durability)
    assert body.durability.append_only is append_only


async def test_the_limits_of_a_request_are_the_settings() -> None:
    """Clients can divide their documents by them."""
    body = await read_limits(max_documents=7, max_upload_s=5)
    assert (body.request.documents, body.request.upload_s) == (7, 5)
    assert body.request.content_encodings == ["gzip", "zstd"]
