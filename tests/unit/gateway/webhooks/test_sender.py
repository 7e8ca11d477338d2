"""One HTTP attempt against real sockets: every behaviour of a receiver has its result, in bounded time."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.webhooks.addresses import NOT_PUBLIC, Address, ForbiddenTargetError, TargetPolicy, parse_target
from gateway.webhooks.allowed import parse_allowed
from gateway.webhooks.dns import Resolve, Resolver, UnknownNameError
from gateway.webhooks.pinned_transport import Proxy
from gateway.webhooks.schedule import AttemptResult
from gateway.webhooks.sender import MAX_BODY_BYTES, Sender, SenderOptions
from tests.support.servers.certificates import Authority
from tests.support.servers.receivers import Receiver, receiving

HERE: Address = ipaddress.ip_address("127.0.0.1")
LOCAL = TargetPolicy(allow=parse_allowed("127.0.0.0/8"), allow_http=True)


def make_sender(policy: TargetPolicy = LOCAL, resolve: Resolve | None = None, **options: object) -> Sender:
    """Return a sender with short time limits, for which every name resolves to this machine."""
    times: dict[str, object] = {"connect_s": 0.5, "total_s": 1.0, **options}
    return Sender(policy, resolve or (lambda host, port: [HERE]), SenderOptions("gleaner-webhooks/test", **times))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Run a receiver for all tests; its paths are independent."""
    with receiving() as running:
        yield running


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/fine", 200, ""),
        ("/500", 500, "http_error"),
        ("/503/7", 503, "http_error"),
        ("/429/7", 429, "http_error"),
        ("/410", 410, "http_error"),
        ("/redirect", 307, "redirect"),
        ("/huge", 200, ""),
        ("/huge-head", 0, "protocol_error"),
        ("/silent", 0, "timeout"),
        ("/drip", 0, "timeout"),
        ("/drip-body", 200, ""),
        ("/reset", 0, "connection_lost"),
        ("/garbage", 0, "protocol_error"),
    ],
)
def test_every_behaviour_has_its_answer_in_bounded_time(
    receiver: Receiver, path: str, status: int, error: str
) -> None:
    """No receiver holds an attempt beyond its deadline, feeds it more than 2 kB, or leads it elsewhere."""
    began = time.monotonic()
    answer = make_sender().post("t", receiver.url(path), {"webhook-id": "x"}, b"{}")
    assert (answer.status, answer.error) == (status, error)
    assert time.monotonic() - began < 4
    assert len(answer.body) <= MAX_BODY_BYTES
    if path.count("/") == 2:
        assert answer.retry_after == "7"


def test_what_is_sent(receiver: Receiver) -> None:
    """Body and headers arrive as they are; the Host is the URL's name; nothing of the environment is added."""
    make_sender().post(
        "t", receiver.url("/what?a=1&b=%2f", host="hooks.example.com"), {"webhook-id": "dlv_1"}, b'{"a":1}'
    )
    [request] = receiver.at("/what?a=1&b=%2f")
    assert request.body == b'{"a":1}'
    assert request.headers == {
        "host": f"hooks.example.com:{receiver.port}",
        "user-agent": "gleaner-webhooks/test",
        "content-type": "application/json",
        "content-length": "7",
        "accept-encoding": "identity",
        "connection": "close",
        "webhook-id": "dlv_1",
    }


def test_proxies_of_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy variable that an operator set for something else does not see webhooks."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert make_sender().post("t", receiver.url("/env"), {}, b"{}").status == 200


def test_a_name_that_changes_its_answer_gains_nothing(receiver: Receiver) -> None:
    """DNS rebinding: there is one look-up per attempt, and the connection goes to the checked address."""
    allowed: Address = ipaddress.ip_address("127.0.0.2")  # nobody listens there
    policy = TargetPolicy(allow=parse_allowed("127.0.0.2/32"), allow_http=True)
    seen: list[tuple[str, int]] = []

    def changing(host: str, port: int) -> Sequence[Address]:
        seen.append((host, port))
        return [allowed] if len(seen) == 1 else [HERE]

    rebinding = make_sender(policy, changing)
    url = receiver.url("/rebound", host="rebind.example.com")
    assert (
        rebinding.post("t", url, {}, b"{}").error == "connect_failed"
    )  # to the checked address, not to a second answer
    assert rebinding.post("t", url, {}, b"{}").error == "address_forbidden"
    assert seen == [("rebind.example.com", receiver.port)] * 2  # one look-up per attempt
    assert receiver.at("/rebound") == []


def test_one_bad_address_refuses_all(receiver: Receiver) -> None:
    """A name with a public and a private address is not called at all, whichever comes first."""
    public: Address = ipaddress.ip_address("198.51.99.7")
    for addresses in ([public, HERE], [HERE, public]):
        mixed = make_sender(TargetPolicy(allow_http=True), lambda host, port, addresses=addresses: addresses)  # type: ignore[misc]
        assert mixed.post("t", "http://mixed.example.com:8080/", {}, b"{}").error == "address_forbidden"
        with pytest.raises(ForbiddenTargetError):
            mixed.check_target(parse_target("http://mixed.example.com:8080/"), "t")
    assert receiver.at("/") == []


