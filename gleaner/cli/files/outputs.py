"""The files that a command writes: none is one that it reads, and none is replaced before the new one is whole."""

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


def helper(output: Path, suffix: str) -> Path:
    """Return the path of a file that a command keeps with an output."""
    return output.with_name(output.name + suffix)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a command writes, each with the files that are kept with it.

    Attributes:
        paths: the files; none where the command prints.
        overwrite: what is there is to be replaced.
        read: files that are read besides the inputs, as the labels'.
    """

    paths: tuple[Path, ...] = ()
    overwrite: bool = False
    read: tuple[Path, ...] = ()

    def check(self) -> None:
        """Raise where an output cannot be written as a file, or is one of `read`, or another output.

        Raises:
            CommandError: it is; says what to do.
        """
        for place, path in enumerate(self.paths):
            _require_writable(path)
            for other in (*self.read, *self.paths[:place]):
                if any(_is_same(file, other) for file in (path, *_kept(path))):
                    raise CommandError(f"{path} is read and written by this command; choose another output")

    def leave_out(self, inputs: Iterable[tuple[Path, bool]], note: Callable[[str], None]) -> Iterator[Path]:
        """Yield the inputs but for what an earlier run of the same command wrote and a pattern names again.

        Args:
            inputs: files; True with those that a pattern named.
            note: takes what is left out.

        Raises:
            CommandError: an input is an output, or would be replaced by what is kept with it.
        """
        for path, matched in inputs:
            output = next((each for each in self.paths if _writes(each, path)), None)
            if output is None:
                if not self.paths and _is_printed_to(path):
                    raise CommandError(f"{path} is where standard output goes; name another file with -o")
                yield path
            elif _is_ours(output) and (matched or not self.overwrite):
                note(f"{path}: left out, it is what this command writes")
            else:
                raise CommandError(f"{path} is an input, and -o {output} would replace it; choose another output")


def _writes(output: Path, path: Path) -> bool:
    if str(path) == "-":
        return sys.stdin is not None and _is_open_file(output, 0)
    return any(_is_same(file, path) for file in (output, *_kept(output)))


def _kept(output: Path) -> tuple[Path, ...]:
    return tuple(helper(output, suffix) for suffix in _HELPERS)


def _is_ours(output: Path) -> bool:
    """Return True where a run of this command wrote the output, or is about to."""
    try:
        return helper(output, STATE).stat().st_size > 0
    except OSError:
        return False


def _is_same(one: Path, other: Path) -> bool:
    """Return True for the same file, by whatever name: links, `/dev/fd`, letter case where the disk has none."""
    try:
        return one.samefile(other)
    except OSError:
        # One is not there yet: then by its name, in the same folder.
        return os.path.realpath(one) == os.path.realpath(other)


def _is_printed_to(path: Path) -> bool:
    return sys.stdout is not None and str(path) != "-" and _is_open_file(path, 1)


def _is_open_file(path: Path, descriptor: int) -> bool:
    """Return True where the descriptor is this very file on disk."""
    try:
        opened, there = os.fstat(descriptor), path.stat()
    except OSError:
        return False
    return stat.S_ISREG(there.st_mode) and os.path.samestat(opened, there)


def _require_writable(path: Path) -> None:
    if path.is_dir():
        raise CommandError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise CommandError(f"{path} is no file on disk; leave -o away to print the results")
    if path.name.endswith(_HELPERS):
        raise CommandError(
            f"{path}: names that end in {', '.join(_HELPERS)} are this command's own; choose another"
        )


def require_free(path: Path) -> None:
    """Raise where a file belongs to a run of `extract` or `redact` that would go on by it.

    Raises:
        CommandError: it does.
    """
    Outputs((path,)).check()
    if _is_ours(path):
        raise CommandError(
            f"{path} was written by `gleaner extract` or `redact`, which goes on by {helper(path, STATE).name}; "
            "choose another -o, or remove that first"
        )
