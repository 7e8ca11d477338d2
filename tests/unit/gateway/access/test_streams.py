"""Open streams are counted for each key and each tenant, and released however they end."""

from __future__ import annotations

import contextlib

import pytest
from prometheus_client import CollectorRegistry

from gateway.access import Caller
from gateway.access.streams import Streams
from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from jobs.api_keys import Role
from jobs.observability.metrics import GatewayMetrics


def make_streams(*, key: int, tenant: int) -> tuple[Streams, GatewayMetrics]:
    """Return a counter with these limits, and the metrics that it counts refusals in."""
    metrics = GatewayMetrics(CollectorRegistry())
    settings = GatewaySettings(auth="off", key_streams=key, tenant_streams=tenant)
    return Streams(settings, metrics), metrics


def caller(key: str, tenant: str = "acme") -> Caller:
    """Return the holder of a key."""
    return Caller(key, tenant, Role.SUBMITTER)


@pytest.mark.parametrize(
    ("scope", "limits", "untouched"),
    [
        ("key", {"key": 2, "tenant": 0}, caller("k2")),
        ("tenant", {"key": 0, "tenant": 2}, caller("k1", "other")),
    ],
)
def test_the_stream_after_the_last_is_refused(scope: str, limits: dict[str, int], untouched: Caller) -> None:
    """The refusal names the limit and is counted; whoever has not reached it goes on."""
    streams, metrics = make_streams(**limits)
    with streams.hold_slot(caller("k1")), streams.hold_slot(caller("k1")):
        with pytest.raises(GatewayError) as refused, streams.hold_slot(caller("k1")):
            pass
        with streams.hold_slot(untouched):
            pass
    assert (refused.value.code, refused.value.retry_after_s) == ("rate_limited", 5)
    assert refused.value.detail.startswith(f"your {scope} has 2 streams")
    assert metrics.limited.labels("streams", scope)._value.get() == 1


def test_a_stream_that_ends_is_released() -> None:
    """Neither an exception in the block nor a refusal holds a slot."""
    streams, _ = make_streams(key=1, tenant=1)
    with contextlib.suppress(ZeroDivisionError), streams.hold_slot(caller("k1")):
        raise ZeroDivisionError
    with streams.hold_slot(caller("k1")), pytest.raises(GatewayError), streams.hold_slot(caller("k2")):
        pass
    with streams.hold_slot(caller("k2")):
        pass


def test_zero_is_no_limit() -> None:
    """Without limits any number may be open."""
    streams, _ = make_streams(key=0, tenant=0)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(streams.hold_slot(caller("k1")))