def test_this_machine_is_refused_under_any_name() -> None:
    """Whatever getaddrinfo makes of a name, loopback is loopback."""
    real = Sender(TargetPolicy(allow_http=True), Resolver(), SenderOptions("t"))
    for url in ("http://localhost:8080/", "http://127.0.0.1:8080/", "http://[::1]:8080/"):
        assert real.post("t", url, {}, b"{}").error == "address_forbidden"


@pytest.mark.parametrize(
    ("error", "at_registration", "code"),
    [
        (UnknownNameError("unknown"), "refused", "address_forbidden"),
        (TimeoutError(), "accepted", "dns_timeout"),
        (OSError("broken"), "accepted", "dns_failed"),
    ],
)
def test_look_ups_that_fail(error: OSError, at_registration: str, code: str) -> None:
    """A name that does not exist is refused at registration; a resolver that is away refuses nobody."""

    def failing(host: str, port: int) -> Sequence[Address]:
        raise error

    unlucky = make_sender(resolve=failing)
    assert unlucky.post("t", "https://example.com/", {}, b"{}").error == code
    if at_registration == "refused":
        with pytest.raises(ForbiddenTargetError):
            unlucky.check_target(parse_target("https://example.com/"), "t")
    else:
        unlucky.check_target(parse_target("https://example.com/"), "t")


def test_a_refusal_reveals_nothing_about_the_name() -> None:
    """An unknown name and a private one get the same result, and the attempt has no latency."""

    def unknown(host: str, port: int) -> Sequence[Address]:
        raise UnknownNameError

    closed = TargetPolicy(allow_http=True)
    answers = [
        make_sender(closed, resolve).post("t", "https://name.example/", {}, b"{}") for resolve in (unknown, None)
    ]
    assert answers[0] == answers[1] == AttemptResult(0, 0, error="address_forbidden")
    reasons = []
    for resolve in (unknown, None):
        with pytest.raises(ForbiddenTargetError) as refused:
            make_sender(closed, resolve).check_target(parse_target("https://name.example/"), "t")
        reasons.append(refused.value.reason)
    assert reasons == [NOT_PUBLIC] * 2


def test_a_second_address_is_tried(receiver: Receiver) -> None:
    """A receiver with a dead address is reached by the next one."""
    nobody: Address = ipaddress.ip_address("127.0.0.99")
    answer = make_sender(resolve=lambda host, port: [nobody, HERE]).post(
        "t", receiver.url("/second", "two.example.com"), {}, b"{}"
    )
    assert answer.status == 200


def test_tls_is_verified_against_the_name(tmp_path: Path) -> None:
    """The certificate must be for the URL's name, by a trusted authority; the pinned address changes nothing."""
    authority = Authority.make(tmp_path)
    trusting = ssl.create_default_context(cafile=str(authority.path))
    with receiving(tls=authority.issue("hooks.example.com")) as receiver:
        right, wrong = receiver.url("/tls", "hooks.example.com"), receiver.url("/tls", "other.example.com")
        assert make_sender(tls=trusting).post("t", right, {}, b"{}").status == 200
        assert make_sender(tls=trusting).post("t", wrong, {}, b"{}").error == "tls_failed"
        assert make_sender().post("t", right, {}, b"{}").error == "tls_failed"
        assert len(receiver.at("/tls")) == 1


def test_a_receiver_without_tls_is_no_https_receiver(receiver: Receiver) -> None:
    """TLS to a port that speaks plain http fails; nothing is sent in the clear."""
    url = receiver.url("/plain", "hooks.example.com").replace("http:", "https:")
    assert make_sender().post("t", url, {}, b"{}").error == "tls_failed"
    assert receiver.at("/plain") == []


def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    """A receiver that asks for a certificate gets ours."""
    authority = Authority.make(tmp_path)
    bare = ssl.create_default_context(cafile=str(authority.path))
    dressed = ssl.create_default_context(cafile=str(authority.path))
    dressed.load_cert_chain(authority.issue("gleaner.example.com")[1])
    with receiving(authority.issue("hooks.example.com"), client_ca=authority.path) as receiver:
        url = receiver.url("/mutual", "hooks.example.com")
        assert make_sender(tls=dressed).post("t", url, {}, b"{}").status == 200
        assert make_sender(tls=bare).post("t", url, {}, b"{}").status == 0


def test_the_egress_proxy_gets_the_checked_address(receiver: Receiver) -> None:
    """Through a proxy too it is the checked address that is connected to, and a forbidden one never reaches it."""
    heads: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def proxy() -> None:
        client, _ = listener.accept()
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        heads.append(head)
        with socket.create_connection(("127.0.0.1", receiver.port)) as onward, client:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            request = b""
            while not request.endswith(b"{}"):
                request += client.recv(65536)
            onward.sendall(request)
            while chunk := onward.recv(65536):
                client.sendall(chunk)

    thread = threading.Thread(target=proxy)
    thread.start()
    through = Proxy.parse(f"http://user:pass@127.0.0.1:{listener.getsockname()[1]}")
    sending = make_sender(proxy=through)
    assert sending.post("t", receiver.url("/through", "hooks.example.com"), {}, b"{}").status == 200
    thread.join()
    listener.close()
    assert heads[0].startswith(f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in heads[0]
    closed = make_sender(TargetPolicy(allow_http=True), proxy=through)
    assert closed.post("t", receiver.url("/through", "hooks.example.com"), {}, b"{}").error == "address_forbidden"
