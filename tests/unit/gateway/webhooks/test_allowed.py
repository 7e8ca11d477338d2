"""GLEANER_WEBHOOK_ALLOW: an entry allows its targets, and nothing next to them."""

from __future__ import annotations

import ipaddress

import pytest

from gateway.webhooks.addresses import ForbiddenTargetError, TargetPolicy, parse_target
from gateway.webhooks.allowed import is_plain_path, parse_allowed
from gateway.webhooks.settings import WebhookSettings


def opens(setting: str, url: str, address: str, tenant: str = "acme") -> bool:
    """Return True if the setting lets a tenant's URL go to an address that is not public."""
    policy = TargetPolicy(allow=parse_allowed(setting), allow_http=True)
    try:
        policy.check_addresses(parse_target(url), [ipaddress.ip_address(address)], tenant)
    except ForbiddenTargetError:
        return False
    return True


@pytest.mark.parametrize(
    ("setting", "url", "address", "open_"),
    [
        ("10.2.0.0/16", "http://a.example:9999/x", "10.2.3.4", True),  # the old form: every port
        ("10.2.0.0/16,fd00::/8", "http://a.example:9999/x", "fd00::5", True),
        ("10.2.0.0/16:8443", "https://a.example:8443/x", "10.2.3.4", True),
        ("10.2.0.0/16:8443", "https://a.example:6379/x", "10.2.3.4", False),
        ("10.2.0.0/16:8443", "https://a.example:8443/x", "10.3.3.4", False),
        ("10.2.0.0/16:8000-8100", "https://a.example:8100/x", "10.2.3.4", True),
        ("10.2.0.0/16:8000-8100", "https://a.example:8101/x", "10.2.3.4", False),
        ("[fd00::/8]:8443", "https://[fd00::5]:8443/x", "fd00::5", True),
        ("[fd00::/8]:8443", "https://[fd00::5]/x", "fd00::5", False),
        ("hooks.internal:8443", "https://hooks.internal:8443/any?x=1", "10.9.9.9", True),
        ("Hooks.Internal:8443", "https://HOOKS.internal:8443/", "10.9.9.9", True),
        ("hooks.internal:8443", "https://hooks.internal:9443/any", "10.9.9.9", False),
        ("hooks.internal:8443", "https://evil.example:8443/any", "10.9.9.9", False),
        ("hooks.internal:8443/gleaner", "https://hooks.internal:8443/gleaner?token=1", "10.9.9.9", True),
        ("hooks.internal:8443/gleaner", "https://hooks.internal:8443/gleaner/", "10.9.9.9", False),
        ("hooks.internal:8443/gleaner", "https://hooks.internal:8443/admin?delete=all", "10.9.9.9", False),
        ("hooks.internal:8443,/gleaner", "https://hooks.internal:8443/gleaner", "10.9.9.9", True),
        ("hooks.internal:8443,/gleaner", "https://hooks.internal:8443/admin", "10.9.9.9", False),
        ("hooks.internal:8443/g/", "https://hooks.internal:8443/g/a/b", "10.9.9.9", True),
        ("hooks.internal:8443/g/", "https://hooks.internal:8443/g", "10.9.9.9", False),
        ("hooks.internal:8443/g/", "https://hooks.internal:8443/g/../admin", "10.9.9.9", False),
        ("hooks.internal:8443/g/", "https://hooks.internal:8443/g/%2e%2E/admin", "10.9.9.9", False),
        ("hooks.internal:8443/g/", "https://hooks.internal:8443/g/..;/admin", "10.9.9.9", False),
        ("hooks.internal:8443/g/", "https://hooks.internal:8443/g/..%2fadmin", "10.9.9.9", False),
        ("hooks.internal:8443/g/", "https://hooks.internal:8443/g/%252e%252e/admin", "10.9.9.9", False),
        ("acme=10.2.0.0/16:8443", "https://a.example:8443/", "10.2.3.4", True),
        ("other=10.2.0.0/16:8443", "https://a.example:8443/", "10.2.3.4", False),
        ("acme=hooks.internal:80/x, other=10.0.0.0/8", "http://hooks.internal/x", "10.2.3.4", True),
    ],
)
def test_what_an_entry_opens(setting: str, url: str, address: str, open_: bool) -> None:
    """A network, its ports, a name with its port, a path of it, for all tenants or one."""
    assert opens(setting, url, address) is open_


@pytest.mark.parametrize(
    "setting",
    [
        "hooks.internal",
        "10.0.0.1/8",
        "10.0.0.0/8:0",
        "10.0.0.0/8:70000",
        "10.0.0.0/8:20-10",
        "=10.0.0.0/8",
        "hooks.internal:80/a/../b",
        "[fd00::/8:80",
        "/path",
        "hooks internal:80",
        "999.1.1.1:80",
    ],
)
def test_what_is_no_entry_is_refused_at_start(setting: str) -> None:
    """A mistake must not open less or more than was meant."""
    with pytest.raises(ValueError, match=r"webhook_allow"):
        WebhookSettings(webhook_allow=setting)


def test_plain_paths() -> None:
    """Those that every server reads alike."""
    assert all(map(is_plain_path, ["/", "/a/b", "/a%20b/c.d/..e", ""]))
    assert not any(map(is_plain_path, ["/..", "/a/./b", "/a/%2e%2e", "/a%2fb", "/a%5Cb", "/a/..;x=1/b", "/%252e"]))
