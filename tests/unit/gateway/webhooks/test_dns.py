"""Names are looked up by /etc/hosts and DNS, within two seconds, and as the system would; on a real name server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.webhooks.dns import Resolver, UnknownNameError, parse_name_servers
from tests.support.servers.name_server import NameServer, name_server, write_conf


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    """Run a name server for all tests."""
    with name_server() as running:
        yield running


@pytest.fixture
def resolver(server: NameServer, tmp_path: Path) -> Resolver:
    """Return a resolver that asks it alone, and knows no search domains."""
    return make_resolver(server, tmp_path, "")


def make_resolver(server: NameServer, folder: Path, conf: str, hosts: str = "", *, deaf: bool = False) -> Resolver:
    """Return a resolver with these files; `deaf`: its first server answers nothing."""
    (folder / "hosts").write_text(hosts)
    servers = [("127.0.0.2", 9), server.address] if deaf else [server.address]
    return Resolver(servers, conf=write_conf(folder, "nameserver 127.0.0.1\n" + conf), hosts=folder / "hosts")


def test_both_families(server: NameServer, resolver: Resolver) -> None:
    """Every address, those with a route first."""
    server.records["both.example"] = ["2001:db8::7", "127.0.0.1"]
    addresses = resolver("both.example", 443)
    assert set(addresses) == {ip_address("2001:db8::7"), ip_address("127.0.0.1")}
    server.records["six.example"] = ["2001:db8::8"]
    assert list(resolver("six.example", 443)) == [ip_address("2001:db8::8")]


@pytest.mark.parametrize(
    ("name", "error"), [("nothing.example", UnknownNameError), ("empty.example", UnknownNameError)]
)
def test_a_name_that_does_not_exist(
    server: NameServer, resolver: Resolver, name: str, error: type[OSError]
) -> None:
    """No such name, or a name without an address: the same."""
    server.records["empty.example"] = []
    with pytest.raises(error):
        resolver(name, 443)


def test_a_server_that_never_answers_takes_two_seconds(resolver: Resolver) -> None:
    """Search domains, families and repeats included."""
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        resolver("never.example", 443)
    assert 1.5 < time.monotonic() - began < 3


def test_the_next_server_is_asked(server: NameServer, tmp_path: Path) -> None:
    """A dead or silent server costs less than a second."""
    server.records["second.example"] = ["127.0.0.3"]
    began = time.monotonic()
    assert list(make_resolver(server, tmp_path, "", deaf=True)("second.example", 443)) == [ip_address("127.0.0.3")]
    assert time.monotonic() - began < 2


def test_slow_truncated_chained_and_broken_answers(server: NameServer, resolver: Resolver) -> None:
    """A slow one counts; a truncated one comes again by TCP; a chain is followed, an endless one is none."""
    for name in ("slow.example", "truncated.example", "chain.example", "chain40.example", "noaaaa.example"):
        server.records[name] = ["127.0.0.4"]
    for name in ("slow.example", "truncated.example", "chain.example", "noaaaa.example"):
        assert list(resolver(name, 443)) == [ip_address("127.0.0.4")]
    assert server.by_tcp["truncated.example"]
    for name in ("chain40.example", "servfail.example", "garbage.example"):
        with pytest.raises(OSError, match=r"^|No|Chain") as raised:
            resolver(name, 443)
        assert not isinstance(raised.value, UnknownNameError)


def test_an_answer_with_thousands_of_addresses_is_of_no_use(server: NameServer, resolver: Resolver) -> None:
    """They would all have to be checked."""
    server.records["truncated.many.example"] = [f"10.{n >> 8}.{n & 255}.1" for n in range(2000)]
    with pytest.raises(OSError, match="too many"):
        resolver("truncated.many.example", 443)


def test_search_domains_and_dots_as_in_kubernetes(server: NameServer, tmp_path: Path) -> None:
    """With `ndots:5` the cluster comes first; a wildcard without address there hides no public name."""
    conf = "search hooks.svc.cluster.local svc.cluster.local corp.example\noptions ndots:5\n"
    cluster = make_resolver(server, tmp_path, conf)
    server.records["receiver.hooks.svc.cluster.local"] = ["10.1.2.3"]
    server.records["api.public.example"] = ["127.0.0.5"]
    server.records["api.public.example.corp.example"] = []
    assert list(cluster("receiver", 443)) == [ip_address("10.1.2.3")]
    assert list(cluster("receiver.hooks.svc.cluster.local", 443)) == [ip_address("10.1.2.3")]
    assert list(cluster("api.public.example", 443)) == [ip_address("127.0.0.5")]
    plain = make_resolver(server, tmp_path, "search corp.example\n")
    server.records["only.corp.example"] = ["10.9.9.9"]
    assert list(plain("only", 443)) == [ip_address("10.9.9.9")]


def test_hosts_are_read_again_when_they_change(server: NameServer, tmp_path: Path) -> None:
    """Like getaddrinfo; comments, capitals and invalid lines are handled too. localhost needs no line."""
    local = make_resolver(server, tmp_path, "", "127.0.0.7 Hooks.Internal other # a comment\nnonsense\n::7 other\n")
    assert list(local("hooks.internal", 443)) == [ip_address("127.0.0.7")]
    assert set(local("other", 443)) == {ip_address("127.0.0.7"), ip_address("::7")}
    assert ip_address("127.0.0.1") in local("localhost", 443)
    assert not any(name in ("hooks.internal", "localhost") for name, _ in server.questions)
    (tmp_path / "hosts").write_text("127.0.0.8 hooks.internal\n# and more\n")
    assert list(local("hooks.internal", 443)) == [ip_address("127.0.0.8")]


def test_answers_are_kept_for_their_time(server: NameServer, resolver: Resolver) -> None:
    """There is a single query per family while the TTL lasts; a TTL of 0 is not cached."""
    server.records["kept.example"] = server.records["fresh.example"] = ["127.0.0.9"]
    for _ in range(3):
        resolver("kept.example", 443)
    assert server.questions["kept.example", "A"] == 1
    server.ttl = 0
    for _ in range(3):
        resolver("fresh.example", 443)
    server.ttl = 60
    assert server.questions["fresh.example", "A"] == 3


def test_without_configuration_the_machine_itself_is_asked(tmp_path: Path) -> None:
    """Like the system's resolver; the name is then unknown."""
    alone = Resolver(conf=tmp_path / "absent", hosts=tmp_path / "absent", within_s=0.3)
    with pytest.raises(OSError, match=r"|timed"):
        alone("example.com", 443)


def test_name_servers_of_the_setting() -> None:
    """An address, with a port or without."""
    servers = parse_name_servers(["10.0.0.10", "10.0.0.10:5353", "[fd00::10]:5353", "fd00::10"])
    assert servers == [("10.0.0.10", 53), ("10.0.0.10", 5353), ("fd00::10", 5353), ("fd00::10", 53)]
    for wrong in ("dns.example", "10.0.0.10:x", "[fd00::10", "10.0.0.300"):
        with pytest.raises(ValueError, match="is not a name server"):
            parse_name_servers([wrong])
