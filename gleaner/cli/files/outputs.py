"""Checks of a command's output files: none is also an input, and none belongs to another run."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gleaner.cli.exit_codes import CommandError

STATE: Final = ".gleaner-state"
LINES: Final = ".gleaner-lines"
PART: Final = ".gleaner-part"
_HELPERS: Final = (STATE, LINES, PART)


def helper_path(output: Path, suffix: str) -> Path:
    """Return the path of a helper file of an output."""
    return output.with_name(output.name + suffix)


@dataclass(frozen=True, slots=True)
class Outputs:
    """The output files of a command.

    Attributes:
        paths: the files; none if the command prints.
        overwrite: True to replace existing files.
        read: files that are read in addition to the inputs, such as the labels file.
    """

    paths: tuple[Path, ...] = ()
    overwrite: bool = False
    read: tuple[Path, ...] = ()

    def check_writable(self) -> None:
        """Raise if an output cannot be written, or is also one of `read` or another output.

        Raises:
            CommandError: the message says what to do.
        """
        for position, path in enumerate(self.paths):
            _require_writable(path)
            for other in (*self.read, *self.paths[:position]):
                if any(_is_same(file, other) for file in (path, *_helper_paths(path))):
                    raise CommandError(f"{path} would be read and written by this command; choose another output")

    def exclude_outputs(self, inputs: Iterable[tuple[Path, bool]], note: Callable[[str], None]) -> Iterator[Path]:
        """Yield the inputs without the outputs of an earlier run of the same command, which a pattern may match.

        Args:
            inputs: files, with True if a pattern matched them.
            note: called with a message about each file that is skipped.

        Raises:
            CommandError: an input is an output or one of its helper files.
        """
        for path, matched in inputs:
            output = next((item for item in self.paths if _is_written_by(item, path)), None)
            if output is None:
                is_stdout = sys.stdout is not None and str(path) != "-" and _is_open_file(path, 1)
                if not self.paths and is_stdout:
                    raise CommandError(f"{path} is both an input and standard output; name another file with -o")
                yield path
            elif _is_ours(output) and (matched or not self.overwrite):
                note(f"{path}: skipped, because it is the output of this command")
            else:
                raise CommandError(f"{path} is an input, and -o {output} would replace it; choose another output")


def _is_written_by(output: Path, path: Path) -> bool:
    if str(path) == "-":
        return sys.stdin is not None and _is_open_file(output, 0)
    return any(_is_same(file, path) for file in (output, *_helper_paths(output)))


def _helper_paths(output: Path) -> tuple[Path, ...]:
    return tuple(helper_path(output, suffix) for suffix in _HELPERS)


def _is_ours(output: Path) -> bool:
    """Return True if a run of this command has written or is writing the output."""
    try:
        return helper_path(output, STATE).stat().st_size > 0
    except OSError:
        return False


def _is_same(path: Path, other: Path) -> bool:
    """Return True if both name the same file: links, `/dev/fd`, or names on a case-insensitive disk."""
    try:
        return path.samefile(other)
    except OSError:
        # A file does not exist yet: compare the names.
        return os.path.realpath(path) == os.path.realpath(other)


def _is_open_file(path: Path, descriptor: int) -> bool:
    """Return True if the descriptor refers to this file on disk."""
    try:
        opened, on_disk = os.fstat(descriptor), path.stat()
    except OSError:
        return False
    return stat.S_ISREG(on_disk.st_mode) and os.path.samestat(opened, on_disk)


def _require_writable(path: Path) -> None:
    if path.is_dir():
        raise CommandError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise CommandError(f"{path} is not a regular file; omit -o to print the results")
    if path.name.endswith(_HELPERS):
        raise CommandError(
            f"{path}: names that end in {', '.join(_HELPERS)} are reserved for helper files; choose another"
        )


def require_free(path: Path) -> None:
    """Raise if a file belongs to a run of `extract` or `redact`, which could be resumed.

    Raises:
        CommandError: it does.
    """
    Outputs((path,)).check_writable()
    if _is_ours(path):
        raise CommandError(
            f"{path} belongs to a run of `gleaner extract` or `redact`, which {helper_path(path, STATE).name} can "
            "resume; choose another -o, or remove that file first"
        )
