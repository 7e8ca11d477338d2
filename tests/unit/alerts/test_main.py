"""`python -m alerts` writes files below a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts.__main__ import main
from alerts.generate import render_files


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> dict[str, str]:
    """Run the command; return path below the folder -> text."""
    monkeypatch.setattr("sys.argv", ["alerts", "--into", str(folder), *arguments])
    main()
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Folders are created."""
    assert run(monkeypatch, tmp_path / "new") == render_files()


def test_a_clouds_rules_have_the_links_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A single file, with the runbooks at another address."""
    files = run(monkeypatch, tmp_path, "--managed", "aws", "--runbooks", "https://wiki/runbooks/")

    assert list(files) == ["aws-rules.yaml"]
    assert "https://wiki/runbooks/GleanerRedisDown.md" in files["aws-rules.yaml"]
