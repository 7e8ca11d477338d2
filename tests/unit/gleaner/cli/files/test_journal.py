"""The journal: what is recorded is there after a kill at any byte."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gleaner.cli.files.journal import Journal, JournalError, Progress, Tally
from gleaner.cli.files.outputs import LINES, STATE, helper_path

TALLIES = st.builds(Tally, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))


def open_journal(output: Path, *, overwrite: bool = False) -> Journal:
    """Open the journal of a run."""
    return Journal.open(output, "print", overwrite=overwrite)


def read_progress(output: Path) -> Progress:
    """Return the progress that a resumed run would have."""
    with closing(open_journal(output)) as journal:
        return journal.progress


@settings(max_examples=30)
@given(st.lists(TALLIES, max_size=4), st.data())
def test_a_journal_that_is_cut_anywhere_resumes_at_a_chunk(tallies: list[Tally], data: st.DataObject) -> None:
    """The counts are those of the chunks that were recorded completely, in order, and none else."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        with closing(open_journal(output)) as journal:
            helper_path(output, LINES).write_bytes(b"x" * 100)
            sizes = [helper_path(output, STATE).stat().st_size]
            for chunk, tally in enumerate(tallies):
                journal.record_job(chunk, f"job_{chunk}", 0)
                journal.record_chunk(chunk, chunk + 1, tally)
                sizes.append(helper_path(output, STATE).stat().st_size)
        state = helper_path(output, STATE)
        cut = data.draw(st.integers(sizes[0], sizes[-1]))
        state.write_bytes(state.read_bytes()[:cut])
        progress = read_progress(output)
        written = sum(size <= cut for size in sizes) - 1
        expected = Tally()
        for tally in tallies[:written]:
            expected.add(tally)
        assert (progress.written, progress.bytes, progress.tally) == (written, written, expected)
        assert progress.jobs.keys() <= {written}


def test_a_job_in_progress_is_remembered_with_its_attempt(tmp_path: Path) -> None:
    """So that its results are read, and not computed a second time; the run keeps its id."""
    helper_path(tmp_path / "out", LINES).touch()
    with closing(open_journal(tmp_path / "out")) as journal:
        run = journal.progress.run
        journal.record_job(0, "job_a", 0)
        journal.record_job(0, "job_b", 1)
    progress = read_progress(tmp_path / "out")
    assert (progress.run, progress.jobs) == (run, {0: ("job_b", 1)})


@pytest.mark.parametrize("content", ['{"v": 1, "run": "r", "fingerprint": "print"}\n', '{"run": "r"}\n'])
def test_a_journal_of_another_version_is_refused(tmp_path: Path, content: str) -> None:
    """Its counts may mean something else."""
    helper_path(tmp_path / "out", STATE).write_text(content)
    with pytest.raises(JournalError, match="by another version of gleaner, or"):
        open_journal(tmp_path / "out")


def test_the_journal_of_an_output_that_is_not_ours_leaves_nothing_behind(tmp_path: Path) -> None:
    """The next command is refused for the same reason."""
    (tmp_path / "out").write_text("precious")
    for _ in range(2):
        with pytest.raises(JournalError, match="already exists"):
            open_journal(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with closing(open_journal(tmp_path / "out", overwrite=True)) as journal:
        assert journal.progress.tally == Tally()


def test_a_complete_output_is_known_by_its_size(tmp_path: Path) -> None:
    """Deleted, it is made again; changed, it is refused."""
    output = tmp_path / "out"
    with closing(open_journal(output)) as journal:
        journal.record_chunk(0, 4, Tally(2, 1, 3))
        output.write_text("1234")
        journal.record_completion(4)
    progress = read_progress(output)
    assert (progress.complete, progress.tally) == (True, Tally(2, 1, 3))
    output.write_text("123")
    with pytest.raises(JournalError, match="was changed"):
        open_journal(output)
    output.unlink()
    assert read_progress(output).complete is False
