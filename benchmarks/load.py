"""HTTP load with as little CPU as possible: it runs on the cores that are being measured."""

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
    """One response: its JSON, and seconds from when it was due to be sent until it was there."""

    body: Any
    seconds: float


def post(path: str, body: Any, headers: Mapping[str, str]) -> bytes:
    """A request as it goes over the wire."""
    data = orjson.dumps(body)
    given = {"Host": "localhost", "Content-Type": "application/json", **headers, "Content-Length": str(len(data))}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + data


def closed(url: str, requests: Sequence[bytes], clients: int) -> list[Answer]:
    """So many clients, each of which sends the next request when it has its answer; answers in requests' order."""
    return asyncio.run(_run(url, [(0.0, request) for request in requests], clients))


def steady(url: str, requests: Sequence[bytes], rate: float, seed: int = 0, clients: int = 128) -> list[Answer]:
    """Requests at random moments, `rate` a second in the mean, whether or not the ones before were answered.

    A request for which no connection is free waits, and this counts.
    """
    rng, at, plan = random.Random(seed), 0.0, []
    for request in requests:
        at += rng.expovariate(rate)
        plan.append((at, request))
    return asyncio.run(_run(url, plan, clients))


async def _run(url: str, plan: Sequence[tuple[float, bytes]], clients: int) -> list[Answer]:
    answers: list[Answer | None] = [None] * len(plan)
    waiting = iter(enumerate(plan))
    where = urlsplit(url)
    start = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        for i, (due, request) in waiting:
            await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
            began = max(start + due, start) if due else time.perf_counter()
            writer.write(request)
            body = await response(reader)
            answers[i] = Answer(orjson.loads(body), time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(client() for _ in range(min(clients, len(plan)))))
    return [answer for answer in answers if answer is not None]


async def response(reader: asyncio.StreamReader, status: int = 200) -> bytes:
    """The body of the next response.

    Raises:
        RuntimeError: its status is another one.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
    body = await (reader.readexactly(int(length)) if length else _chunks(reader))
    if not head.startswith(f"http/1.1 {status}".encode()):
        raise RuntimeError(f"{head.decode()}{body.decode(errors='replace')}")
    return body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)
