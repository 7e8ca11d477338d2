"""Files in, results out: what a run leaves, and what it says."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from pyarrow import parquet

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.file_runs import OutputOptions, finish_output
from gleaner.cli.files.journal import Journal
from gleaner.cli.files.outputs import LINES, helper_path
from gleaner.cli.files.result_rows import ENTITIES, TEXTS
from gleaner.cli.files.writers import Cells, Form, OutputFormat
from gleaner.models import Entity, Result
from tests.support.processes.echo_gateway import EchoGateway
from tests.unit.gleaner.cli.conftest import RunCommand


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Return a file of three documents, of which one is empty."""
    (tmp_path / "a.txt").write_text("Ada\n")
    (tmp_path / "in.jsonl").write_text('{"text": "Ada"}\n{"text": " "}\n{"text": "no"}\n')
    return tmp_path / "in.jsonl"


def test_options_become_a_target(tmp_path: Path) -> None:
    """The format is that of the name; the labels file is read and not written."""
    target = OutputOptions(output=tmp_path / "out.csv", csv=Cells.RAW, bom=True).make_target(TEXTS, tmp_path / "l")
    assert (target.path, target.form) == (tmp_path / "out.csv", Form(OutputFormat.CSV, Cells.RAW, True, TEXTS))
    assert target.outputs.read == (tmp_path / "l",)
    printed = OutputOptions(as_json=True).make_target(ENTITIES, None)
    assert (printed.path, printed.outputs.paths, printed.as_json) == (None, (), True)
    with pytest.raises(CommandError, match="--bom"):
        OutputOptions(bom=True).make_target(ENTITIES, None)


@pytest.mark.parametrize(("kind", "name"), [(OutputFormat.JSONL, "out"), (OutputFormat.PARQUET, "out.parquet")])
def test_lines_become_the_output(tmp_path: Path, kind: OutputFormat, name: str) -> None:
    """Parquet is converted; the helper file is gone, and the journal knows the size."""
    output, lines = tmp_path / name, helper_path(tmp_path / name, LINES)
    result = Result(0, "a", "succeeded", (Entity(0, 3, "Ada", "x", 0.9),)).to_json()
    lines.write_text(json.dumps(result) + "\n")
    with closing(Journal.open(output, "print", overwrite=False)) as journal:
        finish_output(output, Form(kind), journal)
        assert (journal.progress.complete, journal.progress.bytes) == (True, output.stat().st_size)
    assert not lines.exists()
    if kind is OutputFormat.PARQUET:
        assert parquet.read_table(output).column("text").to_pylist() == ["Ada"]
    else:
        assert json.loads(output.read_text()) == result


def test_a_run_says_what_failed_and_ends_with_1(echo: EchoGateway, run_command: RunCommand, texts: Path) -> None:
    """By code; and the same command a second time has nothing to do."""
    words = ["extract", texts, "-l", "x", "-o", texts.with_name("out.jsonl")]
    result = run_command(*words)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"3 documents, 1 entities, 1 failed -> {texts.with_name('out.jsonl')}",
        "  1 x empty_text",
    ]
    again = run_command(*words)
    assert "is already complete (3 documents); --overwrite starts again" in again.stderr
    assert (again.exit_code, len(echo.submitted)) == (1, 3)


def test_a_summary_as_json_has_the_same_numbers(echo: EchoGateway, run_command: RunCommand, texts: Path) -> None:
    """With -o on standard output; skipped lines are counted."""
    texts.write_text(texts.read_text() + "broken\n")
    output = texts.with_name("out.jsonl")
    result = run_command("extract", texts, "-l", "x", "-o", output, "--json", "--on-bad-line", "skip")
    assert json.loads(result.stdout) == {
        "documents": 3, "entities": 1, "failed": 1, "errors": {"empty_text": 1}, "output": str(output),
        "skipped": 1,
    }  # fmt: skip


def test_other_options_are_another_run(echo: EchoGateway, run_command: RunCommand, texts: Path) -> None:
    """The fingerprint has inputs, labels, options and formats; --overwrite starts again."""
    words = ["extract", texts, "-o", texts.with_name("out.csv")]
    run_command(*words, "-l", "x")
    for change in (["-l", "y"], ["-l", "x", "--nested"], ["-l", "x", "--bom"], ["-l", "x", "--split"]):
        refused = run_command(*words, *change)
        assert (refused.exit_code, "--overwrite" in refused.stderr) == (2, True), change
    assert run_command(*words, "-l", "y", "--overwrite").exit_code == 1


def test_a_run_that_the_gateway_ended_is_resumed(echo: EchoGateway, run_command: RunCommand, texts: Path) -> None:
    """With its first chunk written, it goes on behind it."""
    texts.write_text("".join(f'"Ada {number}"\n' for number in range(600)))
    words = ["extract", texts, "-l", "x", "-o", texts.with_name("out.jsonl")]
    echo.refuse_from = 4
    assert run_command(*words).exit_code == 3
    assert not texts.with_name("out.jsonl").exists()
    echo.refuse_from = None
    resumed = run_command(*words)
    assert resumed.exit_code == 0, resumed.stderr
    lines = [json.loads(line) for line in texts.with_name("out.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(600))
    assert len(echo.submitted) == 600
