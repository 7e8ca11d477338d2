"""Rules for every command of `gleaner`: help, --json, completion, and the exit codes of docs/reference/cli.md."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from gleaner.cli import exit_codes
from gleaner.cli.app import _explain_error, app, prepare_streams
from gleaner.cli.files.journal import JournalError
from gleaner.cli.files.rows import InputError
from gleaner.errors import ApiError, AuthenticationError, GleanerError, PermissionDenied, TransportError
from gleaner.localstack import DataDir
from gleaner.localstack.errors import StackError
from tests.conftest import ROOT
from tests.support.processes.local_stack import command_environment

WITHOUT_JSON = {
    "demo": "a show for people",
    "results": "its lines are JSON already, or what --format says",
    "webhooks listen": "its lines are JSON already",
}


def commands(group: object = None, path: str = "") -> Iterator[tuple[str, object]]:
    """Every command that does something, by the words that one types."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        full = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from commands(command, full)
        else:
            yield full, command


COMMANDS = dict(commands())


def options(command: object) -> set[str]:
    """Its options."""
    return {name for parameter in command.params for name in parameter.opts}  # type: ignore[attr-defined]


def test_the_commands_are_found() -> None:
    """Those that users are promised."""
    promised = {"extract", "jobs", "results", "cancel", "retry", "purge", "watch", "keys create", "webhooks listen"}
    assert promised | {"models", "limits", "top", "doctor", "up", "demo"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_speaks_json(name: str) -> None:
    """A script reads any command's answer; the exceptions are named with their reasons."""
    assert ("--json" in options(COMMANDS[name])) != (name in WITHOUT_JSON)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_word_of_help(name: str) -> None:
    """`-h` explains everything, in sentences."""
    command = COMMANDS[name]
    assert re.match(r"[A-Z][^\n]+", command.help)  # type: ignore[attr-defined]
    for parameter in command.params:  # type: ignore[attr-defined]
        assert getattr(parameter, "help", "") or parameter.name == "help", parameter.name


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if "--url" in options(command)])
def test_what_talks_to_a_gateway_is_told_which_in_one_way(name: str) -> None:
    """--url, --key and --data-dir come together (doctor asks nothing that needs a key)."""
    assert {"--url", "--data-dir"} <= options(COMMANDS[name])
    assert "--key" in options(COMMANDS[name]) or name == "doctor"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell: str) -> None:
    """For a shell that asks, and by name where none does, as in an image's build."""
    said = CliRunner().invoke(app, env={"_GLEANER_COMPLETE": f"source_{shell}"}, prog_name="gleaner").stdout
    assert "_GLEANER_COMPLETE" in said


def test_completion_for_the_shell_that_asks() -> None:
    """`gleaner --show-completion` sees which shell it is in."""
    line = f"{sys.executable} -m gleaner --show-completion bash; true"
    said = subprocess.run(
        ["bash", "-c", line], env=command_environment(), capture_output=True, text=True, check=True
    ).stdout
    assert "COMPREPLY" in said


@pytest.mark.parametrize("command", [["extract", "in.txt", "-l", "person"], ["results", "job_1"]])
def test_an_output_that_cannot_be_made_is_told_in_a_sentence(command: list[str], tmp_path: Path) -> None:
    """With exit code 2, before the gateway is asked for anything, and without a traceback."""
    (tmp_path / "in.txt").write_text("Ada")
    arguments = [str(tmp_path / word) if word == "in.txt" else word for word in command]
    ran = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "none" / "out"), "--url", "http://127.0.0.1:9"])
    assert (ran.exit_code, type(ran.exception)) == (exit_codes.USAGE, SystemExit)
    assert "No such file or directory" in ran.stderr


def test_the_page_has_every_exit_code() -> None:
    """docs/reference/cli.md explains each; test_cli.py has a run that ends with each."""
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    constants = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    assert documented == {0, *constants}


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (AuthenticationError(401, "unauthorized", "no"), exit_codes.GATEWAY, "check --key or GLEANER_API_KEY"),
        (PermissionDenied(403, "forbidden", "needs admin"), exit_codes.GATEWAY, "use another key: needs admin"),
        (TransportError("refused"), exit_codes.GATEWAY, "cannot be reached: refused (is it running? check --url)"),
        (GleanerError("odd"), exit_codes.GATEWAY, "odd"),
        (exit_codes.CommandError("wrong"), exit_codes.USAGE, "wrong"),
        (InputError("a.txt: bad"), exit_codes.USAGE, "a.txt: bad"),
        (JournalError("in use"), exit_codes.USAGE, "in use"),
        (StackError("no port"), exit_codes.STACK_FAILED, "no port"),
        (OSError(28, "No space left", "/out\x1b"), exit_codes.USAGE, "/out\\x1b: No space left"),
        (OSError("odd"), exit_codes.USAGE, "error: odd"),
    ],
)
def test_an_exception_is_a_sentence_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, code: int, message: str
) -> None:
    """No traceback, and no control character of a path or a response reaches the terminal."""

    def fail(_directory: DataDir) -> None:
        raise failure

    monkeypatch.setattr(DataDir, "read_stack", fail)
    ran = CliRunner().invoke(app, ["jobs"])
    assert (ran.exit_code, message in ran.stderr) == (code, True), ran.stderr


def test_a_refusal_for_now_says_when_to_try_again() -> None:
    """From the response's Retry-After."""
    failure = ApiError(429, "rate_limited", "too many", retry_after=7.2)
    assert _explain_error(failure).endswith("\n  try again in 7 s")


def test_output_of_any_encoding_takes_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Characters outside of a terminal's encoding become escapes."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    prepare_streams()
    stream.write("Zoë\ud800")
    stream.flush()
    assert stream.buffer.getvalue() == b"Zo\\xeb\\ud800"  # type: ignore[attr-defined]
