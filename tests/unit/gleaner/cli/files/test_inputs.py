"""A command's files as one sequence of documents, with all faults found first."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.inputs import Faults, Inputs, open_inputs
from gleaner.cli.files.outputs import STATE, Outputs, helper_path
from gleaner.cli.files.rows import Fault, Format, InputError, OnBadLine, Reading, Row


def read_all(*files: Path, outputs: Outputs | None = None, **options: Any) -> tuple[Inputs, list[Row]]:
    """Open the files, and read every row."""
    with open_inputs(list(files), Reading(**options), outputs or Outputs()) as inputs:
        return inputs, list(inputs.read_rows())


def feed_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Make bytes the standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Return a file with two documents, and a line between them that is none."""
    (tmp_path / "a.jsonl").write_text('"one"\nbroken\n"two"\n')
    return tmp_path / "a.jsonl"


def test_faults_are_found_before_anything_is_read(mixed: Path, tmp_path: Path) -> None:
    """Of all files, with what can be done; a single one is the whole message."""
    with pytest.raises(InputError, match=r"^.*a.jsonl, line 2: not a JSON document.*\n  Nothing was submitted"):
        read_all(mixed)
    with pytest.raises(InputError) as raised:
        read_all(mixed, tmp_path / "none.txt")
    title, *lines = str(raised.value).splitlines()
    assert title == "2 lines, rows or files are not valid documents:"
    assert [line.rpartition(": ")[2] for line in lines[1:2]] == ["No such file or directory"]
    assert "the valid documents (2)" in lines[-1]


def test_bad_lines_are_skipped_or_fail(mixed: Path) -> None:
    """The option says which; failing ones are documents of the output."""
    skipping, rows = read_all(mixed, on_bad_line=OnBadLine.SKIP)
    assert ([row.text for row in rows], skipping.total, skipping.skipped) == (["one", "two"], 2, 1)
    failing, rows = read_all(mixed, on_bad_line=OnBadLine.FAIL_DOCUMENT)
    assert ([row.fault is None for row in rows], failing.total, failing.skipped) == ([True, False, True], 3, 0)


@pytest.mark.parametrize(
    "change", ['"one"\n"two"\n', '"one"\n"two"\n"three"\nbroken\n', '"one"\n{\n"two"\n"three"\n']
)
def test_a_file_that_changes_meanwhile_is_noticed(mixed: Path, change: str) -> None:
    """Else the output would not be that of the files that were checked."""
    mixed.write_text('"one"\n"two"\n"three"\n')
    with open_inputs([mixed], Reading(), Outputs()) as inputs:
        mixed.write_text(change)
        with pytest.raises(InputError, match="changed since"):
            list(inputs.read_rows())


def test_the_digest_is_that_of_names_and_contents(tmp_path: Path) -> None:
    """It identifies a run: the same files in the same order are the same run."""
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("x")
    second.write_text("x")
    digest = read_all(first, second)[0].digest
    assert read_all(first, second)[0].digest == digest
    assert read_all(second, first)[0].digest != digest
    second.write_text("y")
    assert read_all(first, second)[0].digest != digest


def test_patterns_are_expanded_and_outputs_left_out(tmp_path: Path) -> None:
    """The command's own output, which a pattern matches, is named."""
    for name in ("a.txt", "b.txt", "out.txt"):
        (tmp_path / name).write_text(name)
    helper_path(tmp_path / "out.txt", STATE).write_text("{}")
    inputs, rows = read_all(tmp_path / "*.txt", outputs=Outputs((tmp_path / "out.txt",)))
    assert [row.text for row in rows] == ["a.txt", "b.txt"]
    assert inputs.notes == (f"{tmp_path / 'out.txt'}: skipped, because it is the output of this command",)
    with pytest.raises(CommandError, match="would replace it"):
        read_all(tmp_path / "a.txt", outputs=Outputs((tmp_path / "a.txt",)))


def test_no_documents_are_an_error(tmp_path: Path) -> None:
    """An empty run is rarely meant."""
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(InputError, match="the input is empty"):
        read_all(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text("broken\n")
    with pytest.raises(InputError, match="not a JSON document"):
        read_all(tmp_path / "a.jsonl", on_bad_line=OnBadLine.SKIP)
    with pytest.raises(InputError, match="unknown format; add --format"):
        read_all(tmp_path / "a.dat")


def test_standard_input_is_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one text by default, and is resumable like a file."""
    feed_stdin(monkeypatch, "Zoë\nAda".encode())
    inputs, [row] = read_all(Path("-"))
    assert (row.id, row.text, inputs.total) == ("stdin", "Zoë\nAda", 1)
    feed_stdin(monkeypatch, b'"a"\n"b"\n')
    assert len(read_all(Path("-"), kind=Format.JSONL)[1]) == 2
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input is closed"):
        read_all(Path("-"))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"text": "x"}\n', "jsonl"),
        (b'\n"x"\n', "jsonl"),
        (b'[\n{"text": "x"}]', "json"),
        (b'[{"text": "x"}]', "json"),
        (b"<!DOCTYPE html><p>x", "html"),
        (b"  <html lang=de>", "html"),
        (b"id,text\n1,x\n", "csv"),
        (b'"id";"text"\n1;x\n', "csv"),
        (b"id\ttext\n1\tx\n", "tsv"),
        (b"id|text\n", "csv"),
    ],
)
def test_standard_input_of_another_format_is_noticed(
    monkeypatch: pytest.MonkeyPatch, content: bytes, kind: str
) -> None:
    """Else a whole table would be one text; naming the format settles it."""
    feed_stdin(monkeypatch, content)
    with pytest.raises(InputError, match=f"add --format {kind}, or --format txt"):
        read_all(Path("-"))
    feed_stdin(monkeypatch, content)
    assert read_all(Path("-"), kind=Format.TXT)[0].total == 1


@pytest.mark.parametrize("content", [b"Dear text, hello", b"5", b"[1] see there", b"a < b", b"text", b""])
def test_plain_text_is_no_other_format(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """A comma or a number proves nothing."""
    feed_stdin(monkeypatch, content)
    assert read_all(Path("-"))[1][0].text == content.decode()


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    """A shell makes one of <(command), which can be read only once."""
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("Ada",))
    writer.start()
    _, [row] = read_all(pipe)
    writer.join()
    assert (row.id, row.text) == (str(pipe), "Ada")


def test_the_first_faults_are_listed_and_all_are_counted() -> None:
    """In a large file of another format, every line is one."""
    faults = Faults()
    for number in range(25):
        faults.add(Fault(f"line {number}", "bad", str(number)))
    assert faults.count == 25
    assert faults.describe()[19:] == ["line 19: bad", "and 5 more"]
