"""The file of API keys, edited by the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gleaner.cli.app import app
from jobs.api_keys import KeyRing


def run_keys(folder: Path, *arguments: str) -> Result:
    """Run the command on the keys file of a folder."""
    command = ["keys", *arguments, "--keys-file", str(folder / "keys.json")]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200", "NO_COLOR": "1"})


def create_key(folder: Path, *options: str) -> dict[str, Any]:
    """Create a key; return what is shown."""
    shown: dict[str, Any] = json.loads(run_keys(folder, "create", "--tenant", "t", "--json", *options).stdout)
    return shown


def test_a_key_is_shown_once_and_works(tmp_path: Path) -> None:
    """The file has only its hash, with the limits that were named."""
    shown = create_key(tmp_path, "--role", "admin", "--expires-in", "90d", "--submits-per-s", "3")
    assert shown["key"] not in (tmp_path / "keys.json").read_text()
    record = KeyRing(tmp_path / "keys.json").verify(shown["key"])
    assert record is not None
    assert (record.key_id, str(record.role)) == (shown["key_id"], "admin")
    assert record.limits.model_dump(exclude_none=True) == {"submits_per_s": 3}
    text = run_keys(tmp_path, "create", "--tenant", "t")
    assert "(submitter of t, expires never)" in text.stdout
    assert "Save the key now" in text.stderr


def test_keys_are_listed_with_their_state(tmp_path: Path) -> None:
    """Good or revoked, with the limits that were set; never with a hash."""
    good = create_key(tmp_path, "--name", "n", "--open-jobs", "5")
    revoked = create_key(tmp_path)
    assert run_keys(tmp_path, "revoke", revoked["key_id"]).stdout == f"{revoked['key_id']} is revoked\n"
    rows = [line.split() for line in run_keys(tmp_path, "list").stdout.splitlines()[1:]]
    assert rows[0] == [good["key_id"], "t", "submitter", "n", "good", "never", "open_jobs", "5"]
    assert rows[1][:4] == [revoked["key_id"], "t", "submitter", "revoked"]
    for line in run_keys(tmp_path, "list", "--json").stdout.splitlines():
        assert "sha256" not in json.loads(line)


def test_a_rotated_key_has_a_successor(tmp_path: Path) -> None:
    """The old one is valid for the overlap."""
    old = create_key(tmp_path)
    new = json.loads(run_keys(tmp_path, "rotate", old["key_id"], "--overlap", "1h", "--json").stdout)
    ring = KeyRing(tmp_path / "keys.json")
    assert ring.verify(new["key"]) is not None
    previous = ring.verify(old["key"])
    assert previous is not None
    assert previous.expires_at is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["revoke", "none"], "none"),
        (["create", "--tenant", "t", "--role", "king"], "king"),
        (["create", "--tenant", "t", "--expires-in", "soon"], "is not a duration"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    """With exit code 2, and the file is as before."""
    create_key(tmp_path)
    before = (tmp_path / "keys.json").read_bytes()
    result = run_keys(tmp_path, *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert (tmp_path / "keys.json").read_bytes() == before


def test_without_the_service_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is installed without it."""
    monkeypatch.setitem(sys.modules, "jobs.api_keys", None)
    monkeypatch.delattr("jobs.api_keys", raising=False)
    result = run_keys(tmp_path, "list")
    assert (result.exit_code, "gleaner-ner[gateway]" in result.stderr) == (2, True)
