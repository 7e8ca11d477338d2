"""The scheduler without a gateway: how it cuts chunks, how many jobs it keeps open, and in which order it goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from gleaner.client.flows import END, Emit, Flow, Pull, Retry, Run, Send, Sleep
from gleaner.client.scheduling import (
    CHUNK_DOCUMENTS,
    JOBS_AHEAD,
    Chunk,
    MapProgress,
    MapScheduler,
    OpenJob,
    Scheduler,
)
from gleaner.models import Result


class ChunkCutter(Scheduler[str, OpenJob]):
    """Records the chunks, and submits none."""

    def __init__(self, chunk_characters: int) -> None:
        super().__init__(Retry(), chunk_characters, len)
        self.chunks: list[Chunk[str]] = []

    def open_job(self, chunk: Chunk[str]) -> Flow[OpenJob | None]:
        """Record the chunk; every second one is skipped, as if an earlier run had done it."""
        self.chunks.append(chunk)
        yield from ()
        return OpenJob(chunk.number, chunk.first, None) if chunk.number % 2 else None

    def convert_results(self, job: OpenJob, results: Sequence[Result], *, is_last: bool) -> tuple[Any, ...]:
        """Return the chunk's number."""
        assert is_last
        assert not results
        return (job.chunk,)

    def report_progress(self) -> None:
        """Check the bound of open jobs."""
        assert len(self.open_jobs) <= JOBS_AHEAD


class ScriptedGateway:
    """Drives a flow: jobs are finished `polls` status requests after they are submitted.

    Attributes:
        open: ids of the jobs that were submitted and not read to their end.
        most_open: largest number of them at one time.
    """

    def __init__(self, polls: int = 0) -> None:
        self.polls = polls
        self.ids: list[list[str]] = []
        self.waited: dict[str, int] = {}
        self.open: set[str] = set()
        self.most_open = 0

    def collect(self, flow: Flow[None], documents: Sequence[Any]) -> list[Any]:
        """Return the items that the flow emits for the documents."""
        items: list[Any] = []
        source, run = iter(documents), Run(flow)
        while (command := run.command) is not None:
            match command:
                case Emit():
                    items.extend(command.items)
                    run.answer()
                case Pull():
                    run.answer(next(source, END))
                case Sleep():
                    run.answer()
                case Send():
                    run.answer(self._respond(command.call))
        return items

    def _respond(self, call: Any) -> httpx.Response:
        if call.method == "POST":
            documents = json.loads(call.content)["documents"]
            job_id = f"job_{len(self.ids)}"
            self.ids.append([document.get("id", str(index)) for index, document in enumerate(documents)])
            self.waited[job_id] = 0
            self.open.add(job_id)
            self.most_open = max(self.most_open, len(self.open))
            return httpx.Response(202, json={"id": job_id, "status": "queued"})
        job_id = call.path.split("/")[3]
        is_done = self.waited[job_id] >= self.polls
        if not call.path.endswith("/results"):
            self.waited[job_id] += 1
            return httpx.Response(200, json={"id": job_id, "status": "succeeded" if is_done else "running"})
        ids = self.ids[int(job_id[4:])]
        if is_done:
            self.open.discard(job_id)
        finished = ids if is_done else ids[: len(ids) // 2]
        results = [
            {"index": n, "id": name, "status": "succeeded" if n else "failed"} for n, name in enumerate(finished)
        ]
        return httpx.Response(200, json={"data": results, "next_cursor": None, "complete": is_done})


def test_chunks_are_cut_by_documents_and_by_characters() -> None:
    """No chunk is empty, too long, or out of order; one huge document is a separate chunk."""
    documents = ["x", "x" * 2_000_000, "x", *["x"] * 300]
    cutter = ChunkCutter(1_000_000)
    items = ScriptedGateway().collect(cutter.schedule_jobs(), documents)

    assert [len(chunk.documents) for chunk in cutter.chunks] == [1, 1, 256, 45]
    assert [chunk.first for chunk in cutter.chunks] == [0, 1, 2, 258]
    assert [document for chunk in cutter.chunks for document in chunk.documents] == documents
    assert items == [1, 3]


@pytest.mark.parametrize("count", [0, 1, CHUNK_DOCUMENTS, CHUNK_DOCUMENTS + 1, 2 * CHUNK_DOCUMENTS])
def test_the_end_may_be_anywhere(count: int) -> None:
    """Every document is in one chunk, wherever the source ends, and if it has none."""
    cutter = ChunkCutter(1_000_000)
    ScriptedGateway().collect(cutter.schedule_jobs(), ["x"] * count)

    assert sum(len(chunk.documents) for chunk in cutter.chunks) == count
    assert len(cutter.chunks) == -(-count // CHUNK_DOCUMENTS)


def test_jobs_are_bounded_and_results_in_order() -> None:
    """While jobs run, a few are open, their results come as they are ready, numbered over the whole map."""
    seen: list[MapProgress] = []
    gateway, documents = ScriptedGateway(polls=2), [{"id": "a", "text": "x"}, *["x"] * (8 * CHUNK_DOCUMENTS)]
    scheduler = MapScheduler(documents, ["x"], {}, Retry(), seen.append)
    results = gateway.collect(scheduler.schedule_jobs(), documents)

    assert [result.index for result in results] == list(range(len(documents)))
    assert [result.id for result in results] == ["a", *map(str, range(1, len(documents)))]
    assert gateway.most_open == JOBS_AHEAD
    assert not scheduler.open_jobs
    assert seen[-1] == MapProgress(len(documents), 9, len(documents), len(documents))
    assert len(set(seen)) == len(seen)
    assert any(progress.done % CHUNK_DOCUMENTS > 0 for progress in seen[:-1])


def test_the_jobs_of_a_map_have_separate_keys() -> None:
    """A single Idempotency-Key for many jobs is refused."""
    with pytest.raises(TypeError, match="idempotency_key"):
        MapScheduler([], ["x"], {"idempotency_key": "k"}, Retry())
