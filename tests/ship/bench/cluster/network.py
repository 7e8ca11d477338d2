"""Addresses of a cluster on loopback: each pod and each Service has its own, so every port is the rendered one.

Names are replaced in the text that a container gets, since processes here share one resolver. A Service is a proxy
that sends each new connection to one of its ready pods, and none if there is no such pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
from collections.abc import Callable, Mapping
from threading import Lock, Thread

NAMESPACE = "gleaner"
UNPRIVILEGED = 1024
"""Ports below it need root; the proxies add `SHIFT` to them."""
SHIFT = 8000

Endpoint = tuple[str, int]


class Network:
    """The addresses, and the proxies of Services.

    Args:
        list_endpoints: gives the ready pods behind a Service's port.
    """

    def __init__(self, list_endpoints: Callable[[str, int], list[Endpoint]]) -> None:
        self._list_endpoints = list_endpoints
        prefix = f"127.{random.randrange(64, 192)}.{os.getpid() % 256}"
        self._free = [f"{prefix}.{number}" for number in range(254, 0, -1)]
        self._addresses: dict[str, str] = {}
        self._lock = Lock()
        self._services: dict[str, list[asyncio.Server]] = {}
        self._turns = itertools.count()
        self._connections: set[asyncio.Task[None] | None] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="services", daemon=True)
        self._thread.start()

    def address_of(self, name: str) -> str:
        """Return the address of a pod or Service, `svc/NAME`; the first call assigns it."""
        with self._lock:
            if name not in self._addresses:
                self._addresses[name] = self._free.pop()
            return self._addresses[name]

    def release_address(self, name: str) -> None:
        """Give an address back, for the last in line."""
        with self._lock:
            self._free.insert(0, self._addresses.pop(name))

    def open_service(self, name: str, ports: list[int]) -> None:
        """Listen for a Service. Does nothing if that was done before."""
        if name not in self._services:
            self._services[name] = [self._run(self._listen(name, port)) for port in ports]

    def close_service(self, name: str) -> None:
        """Stop listening for a Service; open connections stay, as in Kubernetes."""
        for server in self._services.pop(name):
            self._loop.call_soon_threadsafe(server.close)

    def close(self) -> None:
        """End every proxy and connection."""
        self._run(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def localise(self, text: str) -> str:
        """Replace the names of Services, and of pods of StatefulSets behind one, by addresses here."""
        for service in sorted(self._services, key=len, reverse=True):
            full = rf"{service}(?:\.{NAMESPACE}(?:\.svc(?:\.cluster\.local)?)?)?"
            text = re.sub(
                rf"(?<![\w.-])([a-z0-9-]+-\d+)\.{full}(?![\w-])", lambda match: self.address_of(match[1]), text
            )
            address = self.address_of(f"svc/{service}")
            text = re.sub(rf"(?<![\w.-]){service}\.{NAMESPACE}\.svc(?:\.cluster\.local)?(?![\w-])", address, text)
            text = re.sub(rf"(?<=//){full}(?=[:/]|$)", address, text)
            text = re.sub(
                rf"{re.escape(address)}:(\d+)",
                lambda match, a=address: f"{a}:{reachable_port(int(match[1]))}",
                text,
            )
        return text

    def _run(self, coroutine: object) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self, name: str, port: int) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            self._connections.add(task)  # the loop has only a weak reference to it
            try:
                await self._forward(name, port, reader, writer)
            finally:
                writer.close()
                self._connections.discard(task)

        return await asyncio.start_server(accept, self.address_of(f"svc/{name}"), reachable_port(port))

    async def _forward(
        self, name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        endpoints = self._list_endpoints(name, port)
        if not endpoints:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*endpoints[next(self._turns) % len(endpoints)])
            try:
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
            finally:
                far_writer.close()

    async def _end_tasks(self) -> None:
        for server in itertools.chain.from_iterable(self._services.values()):
            server.close()
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction of a connection until its end."""
    while piece := await reader.read(1 << 16):
        writer.write(piece)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


def reachable_port(port: int) -> int:
    """Return the port on which a proxy listens for a Service's port."""
    return port + SHIFT if port < UNPRIVILEGED else port


def localise_paths(text: str, mounts: Mapping[str, str]) -> str:
    """Replace the paths of mounts by the folders here.

    Args:
        text: of a variable, an argument or a file.
        mounts: path in the container -> folder.
    """
    if not mounts:
        return text
    paths = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
    return re.sub(rf"(?<![\w/.])(?:{paths})(?![\w-])", lambda match: mounts[match[0]], text)
