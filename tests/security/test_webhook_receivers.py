"""Receivers and name servers that attack cost an attempt bounded time and memory, and learn nothing."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.courier.attempts import DeliveryPolicy
from gateway.webhooks.addresses import TargetPolicy
from gateway.webhooks.allowed import parse_allowed
from gateway.webhooks.schedule import AttemptResult, Schedule
from gateway.webhooks.sender import MAX_BODY_BYTES, Sender, SenderOptions
from jobs.ledger import webhooks
from jobs.ledger.webhooks import AttemptVerdict
from tests.support.api import Api, running_api
from tests.support.delivering import hands
from tests.support.ledger import CODEC
from tests.support.processes.couriers import add_endpoint, end_job
from tests.support.servers.name_server import NameServer, name_server
from tests.support.servers.receivers import Receiver, receiving
from tests.support.servers.redis_servers import RedisServer
from tests.support.servers.tunnel import tunnel

pytestmark = pytest.mark.alone

ALL = "/v1/webhook-endpoints"
PUBLIC = "93.184.216.34"
SLOW = 6.0
"""Seconds within which an attempt with a limit of two must be over, on a machine that is busy."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Run a receiver for all."""
    with receiving() as running:
        yield running


def make_sender(tls: ssl.SSLContext | None = None) -> Sender:
    """Return a sender for loopback whose attempts take two seconds at most."""
    policy = TargetPolicy(allow=parse_allowed("127.0.0.0/8"), allow_http=True)
    return Sender(
        policy, lambda host, port: [ip_address("127.0.0.1")], SenderOptions("t", connect_s=2, total_s=2, tls=tls)
    )


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/continue", "protocol_error"),
        ("/huge-head", "protocol_error"),
        ("/chunks", ""),
        ("/bomb", ""),
        ("/huge", ""),
        ("/drip", "timeout"),
        ("/drip-body", ""),
        ("/redirect", "redirect"),
        ("/status-line", "protocol_error"),
    ],
)
def test_an_answer_is_bounded_in_time_bytes_and_memory(receiver: Receiver, path: str, error: str) -> None:
    """Endless interim answers, heads, chunks and bodies, drips, bombs: 2 kB are kept, nothing is unpacked."""
    sender = make_sender()
    sender.post("t", receiver.url("/warm"), {}, b"{}")
    tracemalloc.start()
    began, cpu = time.monotonic(), time.thread_time()
    answer = sender.post("t", receiver.url(path), {}, b"{}")
    took, spent = time.monotonic() - began, time.thread_time() - cpu
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.error == error
    assert took < SLOW
    assert spent < 2
    assert len(answer.body) <= MAX_BODY_BYTES
    if path != "/bomb":  # which the receiver, in this process, packs
        assert peak < 12_000_000


class _Broken(Schedule):
    """A schedule with a fault, for answers that the receiver chooses."""

    def judge_attempt(
        self, answer: AttemptResult, tried: int, chance: float, now: datetime.datetime
    ) -> AttemptVerdict:
        """Break."""
        raise KeyError(answer.status)


@pytest.mark.parametrize(("schedule", "error"), [(Schedule(), "http_error"), (_Broken(), "internal_error")])
def test_no_answer_makes_the_courier_repeat_an_attempt_without_end(
    redis_server: RedisServer, receiver: Receiver, schedule: Schedule, error: str
) -> None:
    """A date beyond all years, or an answer that meets a fault of ours: a failure, and the schedule moves."""
    redis_server.flush()
    with hands(redis_server.url(1), DeliveryPolicy(schedule=schedule), CODEC) as courier:
        add_endpoint(courier.store, "ep_1", receiver.url("/far-future"))
        end_job(courier.store, "job_1")
        assert courier.deliver_due() == {"retry": 1}
        [delivery] = courier.store.run(webhooks.list_deliveries("ep_1", None, 10)).deliveries
        assert ([attempt.error for attempt in delivery.attempts], delivery.state) == ([error], "due")


@contextmanager
def raw(speak: bytes, pause_s: float) -> Iterator[int]:
    """Run a server that says these bytes one at a time, whatever it hears; its port."""
    ending = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            for byte in speak:
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
                if ending.wait(pause_s):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            ending.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def test_a_handshake_that_drips_ends_with_the_attempt() -> None:
    """A byte now and then does not keep a TLS handshake alive beyond the attempt's time."""
    with raw(b"\x16\x03\x03\x3f\xff" + bytes(16_000), 0.2) as port:
        began = time.monotonic()
        answer = make_sender().post("t", f"https://hooks.example:{port}/", {}, b"{}")
        assert answer.error in ("timeout", "connection_lost", "tls_failed")
        assert time.monotonic() - began < SLOW


