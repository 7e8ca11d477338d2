"""Readiness of the second port: the API is served, and Redis can be written."""

from __future__ import annotations

from gateway.http.background_services import _make_readiness_check
from gateway.settings import GatewaySettings
from tests.support.processes.harness import free_port


def test_a_gateway_that_serves_nothing_is_not_ready() -> None:
    """Redis is not even asked."""
    check = _make_readiness_check(GatewaySettings(auth="off", redis_url="redis://127.0.0.1:1/0"), lambda: False)
    assert check() == "the API is not served"


def test_a_gateway_without_redis_is_not_ready() -> None:
    """The reason names Redis, and that it must be written."""
    settings = GatewaySettings(auth="off", redis_url=f"redis://127.0.0.1:{free_port()}/0", store_timeout_s=0.5)
    reason = _make_readiness_check(settings, lambda: True)()
    assert reason is not None
    assert reason.startswith("Redis cannot be written: ping_write")
