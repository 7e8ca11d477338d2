"""One document's worst text and options cost the others nothing: processor, memory, a suspect's turn, cancel."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from random import Random
from string import ascii_lowercase
from typing import Any

import psutil
import pytest

from gleaner import Client
from tests.support.processes.local_stack import RunningStack, running_stack, until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(400)]
CLOSERS = ")" * 140_000
EASY_S = 10.0
"""Most seconds that a short text may take next to an attack, on two cores that other tests use as well."""
RESTART_S = 120.0


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Run a stack for the attacks alone: its worker is killed and watched."""
    settings = {
        "GLEANER_LEASE_S": "6",
        "GLEANER_DOCUMENT_BUDGET_S": "4",
        "GLEANER_RUNTIME": "torch",
        "GLEANER_PRECISION": "fp32",
    }
    with running_stack(tmp_path_factory.mktemp("attacked") / "home", environment=settings) as stack:
        yield stack


@pytest.fixture
def victim(attacked: RunningStack) -> Iterator[Client]:
    """Return a client whose calls must stay fast."""
    with Client(attacked.url, attacked.key) as client:
        client.extract(["Ada Lovelace lived in London."], ["person"])
        yield client


def worker_of(stack: RunningStack) -> psutil.Process:
    """Return the worker's process."""
    return next(
        process
        for process in map(psutil.Process, stack.descendants())
        if "worker" in process.cmdline() and process.memory_info().rss > 200 << 20
    )


def easy_s(client: Client) -> float:
    """Seconds that a short text takes; its answer is right."""
    began = time.monotonic()
    [result] = client.extract(["Ada Lovelace lived in London."], ["person"])
    assert [entity.text for entity in result.entities] == ["Ada Lovelace"]
    return time.monotonic() - began


@pytest.mark.parametrize("text", [CLOSERS, '"' * 140_000, ")\"']}»" * 28_000], ids=["closers", "quotes", "mixed"])
def test_a_text_of_closers_holds_nobody_up(attacked: RunningStack, victim: Client, text: str) -> None:
    """Others are answered while it runs, and a cancel frees its worker within seconds."""
    job = victim.submit([text] * 32, ["p"])  # four may be done before the cancel
    assert max(easy_s(victim) for _ in range(5)) < EASY_S
    job.cancel()
    until(lambda: job.refresh().status == "cancelled", 20)
    worker = worker_of(attacked)
    before = sum(worker.cpu_times()[:2])
    time.sleep(2)
    assert sum(worker.cpu_times()[:2]) - before < 1.5


def test_a_suspect_of_closers_holds_nobody_up(attacked: RunningStack, victim: Client) -> None:
    """Its worker dies with it, and its successor runs it alone: others have their turns, and a cancel ends it."""
    job = victim.submit([CLOSERS], ["p"])
    until(lambda: job.refresh().status == "running", 20)
    worker_of(attacked).send_signal(signal.SIGKILL)
    assert easy_s(victim) < RESTART_S
    until(lambda: job.refresh().info.counts.running == 1, 60)  # its lease ran out, and the new worker has it
    assert max(easy_s(victim) for _ in range(4)) < 2 * EASY_S
    job.cancel()
    until(lambda: job.refresh().status == "cancelled", 20)
    assert easy_s(victim) < EASY_S


def test_everything_asked_of_a_long_text_does_not_fill_the_memory(attacked: RunningStack, victim: Client) -> None:
    """Threshold 0, nested, several labels a span, a hundred long labels: below 1.5 times the idle worker."""
    worker = worker_of(attacked)
    idle = worker.memory_info().rss
    random = Random(1)
    labels = [" ".join("".join(random.choices(ascii_lowercase, k=4)) for _ in range(25)) for _ in range(100)]
    everything: dict[str, Any] = {"threshold": 0.0, "flat": False, "multi_label": True}
    most = 0
    for words, kind in ((400_000, "too_long"), (20_000, "long"), (6_000, "explained")):
        job = victim.submit(["a " * words] * 2, labels, explain=kind == "explained", **everything)
        end = time.monotonic() + 12
        while time.monotonic() < end and not job.refresh().done:
            most = max(most, worker.memory_info().rss)
            time.sleep(0.1)
        if kind == "too_long":
            assert job.info.error_summary == {"input_too_long": 2}
        job.cancel()
    assert most < 1.5 * idle