def _chain(folder: Path, length: int) -> tuple[Path, Path]:
    """Write a chain of `length` certificates, each signed by the next; chain and key."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    certificates = []
    for position in range(length):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"step {position}")])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"step {position + 1}")])
        builder = x509.CertificateBuilder(
            issuer, subject, keys[position > 0].public_key(), x509.random_serial_number()
        )
        builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        names = x509.SubjectAlternativeName([x509.DNSName("x" * 60 + f"{n}.example") for n in range(20)])
        builder = builder.add_extension(x509.BasicConstraints(position > 0, None), True).add_extension(names, False)
        certificates.append(builder.sign(keys[1], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    chain, key = folder / "chain.pem", folder / "chain-key.pem"
    chain.write_bytes(b"".join(certificates))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    key.write_bytes(keys[0].private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return chain, key


@pytest.mark.parametrize("length", [30, 200])
def test_a_huge_chain_of_certificates_fails_quickly(tmp_path: Path, length: int) -> None:
    """Longer than it may be, or leading nowhere: the same, in no time."""
    with receiving(tls=_chain(tmp_path, length)) as running:
        cpu, began = time.thread_time(), time.monotonic()
        answer = make_sender().post("t", running.url("/chain", "hooks.example"), {}, b"{}")
        assert answer.error in ("tls_failed", "connection_lost")
        assert time.thread_time() - cpu < 1
        assert time.monotonic() - began < SLOW


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    """Run a name server for all."""
    with name_server() as running:
        running.records |= {
            "public.example": [PUBLIC],
            "private.example": ["10.1.2.3"],
            "me.example": ["127.0.0.1"],
        }
        yield running


@pytest.fixture
async def api(ledger_url: str, broker_url: str, tmp_path: Path, names: NameServer) -> AsyncIterator[Api]:
    """Run a gateway that looks names up there, and reaches public addresses by an egress proxy."""
    with tunnel() as proxy:
        async with running_api(
            ledger_url,
            broker_url,
            tmp_path,
            webhook_nameservers=f"127.0.0.1:{names.port}",
            webhook_proxy=proxy,
            webhook_allow="me.example:1024-65535,/open/,umbrella=127.0.0.1/32",
            webhook_allow_http=True,
            webhook_timeout_s=1,
            tenant_max_inline_webhooks=3,
        ) as running:
            yield running


async def register(api: Api, url: str, key: str = "submitter") -> httpx.Response:
    """Register an endpoint."""
    return await api.client.post(ALL, json={"url": url}, headers=api.as_role(key))


@pytest.mark.anyio
async def test_registration_is_no_oracle_for_internal_names(api: Api) -> None:
    """A name that does not exist, a private one, one with another path allowed: one answer, at one time."""
    answers = []
    for name in ("absent.example", "private.example", "me.example"):
        began = time.monotonic()
        response = await register(api, f"https://{name}/hook")
        answers.append((response.status_code, response.json()["code"], response.json()["detail"]))
        assert 0.95 < time.monotonic() - began < 1.9
    assert answers == [answers[0]] * 3
    assert answers[0][:2] == (422, "webhook_url_forbidden")


@pytest.mark.anyio
async def test_tarpits_hold_their_own_tenant_alone(api: Api, names: NameServer) -> None:
    """40 names whose server never answers pass unchecked within seconds; others' look-ups do not wait."""

    async def inline(n: int) -> int:
        body = {"labels": ["a"], "documents": [{"text": "b"}], "webhook": {"url": f"https://never.a{n}.example/"}}
        return (await api.client.post("/v1/jobs", json=body)).status_code

    tarpits = [asyncio.create_task(inline(n)) for n in range(40)]
    assert await asyncio.to_thread(names.tarpit_asked.wait, 10)
    for n in range(3):
        names.records[f"fresh{n}.example"] = [PUBLIC]
        began = time.monotonic()
        assert (await register(api, f"https://fresh{n}.example/hook", "other")).status_code == 201
        assert time.monotonic() - began < 2.5
    began = time.monotonic()
    statuses = await asyncio.gather(*tarpits)
    assert time.monotonic() - began < 2 * SLOW
    assert sorted(statuses) == [202] * 3 + [429] * 37  # and three webhooks of single jobs may wait in this gateway


@pytest.mark.anyio
async def test_answers_of_opened_receivers_are_not_shown(api: Api, receiver: Receiver) -> None:
    """`/test` cannot be used to read internal services; a public receiver's response is shown."""
    for host, path, body in (("public.example", "/hook", "ok"), ("me.example", "/open/hook", "")):
        endpoint = (await register(api, f"http://{host}:{receiver.port}{path}")).json()
        tested = (await api.client.post(f"{ALL}/{endpoint['id']}/test")).json()
        assert (tested["delivered"], tested["body"]) == (True, body)


@pytest.mark.anyio
async def test_an_entry_opens_its_path_and_its_tenant_alone(api: Api, receiver: Receiver) -> None:
    """Not the admin page of the same host, not by way of dot segments, and not another tenant's network."""
    for path in ("/admin?delete=all", "/open/../admin", "/open/%2e%2e/admin"):
        assert (await register(api, f"http://me.example:{receiver.port}{path}")).status_code == 422
    assert (await register(api, f"http://127.0.0.1:{receiver.port}/any")).status_code == 422
    assert (await register(api, f"http://127.0.0.1:{receiver.port}/any", "other")).status_code == 201


@pytest.mark.anyio
async def test_tests_of_one_tenant_leave_room_for_others(api: Api, receiver: Receiver) -> None:
    """Two wait for slow receivers; the third is refused with a time; another tenant's is made at once."""
    slow = (await register(api, f"http://public.example:{receiver.port}/silent")).json()["id"]
    quick = (await register(api, f"http://public.example:{receiver.port}/hook", "other")).json()["id"]
    running = [asyncio.create_task(api.client.post(f"{ALL}/{slow}/test")) for _ in range(20)]
    await asyncio.sleep(0)
    began = time.monotonic()
    response = await api.client.post(f"{ALL}/{quick}/test", headers=api.as_role("other"))
    assert (response.status_code, response.json()["delivered"]) == (200, True)
    assert time.monotonic() - began < 1
    answers = await asyncio.gather(*running)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 18
    assert all(answer.json()["code"] == "rate_limited" and answer.headers["Retry-After"] for answer in refused)
