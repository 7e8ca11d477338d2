"""Connections after a fork, and proxies that the environment names."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import httpx
import pytest

from gleaner import Client, GleanerError, TransportError
from gleaner.client.connection import find_proxy, is_loopback
from tests.support.fakes.scripted_http import Answer, ReceivedRequest, ScriptedServer

FORKED = """
import json, os, sys
from gleaner import Client

def ask(client, name, times):
    for number in range(times):
        [result] = client.extract([f"{name}-{number}"], ["x"])
        if result.entities[0].text != f"{name}-{number}":
            return f"{name} asked {name}-{number}, got {result.entities[0].text}"
    return "own answers"

client = Client(sys.argv[1])
ask(client, "parent", 1)
children = []
for child in range(4):
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, ask(client, f"child{child}", 20).encode())
        client.close()  # must not end the parent's connection
        os._exit(0)
    os.close(write)
    children.append(read)
answers = [ask(client, "parent", 20)]
for read in children:
    with os.fdopen(read) as pipe:
        answers.append(pipe.read())
    os.wait()
answers.append(ask(client, "parent", 1))
print(json.dumps(answers))
"""


def echo(request: ReceivedRequest) -> Answer:
    """Return one entity: the text itself."""
    text = request.json()["documents"][0]["text"]
    entity = {"start": 0, "end": len(text), "text": text, "label": "x", "score": 1.0}
    result = {"index": 0, "id": "0", "status": "succeeded", "entities": [entity], "windows": 1, "truncated": False}
    counts = {"total": 1, "queued": 0, "running": 0, "succeeded": 1, "failed": 0, "cancelled": 0, "expired": 0}
    job = {"id": "job_1", "status": "succeeded", "counts": counts, "progress": 1.0}
    return Answer(body={"job": job, "results": [{**result, "warnings": [], "attempts": 1, "error": None}]})


def test_every_process_gets_its_own_answers_after_a_fork() -> None:
    """Four children and the parent share a client that has an open connection."""
    with ScriptedServer(behaviour=echo).running() as server:
        run = subprocess.run(
            [sys.executable, "-c", FORKED, server.url], capture_output=True, text=True, timeout=60, check=True
        )
    assert json.loads(run.stdout) == ["own answers"] * 6


def test_a_transport_of_the_caller_is_not_shared_with_a_child() -> None:
    """It cannot be made again, so the child is refused instead of given somebody else's answers."""
    read, write = os.pipe()
    client = Client("http://127.0.0.1:9", transport=httpx.MockTransport(lambda request: httpx.Response(200)))
    if os.fork() == 0:
        try:
            client.models()
        except GleanerError as error:
            os.write(write, str(error).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert "before a fork" in pipe.read()
    os.wait()
    client.close()


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the proxies from the environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense://x"])
def test_a_gateway_on_this_machine_is_reached_past_any_proxy(proxied: pytest.MonkeyPatch, proxy: str) -> None:
    """A proxy of the environment is for the world outside."""
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        proxied.setenv(name, proxy)
    with ScriptedServer(behaviour=echo).running() as server, Client(server.url, retries=0) as client:
        assert client.extract(["Ada"], ["x"])[0].entities[0].text == "Ada"


def test_an_error_behind_a_proxy_names_it(proxied: pytest.MonkeyPatch) -> None:
    """Without its password, and with the variable that goes around it."""
    proxied.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:9")  # pragma: allowlist secret
    with Client("http://gateway.example", retries=0) as client, pytest.raises(TransportError) as caught:
        client.models()
    assert "http://127.0.0.1:9" in str(caught.value)
    assert "NO_PROXY" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks5://user@127.0.0.1:9", "nonsense://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_named(proxied: pytest.MonkeyPatch, proxy: str) -> None:
    """SOCKS requires another package, which httpx names; the error is a TransportError."""
    proxied.setenv("ALL_PROXY", proxy)
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:9") as caught:
        Client("http://gateway.example")
    assert "user" not in str(caught.value)


def test_loopback_by_name_and_address() -> None:
    """Loopback addresses and localhost names are this machine."""
    for url in (
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "http://[::1]:1",
        "http://localhost:1",
        "http://a.localhost",
    ):
        assert is_loopback(url), url
    for url in ("http://10.0.0.1", "http://localhost.example", "http://0.0.0.0", "gateway:8000"):
        assert not is_loopback(url), url


def test_no_proxy_is_heard(proxied: pytest.MonkeyPatch) -> None:
    """Hosts that NO_PROXY names are reached without."""
    proxied.setenv("HTTPS_PROXY", "proxy.example:3128")
    assert find_proxy("https://gateway.example") == "http://proxy.example:3128"
    assert find_proxy("http://gateway.example") is None
    proxied.setenv("NO_PROXY", "gateway.example")
    assert find_proxy("https://gateway.example") is None
