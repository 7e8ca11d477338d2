"""Allowed webhook targets: every kind of address, and every URL that two parsers may read differently."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.addresses import ForbiddenTargetError, TargetPolicy, find_forbidden_reason, parse_target
from gateway.webhooks.allowed import parse_allowed

PRIVATE_V4 = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",  # a cloud's metadata behind carrier-grade NAT
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",  # a cloud's metadata on a public address
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
]
PUBLIC_V4 = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "203.0.112.255",
    "223.255.255.255",
]
PRIVATE_V6 = [
    "::",
    "::1",
    "::7f00:1",  # IPv4-compatible
    "::808:808",
    "::ffff:127.0.0.1",  # IPv4-mapped
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",  # IPv4-translated
    "64:ff9b::127.0.0.1",  # NAT64 of something private
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",  # local-use NAT64
    "64:ff9b:1:ffff:ffff:ffff:8.8.8.8",
    "100::1",
    "100:0:0:1::1",
    "2001::1",  # Teredo
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:3::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",  # 6to4
    "2002:808:808::1",
    "2620:4f:8000::1",
    "3fff::1",
    "4000::1",
    "5f00::1",  # segment routing
    "fc00::1",
    "fd00:ec2::254",  # a cloud's metadata
    "fdff:ffff::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700:4700::1111%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "2606:4700:0:0:0:5efe:7f00:1",  # ISATAP
    "2606:4700:0:0:200:5efe:808:808",
]
PUBLIC_V6 = ["2606:4700:4700::1111", "2a00:1450:4001:830::200e", "2001:4860:4860::8888", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("text", PRIVATE_V4 + PRIVATE_V6)
def test_what_is_not_public_is_refused_with_a_reason(text: str) -> None:
    """Private, local, reserved, test, multicast and embedding addresses of both families."""
    assert find_forbidden_reason(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC_V4 + PUBLIC_V6)
def test_what_is_public_passes(text: str) -> None:
    """The neighbours of every block, and public IPv6; a NAT64 address counts as the IPv4 in it."""
    assert find_forbidden_reason(ipaddress.ip_address(text)) is None


@given(st.integers(0, 2**32 - 1))
def test_nothing_the_standard_library_calls_private_passes(number: int) -> None:
    """The table is never more generous than Python's own."""
    address = IPv4Address(number)
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert find_forbidden_reason(address)


@given(st.integers(0, 2**128 - 1))
def test_ipv6_outside_of_global_unicast_is_refused(number: int) -> None:
    """Only 2000::/3 is allocated to hosts; NAT64's prefix is judged by the embedded address."""
    address = IPv6Address(number)
    if number >> 125 != 1 and number >> 32 != 0x64FF9B << 64:
        assert find_forbidden_reason(address)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["::ffff:0:0", "::", "::ffff:0:0:0", "2002::", "64:ff9b:1::"]))
def test_no_embedding_but_nat64_passes(number: int, prefix: str) -> None:
    """An IPv4 address inside an IPv6 one is a way around a filter, whatever it is."""
    shift = 80 if prefix == "2002::" else 0
    assert find_forbidden_reason(IPv6Address(int(IPv6Address(prefix)) | number << shift))


@given(st.integers(0, 2**32 - 1))
def test_nat64_is_what_it_embeds(number: int) -> None:
    """A network without IPv4 reaches the world through it, and must not reach the inside."""
    assert find_forbidden_reason(IPv6Address((0x64FF9B << 96) | number)) == find_forbidden_reason(
        IPv4Address(number)
    )


def test_networks_that_are_opened() -> None:
    """GLEANER_WEBHOOK_ALLOW allows its entries and nothing else, the machine's own addresses included."""
    policy, target = (
        TargetPolicy(allow=parse_allowed("10.1.0.0/16,fd00::/8")),
        parse_target("https://hooks.example/"),
    )
    for text in ("10.1.2.3", "fd12::1"):
        assert not policy.check_addresses(target, [ipaddress.ip_address(text)], "t")
        assert not policy.check_addresses(target, [ipaddress.ip_address(text)], "t", lambda _: True)
    assert policy.check_addresses(target, [ipaddress.ip_address("8.8.8.8")], "t")
    for text in ("10.2.0.1", "127.0.0.1", "::ffff:10.1.2.3"):
        with pytest.raises(ForbiddenTargetError):
            policy.check_addresses(target, [ipaddress.ip_address(text)], "t")
        with pytest.raises(ForbiddenTargetError):  # one bad one is enough
            policy.check_addresses(target, [ipaddress.ip_address("10.1.2.3"), ipaddress.ip_address(text)], "t")


