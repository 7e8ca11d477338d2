"""HTTP load generator with little CPU use: it runs on the cores that are being measured."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its JSON, and seconds from when the request was due until the response arrived."""

    body: Any
    seconds: float


def encode_post(path: str, body: Any, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of a POST request."""
    data = orjson.dumps(body)
    all_headers = {
        "Host": "localhost",
        "Content-Type": "application/json",
        **headers,
        "Content-Length": str(len(data)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + data


def run_closed_loop(url: str, requests: Sequence[bytes], clients: int) -> list[Answer]:
    """Send requests from `clients` clients, each waiting for its answer; return answers in requests' order."""
    return asyncio.run(_send_all(url, [(0.0, request) for request in requests], clients))


def run_open_loop(
    url: str, requests: Sequence[bytes], rate: float, seed: int = 0, clients: int = 128
) -> list[Answer]:
    """Send requests at random times, `rate` per second on average, without waiting for earlier answers.

    A request for which no connection is free waits, and that time counts.
    """
    rng, at, plan = random.Random(seed), 0.0, []
    for request in requests:
        at += rng.expovariate(rate)
        plan.append((at, request))
    return asyncio.run(_send_all(url, plan, clients))


async def _send_all(url: str, plan: Sequence[tuple[float, bytes]], clients: int) -> list[Answer]:
    answers: list[Answer | None] = [None] * len(plan)
    waiting = iter(enumerate(plan))
    address = urlsplit(url)
    start = time.perf_counter()

    async def run_client() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for i, (due, request) in waiting:
            await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
            began = max(start + due, start) if due else time.perf_counter()
            writer.write(request)
            body = await read_response(reader)
            answers[i] = Answer(orjson.loads(body), time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(run_client() for _ in range(min(clients, len(plan)))))
    return [answer for answer in answers if answer is not None]


async def read_response(reader: asyncio.StreamReader, status: int = 200) -> bytes:
    """Return the body of the next response.

    Raises:
        RuntimeError: it has another status.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
    body = await (reader.readexactly(int(length)) if length else _read_chunks(reader))
    if not head.startswith(f"http/1.1 {status}".encode()):
        raise RuntimeError(f"{head.decode()}{body.decode(errors='replace')}")
    return body


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)
