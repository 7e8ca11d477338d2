"""The queue that metrics show is the ledger's, at every look of a run, whoever shows it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.support.processes.harness import Child, ServiceHarness, wait_for

COUNT = """
local function key(name) return '{gleaner}:' .. name end
local shards, characters, jobs, oldest = 0, 0, redis.call('ZRANGE', key('opened:gleaner-small'), 0, -1), 0
for _, job in ipairs(jobs) do
  local created = tonumber(redis.call('HGET', key('job:' .. job), 'created'))
  if oldest == 0 or created < oldest then oldest = created end
  for _, record in ipairs(redis.call('HVALS', key('sh:' .. job))) do
    local parts = {}
    for part in string.gmatch(record .. '|', '([^|]*)|') do parts[#parts + 1] = part end
    if string.find('wprf', parts[1], 1, true) then
      shards, characters = shards + 1, characters + tonumber(parts[14])
    end
  end
end
local time = redis.call('TIME')
return {shards, characters, #jobs, oldest > 0 and tonumber(time[1]) - oldest / 1000 or 0,
  redis.call('ZCOUNT', key('workers:gleaner-small'), time[1] * 1000, '+inf')}
"""
"""Counts every shard by its own record, which no metric looks at: they show sums that transitions keep."""

pytestmark = pytest.mark.alone
JOBS = 200
"""Enough for several looks while they come in: a gateway takes some hundreds a second."""


@dataclass(frozen=True)
class Queue:
    """Open work of the only model."""

    shards: float
    characters: float
    jobs: float
    oldest_s: float
    workers: float

    @property
    def sizes(self) -> tuple[float, ...]:
        """Return the sizes that only grow while nothing runs, and only shrink while nothing arrives."""
        return astuple(self)[:3]


@pytest.fixture
def harness() -> Iterator[ServiceHarness]:
    """Start Redis alone."""
    running = ServiceHarness()
    yield running
    running.close()


def counted(harness: ServiceHarness) -> Queue:
    """Count the queue from the ledger's records, at one moment."""
    with harness.server.client() as client:
        counts: Any = client.eval(COUNT, 0)
    return Queue(*map(float, counts))


def shown(child: Child) -> Queue:
    """Return the queue according to a process's metrics."""
    lines = dict(line.rsplit(" ", 1) for line in child.probe("/metrics")[1].splitlines() if line[0] != "#")
    names = ("open_shards", "backlog_characters", "open_jobs", "oldest_open_seconds", "live_workers")
    return Queue(*(float(lines[f'gleaner_{name}{{model="gleaner-small"}}']) for name in names))


def watch(
    harness: ServiceHarness, child: Child, way: Callable[[float, float], bool], until: Callable[[Queue], bool]
) -> int:
    """Compare the metrics with the counts just before and after; return how often work was open."""
    seen = 0
    while True:
        before, reported, after = counted(harness), shown(child), counted(harness)
        for first, middle, last in zip(before.sizes, reported.sizes, after.sizes, strict=True):
            assert way(first, middle), (before, reported, after)
            assert way(middle, last), (before, reported, after)
        if before.oldest_s and after.oldest_s > before.oldest_s:  # the same job, a moment later
            assert (
                before.oldest_s - 1.1 <= reported.oldest_s <= after.oldest_s + 1.1
            )  # TIME's seconds are whole here
        assert reported.workers in (before.workers, after.workers)
        seen += reported.shards > 0
        if until(after):
            return seen


@pytest.mark.timeout(120)
@pytest.mark.parametrize("speaker", ["courier", "gateway"])
def test_the_queue_that_is_shown_is_the_ledgers_at_every_look(harness: ServiceHarness, speaker: str) -> None:
    """Shards, characters, jobs, age and workers, while a backlog builds up and while it drains.

    With no courier alive a gateway that stands in for it shows them, without a gap, until a courier is back.
    """
    gateway = harness.gateway().wait_ready()
    child = harness.courier().wait_ready() if speaker == "courier" else gateway
    wait_for(lambda: "gleaner_open_shards" in child.probe("/metrics")[1], 20, "the queue is shown")

    def submit() -> None:
        with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as client:
            for number in range(JOBS):
                documents = [{"text": "a text and some more " * 20}] * (1 + number % 10)
                assert client.post("/v1/jobs", json={"labels": ["l"], "documents": documents}).status_code == 202

    clients = Thread(target=submit)
    clients.start()
    assert watch(harness, child, operator.le, lambda queue: queue.jobs == JOBS) > 3
    clients.join()
    harness.worker()
    assert watch(harness, child, operator.ge, lambda queue: queue.jobs == 0) > 3
    if speaker == "gateway":
        harness.courier().wait_ready()
        wait_for(lambda: "gleaner_open_shards" not in gateway.probe("/metrics")[1], 20, "the gateway is silent")
