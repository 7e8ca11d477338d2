"""`gleaner extract`'s work against a scripted gateway: order, and runs that are cut off anywhere and go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gleaner import Client
from gleaner.cli.extraction import CHUNK_DOCUMENTS, Extraction, FileSink, Tally, chunks
from gleaner.cli.journal import SUFFIX, Journal, JournalError
from gleaner.cli.readers import Row
from gleaner.errors import GleanerError
from tests.support.scripted_http import Answer, Asked, ScriptedServer, problem

ROWS = [Row(f"row {number}", f"text {number}") for number in range(3 * CHUNK_DOCUMENTS + 5)]


@dataclass
class Gateway:
    """Jobs by Idempotency-Key, finished at once; every seventh document fails; may refuse from some request on."""

    jobs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    answered: int = 0
    refuse_from: int | None = None

    def __call__(self, asked: Asked) -> Answer:
        """Answer a request."""
        self.answered += 1
        if self.refuse_from is not None and self.answered >= self.refuse_from:
            return problem(403, "forbidden")
        if asked.method == "POST":
            key = asked.headers["idempotency-key"]
            self.keys.append(key)
            self.jobs.setdefault(f"job_{key}", asked.json()["documents"])
            return Answer(202, self._job(f"job_{key}"))
        job_id = asked.path.split("/")[3]
        if job_id not in self.jobs:
            return problem(410, "job_purged")
        if asked.path.endswith("/results"):
            return Answer(body={"data": self._results(job_id), "next_cursor": None, "complete": True})
        return Answer(body=self._job(job_id))

    def _job(self, job_id: str) -> dict[str, Any]:
        total = len(self.jobs[job_id])
        counts = {"total": total, "succeeded": total}
        return {"id": job_id, "status": "partially_succeeded", "counts": counts}

    def _results(self, job_id: str) -> list[dict[str, Any]]:
        error = {"code": "inference_failed", "detail": "no", "retryable": True}
        return [
            {"index": index, "id": str(index), "status": "failed", "entities": [], "error": error}
            if int(document["text"].split()[1]) % 7 == 0
            else {"index": index, "id": str(index), "status": "succeeded", "entities": []}
            for index, document in enumerate(self.jobs[job_id])
        ]


@contextmanager
def client_of(gateway: Gateway) -> Iterator[Client]:
    """A client of the scripted gateway."""
    with ScriptedServer(behaviour=gateway).running() as server, Client(server.url, retries=0) as client:
        yield client


def extract(gateway: Gateway, output: Path, *, overwrite: bool = False, rows: list[Row] = ROWS) -> Tally:
    """One run of the command, as far as the gateway lets it."""
    with client_of(gateway) as client:
        journal = Journal.open(output, "print", overwrite=overwrite)
        try:
            with FileSink(output, journal.progress.bytes) as sink:
                return Extraction(client, ["x"], {}, sink, journal, lambda _done: None).run(rows)
        finally:
            journal.close()


def lines(output: Path) -> list[dict[str, Any]]:
    """The output, read."""
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_results_are_in_input_order_with_the_rows_ids(tmp_path: Path) -> None:
    """Every row has one line, in order, whichever job it went with; failed ones are counted by code."""
    tally = extract(Gateway(), tmp_path / "out")

    assert [line["id"] for line in lines(tmp_path / "out")] == [row.id for row in ROWS]
    assert [line["index"] for line in lines(tmp_path / "out")] == list(range(len(ROWS)))
    assert (tally.documents, tally.failed) == (len(ROWS), 111)
    assert tally.errors == {"inference_failed": 111}


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_run_cut_off_anywhere_goes_on(tmp_path: Path, cut: int) -> None:
    """Wherever the gateway was lost, the same command ends with every row once, and no chunk ran twice."""
    gateway = Gateway(refuse_from=cut)
    with suppress(GleanerError):
        extract(gateway, tmp_path / "out")
    gateway.refuse_from = None
    tally = extract(gateway, tmp_path / "out")

    assert [line["id"] for line in lines(tmp_path / "out")] == [row.id for row in ROWS]
    assert (tally.documents, tally.failed) == (len(ROWS), 111)
    assert len(gateway.jobs) == 4


def test_results_written_but_not_noted_are_written_once(tmp_path: Path) -> None:
    """A kill between output and journal, half a journal line included, leaves no double lines."""
    gateway = Gateway()
    output = tmp_path / "out"
    extract(gateway, output)
    journal = tmp_path / f"out{SUFFIX}"
    entries = journal.read_text().splitlines(keepends=True)
    first_written = next(number for number, entry in enumerate(entries) if "written" in entry)
    journal.write_text("".join(entries[: first_written + 1]) + '{"written": 1, "byt')

    extract(gateway, output)

    assert [line["id"] for line in lines(output)] == [row.id for row in ROWS]


def test_a_job_that_is_gone_is_submitted_anew(tmp_path: Path) -> None:
    """Results that expired before they were fetched are made again, under another key."""
    gateway = Gateway(refuse_from=5)
    with pytest.raises(GleanerError):
        extract(gateway, tmp_path / "out")
    gateway.jobs.clear()
    gateway.refuse_from = None
    extract(gateway, tmp_path / "out")

    assert [line["id"] for line in lines(tmp_path / "out")] == [row.id for row in ROWS]
    assert len(set(gateway.keys)) == len(gateway.keys)


def test_another_runs_output_is_left_alone(tmp_path: Path) -> None:
    """Other inputs or options, or an output of unknown origin, are refused; --overwrite begins anew."""
    output = tmp_path / "out"
    extract(Gateway(), output)
    with pytest.raises(JournalError, match="--overwrite"):
        Journal.open(output, "another print", overwrite=False)
    (tmp_path / f"out{SUFFIX}").unlink()
    with pytest.raises(JournalError, match="exists"):
        Journal.open(output, "print", overwrite=False)

    extract(Gateway(), output, overwrite=True, rows=ROWS[:3])

    assert len(lines(output)) == 3


def test_a_deleted_output_is_begun_anew(tmp_path: Path) -> None:
    """Whoever deletes the output wants it made again, whatever the journal says."""
    output = tmp_path / "out"
    extract(Gateway(), output)
    output.unlink()
    extract(Gateway(), output)

    assert len(lines(output)) == len(ROWS)


def test_an_output_that_is_made_of_lines_at_the_end(tmp_path: Path) -> None:
    """Killed before or after it was made of them, a run goes on with the lines; whole, it needs them no more."""
    output, grows = tmp_path / "out.parquet", tmp_path / "lines"

    def opened() -> Journal:
        return Journal.open(output, "print", overwrite=False, lines=grows)

    journal = opened()
    grows.write_text("x" * 10)
    journal.wrote(0, 10, 5, 0, 7)
    journal.close()
    for made in (False, True):
        if made:
            output.write_text("table")
        journal = opened()
        assert (journal.progress.documents, journal.progress.complete) == (5, False)
        journal.close()
    grows.write_text("x")
    with pytest.raises(JournalError, match="shorter"):
        opened()
    grows.write_text("x" * 10)
    journal = opened()
    journal.complete()
    journal.close()
    grows.unlink()
    journal = opened()
    assert journal.progress.complete
    journal.close()
    output.unlink()
    journal = opened()
    assert (journal.progress.documents, journal.progress.complete) == (0, False)
    journal.close()


def test_a_shortened_output_is_refused(tmp_path: Path) -> None:
    """An output that lost lines cannot be gone on with."""
    output = tmp_path / "out"
    extract(Gateway(), output)
    output.write_text("")
    with pytest.raises(JournalError, match="shorter"):
        Journal.open(output, "print", overwrite=False)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """A second command on the same output is refused while the first runs."""
    journal = Journal.open(tmp_path / "out", "print", overwrite=False)
    with pytest.raises(JournalError, match="another"):
        Journal.open(tmp_path / "out", "print", overwrite=False)
    journal.close()


def test_chunks_are_cut_by_documents_and_by_characters() -> None:
    """No chunk is empty, too long, or out of order; one huge row is a chunk of its own."""
    rows = [Row("a", "x"), Row("b", "x" * 2_000_000), Row("c", "x"), *(Row("d", "x") for _ in range(300))]
    cut = list(chunks(rows))

    assert [len(chunk.rows) for chunk in cut] == [1, 1, 256, 45]
    assert [chunk.first for chunk in cut] == [0, 1, 2, 258]
    assert [row for chunk in cut for row in chunk.rows] == rows