def test_this_machines_own_public_address_is_refused() -> None:
    """A service must not be made to call itself, on whatever address it listens."""
    with pytest.raises(ForbiddenTargetError):
        TargetPolicy().check_addresses(
            parse_target("https://8.8.8.8/"), [ipaddress.ip_address("8.8.8.8")], "t", lambda _: True
        )


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("https://example.com/", "example.com", 443, "/"),
        ("https://example.com?a=b", "example.com", 443, "/?a=b"),
        ("HTTPS://Example.COM/Path", "example.com", 443, "/Path"),
        ("http://example.com:8080/a/b?c=%2F&d=[1]".replace("[1]", "1"), "example.com", 8080, "/a/b?c=%2F&d=1"),
        ("https://xn--bcher-kva.example/a@b//c:d", "xn--bcher-kva.example", 443, "/a@b//c:d"),
        ("https://receiver:8443/hook", "receiver", 8443, "/hook"),
        ("https://8.8.8.8/x", "8.8.8.8", 443, "/x"),
        ("https://[2606:4700:4700:0::1111]:8443/x", "2606:4700:4700::1111", 8443, "/x"),
    ],
)
def test_plain_urls_are_parsed(url: str, host: str, port: int, target: str) -> None:
    """The usual ways to write a URL."""
    parsed = parse_target(url)
    assert (parsed.host, parsed.port, parsed.target) == (host, port, target)


CONFUSING = [
    "",
    "example.com",
    "//example.com/",
    "https:/example.com",
    "https:///example.com",
    "https://",
    "https://?a",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com:6379/_FLUSHALL",
    "javascript:alert(1)",
    " https://example.com/",
    "https://example.com/ ",
    "https://example.com/a b",
    "https://example.com/\n",
    "https://example.com/\r\nHost: 127.0.0.1",
    "https://example.com\t.evil.example/",
    "https://user@example.com/",
    "https://user:pass@example.com/",  # pragma: allowlist secret
    "https://8.8.8.8@127.0.0.1/",
    "https://127.0.0.1\\@example.com/",
    "https://example.com\\.evil.example/",
    "https:\\\\example.com\\",
    "https://example.com/#fragment",
    "https://example.com#@127.0.0.1/",
    "https://example.com/a\\b",
    "https://example.com/%",
    "https://example.com/%zz",
    "https://%65xample.com/",
    "https://127%2e0%2e0%2e1/",
    "https://example.com./",
    "https://.example.com/",
    "https://exa..mple.com/",
    "https://-example.com/",
    "https://example-.com/",
    "https://exa_mple.com/",
    "https://" + "a" * 64 + ".com/",
    "https://" + ".".join(["a" * 60] * 5) + "/",
    "https://example.com/" + "a" * 2048,
    "https://b\u00fccher.example/",
    "https://\u24d4xample.com/",
    "https://127\u30020\u30020\u30021/",  # ideographic full stops
    "https://127\uff0e0\uff0e0\uff0e1/",  # fullwidth full stops
    "https://\uff11\uff12\uff17.0.0.1/",  # fullwidth digits
    "https://\u212axample.com/",  # the Kelvin sign, which lowers to a plain k
    "https://example.com/\u00e9",
    "https://2130706433/",  # 127.0.0.1 as one number
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.0.0.1.1/",
    "https://127.0.0.01/",
    "https://127.0.0.256/",
    "https://example.0x7f/",
    "https://1.2.3.4.5.example.127/",
    "https://[::1/",
    "https://::1/",
    "https://[::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[::1]extra/",
    "https://[127.0.0.1]/",
    "https://[v1.x]/",
    "https://example.com:/",
    "https://example.com:0/",
    "https://example.com:0443/",
    "https://example.com:65536/",
    "https://example.com:99999/",
    "https://example.com:-1/",
    "https://example.com:443:80/",
    "https://example.com:4 43/",
    "https://example.com:\u0664\u0664\u0663/",
    "https://example.com:22/",
    "https://example.com:25/",
]


@pytest.mark.parametrize("url", CONFUSING)
def test_whatever_two_parsers_could_read_differently_is_refused(url: str) -> None:
    """Nothing is decoded, completed or corrected: an unusual URL is refused, with a reason for its owner."""
    with pytest.raises(ForbiddenTargetError) as refused:
        parse_target(url)
    assert refused.value.code == "url_forbidden"
    assert refused.value.reason


@given(st.text(max_size=40))
def test_parsing_never_fails_otherwise(text: str) -> None:
    """Any text is a target or a refusal, and a target's host is plain ASCII."""
    for url in (text, f"https://{text}/", f"https://example.com/{text}"):
        try:
            target = parse_target(url)
        except ForbiddenTargetError:
            continue
        assert target.host.isascii()
        assert target.target.isascii()


def test_plain_http_and_private_literals() -> None:
    """Plain http only where it is allowed; a private address in the URL itself is refused before any look-up."""
    with pytest.raises(ForbiddenTargetError):
        TargetPolicy().parse_url("http://example.com/", "t")
    assert TargetPolicy(allow_http=True).parse_url("http://example.com/", "t").port == 80
    for url in ("https://10.0.0.1/", "https://[::ffff:10.0.0.1]/", "https://[::1]/"):
        with pytest.raises(ForbiddenTargetError):
            TargetPolicy().parse_url(url, "t")
