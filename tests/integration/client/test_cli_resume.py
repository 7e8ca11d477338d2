"""`gleaner extract` over many short documents, killed again and again; `make million` does it with a million.

The real command, gateway, ledger, courier and worker; the model is the fake engine, whose answers are known.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from gleaner import Client
from gleaner.client.scheduling import CHUNK_DOCUMENTS
from tests.support.processes.harness import ServiceHarness
from tests.support.processes.local_stack import COMMAND, command_environment, until

DOCUMENTS = int(os.environ.get("DOCUMENTS", "20000"))
SEED = int(os.environ.get("SEED", "20"))
KILLS = 10
LABELS = ("person", "city", "river")
CLI_MIB = 90
"""Most memory of the command, whatever the number of documents."""
SERVICE_MIB = 60
"""Most that gateway and worker may grow while they run."""

NAMES = ("Ada Lovelace", "Grace Hopper", "Mary Somerville", "Zoë Ångström")
CITIES = ("London", "New York", "Århus", "São Paulo")

pytestmark = pytest.mark.timeout(60 + DOCUMENTS // 500)


@dataclass
class Work:
    """An input file and the expected output.

    Attributes:
        digest: SHA-256 of the right output.
        size: its length in bytes.
    """

    source: Path
    digest: str = ""
    size: int = 0

    def write(self) -> Work:
        """Make the documents, each with two entities, and the lines that answer them."""
        digest, chance = hashlib.sha256(), random.Random(SEED)
        with self.source.open("w") as file:
            for number in range(DOCUMENTS):
                name, city = chance.choice(NAMES), chance.choice(CITIES)
                text = f"{name} wrote letter {number} 😀 from {city}."
                file.write(json.dumps({"id": f"d{number}", "text": text}, ensure_ascii=False) + "\n")
                line = (json.dumps(_answer(number, text, (name, city)), ensure_ascii=False) + "\n").encode()
                digest.update(line)
                self.size += len(line)
        self.digest = digest.hexdigest()
        return self


def _answer(number: int, text: str, entities: tuple[str, ...]) -> dict[str, object]:
    rows = []
    for entity in entities:
        start, label = text.rindex(entity), LABELS[zlib.crc32(entity.encode()) % len(LABELS)]
        score = 0.6 + min(0.39, len(entity) / 100)
        rows.append({"start": start, "end": start + len(entity), "text": entity, "label": label, "score": score})
    head = {"index": number, "id": f"d{number}", "status": "succeeded", "entities": rows}
    return {**head, "windows": 1, "truncated": False, "warnings": [], "attempts": 1, "error": None}


@dataclass
class MemoryLog:
    """Resident memory of processes, sampled ten times a second; MiB by name."""

    first: dict[str, int] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    watched: dict[str, psutil.Process] = field(default_factory=dict)

    def sample(self) -> None:
        """Sample each process."""
        for name, process in list(self.watched.items()):
            try:
                now = process.memory_info().rss >> 20
            except psutil.NoSuchProcess:
                continue
            self.first.setdefault(name, now)
            self.peak[name] = max(now, self.peak.get(name, 0))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look for as long as the block runs."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.1):
                self.sample()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture
def harness() -> Iterator[ServiceHarness]:
    """Start the service with its production timing."""
    harness = ServiceHarness()
    harness.settings = {"GLEANER_AUTH": "off", "GLEANER_DURABILITY": "process", "GLEANER_WORKER_SLOTS": "16"}
    try:
        yield harness
    finally:
        harness.close()


def test_killed_ten_times_every_document_once_and_in_order(harness: ServiceHarness, tmp_path: Path) -> None:
    """SIGKILL at ten random moments: the output is, byte for byte, that of an undisturbed run; memory is flat."""
    children = [harness.gateway(), harness.worker(TEST_PACE_S="0"), harness.courier()]
    work = Work(tmp_path / "in.jsonl").write()
    gateway, *_ = (child.wait_ready() for child in children)
    output = tmp_path / "out.jsonl"
    labels = [part for label in LABELS for part in ("-l", label)]
    command = [*COMMAND, "extract", str(work.source), *labels, "-o", str(output), "--url", gateway.url, "--json"]
    memory = MemoryLog(watched={child.role: psutil.Process(child.pid) for child in children})
    chance = random.Random(SEED)
    began = time.monotonic()

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, env=command_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        memory.watched["command"] = psutil.Process(process.pid)
        return process

    def at_least(size: float, process: subprocess.Popen[str]) -> bool:
        grows = output.with_name(f"{output.name}.gleaner-lines")
        return (grows.exists() and grows.stat().st_size >= size) or process.poll() is not None

    with memory.watching():
        for kill in range(KILLS):
            process = start()
            share = (kill + chance.random()) / (KILLS + 1)
            # Every third one is killed before it has written anything more.
            until(lambda p=process, s=share, k=kill: k % 3 == 2 or at_least(s * work.size, p), DOCUMENTS / 50 + 60)
            time.sleep(chance.uniform(0.0, 0.8 if kill % 3 == 2 else 0.1))  # anywhere, in the middle of anything
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
        process = start()
        said, errors = process.communicate()
    seconds = time.monotonic() - began

    assert process.returncode == 0, errors
    summary = {"documents": DOCUMENTS, "entities": 2 * DOCUMENTS, "failed": 0, "errors": {}, "output": str(output)}
    assert json.loads(said) == summary
    with output.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == work.digest
    with Client(gateway.url) as client:
        jobs = [job.counts.total for job in client.jobs()]
    assert (len(jobs), sum(jobs)) == (math.ceil(DOCUMENTS / CHUNK_DOCUMENTS), DOCUMENTS)
    summary = (
        f"{DOCUMENTS} documents, {KILLS} kills, {seconds:.0f} s; MiB at first {memory.first}, most {memory.peak}"
    )
    print(summary)  # noqa: T201  # the figures of `make million`
    assert memory.peak["command"] <= CLI_MIB
    for role in ("gateway", "worker", "courier"):
        assert memory.peak[role] - memory.first[role] <= SERVICE_MIB, role
