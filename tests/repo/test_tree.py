from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(?:home|root|Users|work|opt/pypi)\b[\w./-]*")
"""An absolute path that exists on one machine only. Paths inside a container are ours to choose: not these."""


def tracked() -> list[Path]:
    """Files that a commit carries: known to git, or new and not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = (ROOT / name for name in listing.stdout.decode().split("\0") if name)
    return sorted(path for path in paths if path.is_file())


def text_lines() -> Iterator[tuple[Path, int, str]]:
    """Every line of every text file."""
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content[:8192]:
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
            yield path.relative_to(ROOT), number, line


@pytest.mark.parametrize(
    ("line", "is_path"),
    [
        ("cd |home|alice|gleaner", True),
        ("see |root|.cache", True),
        ("https:||example.org|home|", False),
        ("$ROOT|work|file", False),
        ("|var|lib|gleaner", False),
    ],
)
def test_a_machines_path_is_recognised(line: str, is_path: bool) -> None:
    """The pattern sees absolute paths of one machine, not parts of addresses or of relative paths.

    They stand here with `|` for `/`: this file names none either.
    """
    assert bool(MACHINE_PATH.search(line.replace("|", "/"))) is is_path


def test_no_file_names_a_path_of_one_machine() -> None:
    """A clone works wherever it lies."""
    assert [f"{path}:{number}" for path, number, line in text_lines() if MACHINE_PATH.search(line)] == []


def test_the_changelog_is_open_for_the_next_change() -> None:
    """There is always one Unreleased section, the first."""
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert sections.count("Unreleased") == 1
