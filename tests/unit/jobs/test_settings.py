"""Settings that processes share: forms of values, and combinations that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from jobs.settings import Settings

KEYS = ("a" * 43 + "=", "b" * 43 + "=")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are comma-separated, numbers of formats are text there, and an empty variable counts as unset."""
    monkeypatch.setenv("GLEANER_ENCRYPTION_KEYS", f" {KEYS[0]} ,, {KEYS[1]}")
    monkeypatch.setenv("GLEANER_ENCRYPTION_FORMAT", "2")
    monkeypatch.setenv("GLEANER_MODELS", "small,medium=large:1")
    monkeypatch.setenv("GLEANER_LOG_LEVEL", "")
    settings = Settings()

    assert tuple(key.get_secret_value() for key in settings.encryption_keys) == KEYS
    assert settings.encryption_format == 2
    assert settings.models.served == ("small", "large")
    assert settings.log_level == "INFO"


@pytest.mark.parametrize("models", ["a,b=c:1", ("a", "b=c:1"), ["a", "b=c:1"]])
def test_models_are_one_string_or_a_list(models: Any) -> None:
    """A chart renders a string; code may pass the entries."""
    assert Settings(models=models).models.names == ("a", "b")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"redis_cert_file": "/c.pem"}, "must be set together"),
        ({"redis_key_file": "/k.pem"}, "must be set together"),
        ({"models": "a,a"}, "listed twice"),
        ({"encryption_format": "3"}, "Input should be 1 or 2"),
        ({"encryption_format": "two"}, "Input should be 1 or 2"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, Any], message: str) -> None:
    """The message says what is wrong, and no secret."""
    with pytest.raises(ValidationError, match=message):
        Settings(**values)


def test_an_invalid_url_is_not_quoted() -> None:
    """URLs have passwords in them."""
    with pytest.raises(ValidationError) as raised:
        Settings(redis_url="redis+sentinel://:geheim@one")
    assert "geheim" not in str(raised.value)


def test_files_of_tls_join_both_urls() -> None:
    """A parameter of the URL wins, and a URL without TLS stays."""
    settings = Settings(
        redis_url="rediss://one/1?ssl_cert_reqs=none",
        broker_url="redis://two/0",
        redis_ca_file="/ca.pem",  # type: ignore[arg-type]  # as the environment has it
    )

    assert settings.redis_url == "rediss://one/1?ssl_cert_reqs=none&ssl_ca_certs=%2Fca.pem"
    assert settings.broker_url == "redis://two/0"
