"""`gleaner extract` and `redact` on files as people have them, with the real service and model."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes.local_stack import RunningStack, gleaner

pytestmark = pytest.mark.timeout(300)
TEXT = "Ada Lovelace met Charles Babbage in London."


def lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines, read."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("unit", ["codepoint", "utf16", "byte"])
def test_offsets_of_a_file_from_windows_fit_it(stack: RunningStack, tmp_path: Path, unit: str) -> None:
    """A byte order mark, CRLF and wide characters before the names."""
    content = f"\ufeffé 😀\r\n\r\n{TEXT}\r\n".encode()
    (tmp_path / "w.txt").write_bytes(content)
    output = tmp_path / "out"
    command = ["extract", str(tmp_path / "w.txt"), "-l", "person", "-o", str(output), "--offset-unit", unit]
    ran = gleaner(*command, "--data-dir", str(stack.directory))

    assert ran.returncode == 0, ran.stderr
    whole = content.decode("utf-8-sig")
    data = {"codepoint": whole.encode("utf-32-le"), "utf16": whole.encode("utf-16-le"), "byte": content}[unit]
    wide = {"codepoint": 4, "utf16": 2, "byte": 1}[unit]
    codec = {"codepoint": "utf-32-le", "utf16": "utf-16-le", "byte": "utf-8"}[unit]
    (line,) = lines(output)
    slices = [data[wide * entity["start"] : wide * entity["end"]].decode(codec) for entity in line["entities"]]
    assert slices == [entity["text"] for entity in line["entities"]] == ["Ada Lovelace", "Charles Babbage"]


def test_files_of_a_real_folder(stack: RunningStack, tmp_path: Path) -> None:
    """Semicolons and windows-1252, packed JSON lines with `labels` of another meaning, and rows that are none."""
    (tmp_path / "a.csv").write_bytes(f"id;text\r\na1;{TEXT} “Zoë”\r\na2;x;y\r\n".encode("cp1252"))
    packed = json.dumps({"id": "b1", "text": TEXT, "labels": [0]}) + "\n" + '{"content": "x"}\n'
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(packed.encode()))
    output = tmp_path / "found.csv"
    command = ["extract", f"{tmp_path}/*.*", "-l", "person", "-o", str(output), "--data-dir", str(stack.directory)]
    command += ["--encoding", "windows-1252", "--ignore-columns", "labels"]

    refused = gleaner(*command)
    assert (refused.returncode, "a.csv, line 3: 3 cells" in refused.stderr) == (2, True), refused.stderr
    assert "b.jsonl.gz, line 2: no field 'text'" in refused.stderr
    assert not output.exists()
    for said in ("0 failed, 2 skipped", "already complete"):
        ran = gleaner(*command, "--on-bad-line", "skip")
        assert (ran.returncode, said in ran.stderr) == (1, True), ran.stderr
    assert {row.split(",")[1] for row in output.read_text().splitlines()[1:]} == {"a1", "b1"}


def test_redaction_changes_nothing_but_the_values(stack: RunningStack, tmp_path: Path) -> None:
    """Line ends stay as they are."""
    (tmp_path / "w.txt").write_bytes(b"a\r\n\rAda Lovelace lived\r\nhere.\r")
    output = tmp_path / "out"
    command = ["redact", str(tmp_path / "w.txt"), "-l", "person", "-o", str(output)]
    ran = gleaner(*command, "--data-dir", str(stack.directory))
    assert ran.returncode == 0, ran.stderr
    assert lines(output)[0]["redacted_text"] == "a\r\n\r[PERSON] lived\r\nhere.\r"
