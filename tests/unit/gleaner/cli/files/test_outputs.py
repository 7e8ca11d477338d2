"""Output files: none is also an input, and none belongs to another run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.outputs import LINES, PART, STATE, Outputs, helper_path, require_free


@pytest.mark.parametrize("suffix", [STATE, LINES, PART])
def test_a_name_of_a_helper_file_is_reserved(tmp_path: Path, suffix: str) -> None:
    """Another run's helper would be replaced."""
    with pytest.raises(CommandError, match="reserved"):
        Outputs((helper_path(tmp_path / "out", suffix),)).check_writable()


def test_a_folder_and_a_device_are_no_output(tmp_path: Path) -> None:
    """The message says what to do instead."""
    with pytest.raises(CommandError, match="is a folder; name a file in it"):
        Outputs((tmp_path,)).check_writable()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CommandError, match="not a regular file; omit -o"):
        Outputs((tmp_path / "pipe",)).check_writable()


@pytest.mark.parametrize("name", ["labels.txt", "./labels.txt", "sub/../labels.txt", "link", "hard"])
def test_a_file_that_is_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """By whatever name, its helper files included."""
    monkeypatch.chdir(tmp_path)
    labels = Path("labels.txt")
    labels.write_text("person")
    Path("sub").mkdir()
    Path("link").symlink_to(labels)
    Path("hard").hardlink_to(labels)
    with pytest.raises(CommandError, match="would be read and written"):
        Outputs((Path(name),), read=(labels,)).check_writable()


def test_an_input_that_does_not_exist_yet_is_compared_by_name(tmp_path: Path) -> None:
    """Two outputs of one name, and a helper file that would be read."""
    out = tmp_path / "out"
    with pytest.raises(CommandError, match="read and written"):
        Outputs((out, tmp_path / "." / "out")).check_writable()
    with pytest.raises(CommandError, match="read and written"):
        Outputs((out,), read=(helper_path(out, LINES),)).check_writable()
    Outputs((out, tmp_path / "other"), read=(tmp_path / "labels",)).check_writable()


def test_outputs_of_an_earlier_run_are_skipped(tmp_path: Path) -> None:
    """A pattern may match them; the user sees a note."""
    out, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    helper_path(out, STATE).write_text("{}")
    notes: list[str] = []
    inputs = [(out, True), (other, True), (helper_path(out, LINES), True)]
    assert list(Outputs((out,)).exclude_outputs(inputs, notes.append)) == [other]
    assert len(notes) == 2


@pytest.mark.parametrize(
    ("matched", "overwrite", "ours", "is_skipped"),
    [(True, True, True, True), (False, False, True, True), (False, True, True, False), (True, False, False, False)],
)
def test_an_input_that_would_be_replaced_is_refused(
    tmp_path: Path, matched: bool, overwrite: bool, ours: bool, is_skipped: bool
) -> None:
    """An input that was named is replaced neither by --overwrite nor by a first run."""
    out = tmp_path / "out"
    out.write_text("precious")
    if ours:
        helper_path(out, STATE).write_text("{}")
    outputs = Outputs((out,), overwrite)
    if is_skipped:
        assert list(outputs.exclude_outputs([(out, matched)], lambda _note: None)) == []
    else:
        with pytest.raises(CommandError, match="would replace it"):
            list(outputs.exclude_outputs([(out, matched)], lambda _note: None))


def test_a_file_of_a_run_that_can_be_resumed_is_not_free(tmp_path: Path) -> None:
    """An empty journal belongs to no run."""
    out = tmp_path / "out"
    require_free(out)
    helper_path(out, STATE).touch()
    require_free(out)
    helper_path(out, STATE).write_text("{}")
    with pytest.raises(CommandError, match=r"out belongs to a run .*out.gleaner-state"):
        require_free(out)
