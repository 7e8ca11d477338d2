"""`gleaner extract`'s work against a scripted gateway: order, and runs that are cut off anywhere and go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from gleaner import Client
from gleaner.cli.extraction import Extraction, Query
from gleaner.cli.files.file_runs import finish_output
from gleaner.cli.files.journal import Journal, JournalError, Tally
from gleaner.cli.files.outputs import LINES, STATE, helper_path
from gleaner.cli.files.rows import Row
from gleaner.cli.files.writers import FileSink, Form
from gleaner.client.scheduling import CHUNK_DOCUMENTS
from gleaner.errors import GleanerError
from tests.support.fakes.scripted_http import Answer, ReceivedRequest, problem
from tests.unit.gleaner.cli.conftest import ScriptedGateway

ROWS = [Row(f"row {number}", f"text {number}") for number in range(3 * CHUNK_DOCUMENTS + 5)]


@dataclass
class Gateway:
    """Jobs by Idempotency-Key, finished at once; every seventh document fails; may refuse from some request on."""

    jobs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    answered: int = 0
    refuse_from: int | None = None

    def __call__(self, request: ReceivedRequest) -> Answer:
        """Answer a request."""
        self.answered += 1
        if self.refuse_from is not None and self.answered >= self.refuse_from:
            return problem(403, "forbidden")
        if request.method == "POST":
            key = request.headers["idempotency-key"]
            self.keys.append(key)
            self.jobs.setdefault(f"job_{key}", request.json()["documents"])
            return Answer(202, self._job(f"job_{key}"))
        job_id = request.path.split("/")[3]
        if job_id not in self.jobs:
            return problem(410, "job_purged")
        if request.path.endswith("/results"):
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
    """Yield a client of the scripted gateway."""
    transport = httpx.MockTransport(ScriptedGateway(behaviour=gateway))
    with Client("http://gateway", retries=0, transport=transport) as client:
        yield client


def extract(gateway: Gateway, output: Path, *, overwrite: bool = False, rows: list[Row] = ROWS) -> Tally:
    """Run the command until it ends or the gateway refuses."""
    with client_of(gateway) as client:
        journal = Journal.open(output, "print", overwrite=overwrite)
        try:
            if journal.progress.complete:
                return journal.progress.tally
            with closing(FileSink(helper_path(output, LINES), journal.progress.bytes, Form())) as sink:
                tally = Extraction(client, Query(["x"], {}), sink, journal, lambda _done: None).run(rows)
            finish_output(output, Form(), journal)
            return tally
        finally:
            journal.close()


def lines(output: Path) -> list[dict[str, Any]]:
    """Return the parsed lines of the output."""
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
    journal = helper_path(output, STATE)
    output.replace(helper_path(output, LINES))
    entries = journal.read_text().splitlines(keepends=True)
    first_written = next(number for number, entry in enumerate(entries) if "written" in entry)
    journal.write_text("".join(entries[: first_written + 1]) + '{"written": 1, "byt')

    extract(gateway, output)

    assert [line["id"] for line in lines(output)] == [row.id for row in ROWS]


def test_a_job_that_is_gone_is_submitted_again(tmp_path: Path) -> None:
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
    """Other inputs or options, or an output of unknown origin, are refused; --overwrite begins again."""
    output = tmp_path / "out"
    extract(Gateway(), output)
    with pytest.raises(JournalError, match="--overwrite"):
        Journal.open(output, "another print", overwrite=False)
    helper_path(output, STATE).unlink()
    with pytest.raises(JournalError, match="exists"):
        Journal.open(output, "print", overwrite=False)

    extract(Gateway(), output, overwrite=True, rows=ROWS[:3])

    assert len(lines(output)) == 3


def test_a_deleted_output_is_begun_again(tmp_path: Path) -> None:
    """Whoever deletes the output wants it made again, whatever the journal says."""
    output = tmp_path / "out"
    extract(Gateway(), output)
    output.unlink()
    extract(Gateway(), output)

    assert len(lines(output)) == len(ROWS)


def test_an_output_is_there_once_it_is_whole(tmp_path: Path) -> None:
    """Killed anywhere around the moment when the lines become the output, a run goes on, and nothing is lost."""
    output = tmp_path / "out.jsonl"
    grows = helper_path(output, LINES)

    def opened() -> Journal:
        return Journal.open(output, "print", overwrite=False)

    journal = opened()
    grows.write_text("x" * 10)
    journal.record_chunk(0, 10, Tally(5, 0, 7))
    journal.close()
    for moved in (False, True):
        if moved:
            grows.replace(output)
        journal = opened()
        assert (journal.progress.tally.documents, journal.progress.complete, grows.exists()) == (5, False, True)
        journal.close()
    grows.write_text("x")
    with pytest.raises(JournalError, match="shorter"):
        opened()
    grows.write_text("x" * 10)
    journal = opened()
    grows.replace(output)
    journal.record_completion(10)
    journal.close()
    journal = opened()
    assert journal.progress.complete
    journal.close()
    output.unlink()
    journal = opened()
    assert (journal.progress.tally.documents, journal.progress.complete) == (0, False)
    journal.close()


def test_an_output_that_was_changed_is_refused(tmp_path: Path) -> None:
    """An edited output is neither reported as complete nor resumed."""
    output = tmp_path / "out"
    extract(Gateway(), output)
    output.write_text("")
    with pytest.raises(JournalError, match="was changed"):
        Journal.open(output, "print", overwrite=False)


def test_what_an_output_held_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """`--overwrite` with a gateway that is lost on the way costs nothing."""
    output = tmp_path / "out"
    output.write_text("precious")
    with pytest.raises(GleanerError):
        extract(Gateway(refuse_from=5), output, overwrite=True)
    assert output.read_text() == "precious"
    extract(Gateway(), output)
    assert len(lines(output)) == len(ROWS)


def test_rows_that_are_no_documents_fail_in_their_places(tmp_path: Path) -> None:
    """They are not submitted; a chunk of nothing else is no job."""
    bad = [Row(f"bad {number}", "", fault="in.csv, line 3: 3 cells") for number in range(CHUNK_DOCUMENTS + 1)]
    rows = [ROWS[1], bad[0], ROWS[2], *bad[1:]]
    gateway = Gateway()
    tally = extract(gateway, tmp_path / "out", rows=rows)

    written = lines(tmp_path / "out")
    assert [(line["index"], line["id"]) for line in written] == [(n, row.id) for n, row in enumerate(rows)]
    assert [line["status"] for line in written[:4]] == ["succeeded", "failed", "succeeded", "failed"]
    assert written[1]["error"]["detail"] == "in.csv, line 3: 3 cells"
    assert (len(gateway.jobs), tally.errors) == (1, {"invalid_document": CHUNK_DOCUMENTS + 1})


def test_a_result_that_is_missing_is_told(tmp_path: Path) -> None:
    """A gateway that hands out fewer results than documents does not make a shorter output."""

    class Forgetful(Gateway):
        def _results(self, job_id: str) -> list[dict[str, Any]]:
            return super()._results(job_id)[:-1]

    with pytest.raises(GleanerError, match="no result of"):
        extract(Forgetful(), tmp_path / "out")


def test_a_refusal_names_file_and_line(tmp_path: Path) -> None:
    """The gateway speaks of places in a request that nobody sees."""

    def refuse(_request: ReceivedRequest) -> Answer:
        return problem(422, "validation_failed", errors=[{"pointer": "/documents/1/labels/0", "detail": "is bad"}])

    rows = [
        Row("a", "x", fault="no"),
        Row("b", "x", where="in.jsonl, line 2"),
        Row("c", "x", where="in.jsonl, line 3"),
    ]
    transport = httpx.MockTransport(ScriptedGateway(behaviour=refuse))
    with (
        Client("http://gateway", retries=0, transport=transport) as client,
        closing(FileSink(tmp_path / "out", 0, Form())) as sink,
        pytest.raises(GleanerError, match=r"in.jsonl, line 3/labels/0: is bad"),
    ):
        Extraction(client, Query(["x"], {}), sink, None, lambda _done: None).run(rows)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """A second command on the same output is refused while the first runs."""
    journal = Journal.open(tmp_path / "out", "print", overwrite=False)
    with pytest.raises(JournalError, match="another"):
        Journal.open(tmp_path / "out", "print", overwrite=False)
    journal.close()
