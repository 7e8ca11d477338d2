from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings import GatewaySettings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_auth_may_be_off_on_loopback(host: str) -> None:
    """Nobody but this machine reaches it."""
    assert GatewaySettings(auth="off", host=host).auth == "off"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway.example"])
def test_auth_off_elsewhere_does_not_start(host: str) -> None:
    """An open service is never an accident."""
    with pytest.raises(ValidationError, match="loopback"):
        GatewaySettings(auth="off", host=host)


def test_defaults_stay_within_limits() -> None:
    """A job that names no deadline must not break the longest one."""
    with pytest.raises(ValidationError, match="GLEANER_DEFAULT_DEADLINE_S"):
        GatewaySettings(max_deadline_s=60)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """GLEANER_ and the field's name."""
    monkeypatch.setenv("GLEANER_MAX_DOCUMENTS", "7")

    assert GatewaySettings().max_documents == 7
