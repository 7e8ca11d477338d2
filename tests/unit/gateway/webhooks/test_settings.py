"""Settings of webhooks: lists, and their checks at start-up."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.webhooks.settings import WebhookSettings, split_commas


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", ()), (" a , ,b", ("a", "b")), (("a, b",), ("a, b",)), (None, None)],
)
def test_only_strings_are_split_at_commas(value: object, expected: object) -> None:
    """Blank entries are dropped; other values are left to the field's own check."""
    assert split_commas(value) == expected


def test_lists_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are comma-separated, not JSON."""
    monkeypatch.setenv("GLEANER_WEBHOOK_ALLOW", "hooks.internal:8443, 10.20.0.0/16")
    monkeypatch.setenv("GLEANER_WEBHOOK_NAMESERVERS", "10.0.0.10,[fd00::10]:5353")
    settings = WebhookSettings()
    assert settings.webhook_allow == ("hooks.internal:8443", "10.20.0.0/16")
    assert settings.webhook_nameservers == ("10.0.0.10", "[fd00::10]:5353")


@pytest.mark.parametrize(
    ("name", "value"),
    [("webhook_allow", "10.20.0.1/16"), ("webhook_allow", "hooks.internal"), ("webhook_nameservers", "dns")],
)
def test_an_entry_that_means_nothing_does_not_start(name: str, value: str) -> None:
    """A mistake shows at start-up, not at the first webhook."""
    with pytest.raises(ValidationError):
        WebhookSettings(**{name: value})  # type: ignore[arg-type]
