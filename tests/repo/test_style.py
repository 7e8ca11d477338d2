"""The rules of language that no linter has; `make style` prints the measures that go with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import style
from scripts.style import Finding, Source

BAD = '''"""A sample."""

class Twice:
    """Renews leases."""

class Twice:
    """Renews leases."""

def find(told, number):
    """What was found, so many times."""
    kept = number  # anew
    return kept
'''

PUBLIC = "evaluation.py"
"""The module whose public names `found` and `kept` stay, for those who use it."""


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    """Return every file of our packages and tests."""
    return style.parse_all([style.ROOT / package for package in (*style.PACKAGES, "tests")])


@pytest.fixture
def bad(tmp_path: Path) -> list[Source]:
    """Return a file that breaks every rule."""
    path = tmp_path / "package" / "bad.py"
    path.parent.mkdir()
    path.write_text(BAD)
    return style.parse_all([path])


def texts(findings: list[Finding]) -> list[str]:
    """Return the offending words of `findings`."""
    return sorted(finding.text for finding in findings)


def test_the_rules_find_what_they_forbid(bad: list[Source], tmp_path: Path) -> None:
    """A sample that breaks each rule is reported, with the offending words."""
    assert texts(style.find_question_docstrings(bad)) == ["What"]
    assert texts(style.find_forbidden_phrases(bad)) == ["anew", "so many"]
    assert texts(style.find_vague_names(bad)) == ["kept", "told"]
    assert texts(style.find_duplicate_classes(bad, tmp_path)) == ["Twice", "Twice"]


def test_docstrings_of_functions_begin_with_a_verb(sources: list[Source]) -> None:
    """No docstring begins with a question word."""
    assert [str(finding) for finding in style.find_question_docstrings(sources)] == []


def test_prose_is_plain_english(sources: list[Source]) -> None:
    """No docstring or comment has a forbidden phrase."""
    assert [
        str(finding) for finding in style.find_forbidden_phrases(sources) if finding.path != Path(__file__)
    ] == []


def test_names_say_what_they_hold(sources: list[Source]) -> None:
    """No variable, argument or function is a bare participle or pronoun."""
    findings = (finding for finding in style.find_vague_names(sources) if finding.path.name != PUBLIC)
    assert [str(finding) for finding in findings] == []


def test_a_class_name_is_defined_once_in_a_package(sources: list[Source]) -> None:
    """Two classes of one package never share a name."""
    packages = [source for source in sources if source.path.relative_to(style.ROOT).parts[0] != "tests"]
    assert [str(finding) for finding in style.find_duplicate_classes(packages)] == []


def test_no_folder_has_more_modules_than_a_reader_can_hold(sources: list[Source]) -> None:
    """A folder with more modules is split by subject."""
    crowded = {
        str(folder): count for folder, count in style.count_modules(sources).items() if count > style.MAX_MODULES
    }
    assert crowded == {}
