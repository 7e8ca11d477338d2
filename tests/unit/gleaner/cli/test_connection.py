"""The gateway and key of a command, and options as dataclasses."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from gleaner.cli.app import app
from gleaner.cli.connection import Gateway, NoGatewayError, with_gateway
from gleaner.errors import TransportError
from tests.unit.gleaner.cli.conftest import ScriptedGateway


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Return the folder of a local stack that runs."""
    (tmp_path / "stack.json").write_text(json.dumps({"gateway_url": "http://127.0.0.1:8000"}))
    (tmp_path / "admin-key").write_text("admin\n")
    return tmp_path


@pytest.mark.parametrize(
    ("url", "key", "authorization"),
    [
        (None, None, "Bearer admin"),
        ("http://127.0.0.1:8000/", None, "Bearer admin"),
        ("http://127.0.0.1:8000", "mine", "Bearer mine"),
        ("http://other:8000", None, None),
    ],
)
def test_the_stacks_key_is_sent_to_the_stack_alone(
    gateway: ScriptedGateway, stack: Path, url: str | None, key: str | None, authorization: str | None
) -> None:
    """Another gateway must not learn it; an explicit key takes precedence."""
    gateway.answers["GET /v1/models"] = {"data": []}
    with Gateway(url, key, stack).open_client() as client:
        client.models()
    assert gateway.requests[0].headers.get("authorization") == authorization


def test_a_stack_without_a_key_file_needs_no_key(gateway: ScriptedGateway, stack: Path) -> None:
    """It may run without authentication."""
    (stack / "admin-key").unlink()
    gateway.answers["GET /v1/models"] = {"data": []}
    with Gateway(None, None, stack).open_client() as client:
        client.models()
    assert "authorization" not in gateway.requests[0].headers


@pytest.mark.parametrize(
    ("url", "message"),
    [(None, "no gateway: no stack is running"), ("http://h:x", "check that http://h:x is a URL")],
)
def test_without_a_gateway_the_way_out_is_named(tmp_path: Path, url: str | None, message: str) -> None:
    """A stack to start, or an option to correct."""
    with pytest.raises(NoGatewayError, match=message):
        Gateway(url, None, tmp_path).open_client()


def test_a_proxy_that_cannot_be_used_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables come from the user's environment."""
    monkeypatch.setenv("ALL_PROXY", "socks4a://x")
    with pytest.raises(TransportError, match="proxy socks4a://x from the environment"):
        Gateway("http://gateway", None, tmp_path).open_client()


@dataclass(frozen=True)
class Colours:
    """A group of options."""

    red: Annotated[int, typer.Option(help="Red.")] = 1
    names: Annotated[list[str] | None, typer.Option("--name", help="Names.")] = None


@pytest.fixture
def sample() -> tuple[typer.Typer, list[Any]]:
    """Return a program whose commands take their options as dataclasses, and what they were called with."""
    program, calls = typer.Typer(), []

    @program.callback()
    def select_gateway(context: typer.Context, url: str | None = None, key: str | None = None) -> None:
        context.obj = Gateway(url, key)

    @with_gateway
    def paint(*, gateway: Gateway, item: str, colours: Colours, fast: bool = False) -> None:
        calls.append((gateway, item, colours, fast))

    program.command("paint")(paint)
    return program, calls


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["paint", "wall"], (None, None, Colours(), False)),
        (
            ["paint", "wall", "--red", "3", "--name", "a", "--name", "b"],
            (None, None, Colours(3, ["a", "b"]), False),
        ),
        (["--url", "u", "--key", "k", "paint", "wall", "--fast"], ("u", "k", Colours(), True)),
        (["--url", "u", "--key", "k", "paint", "wall", "--url", "v"], ("v", "k", Colours(), False)),
    ],
)
def test_options_arrive_as_dataclasses(
    sample: tuple[typer.Typer, list[Any]], words: list[str], expected: tuple[Any, ...]
) -> None:
    """A gateway before the command's name counts where the command has none."""
    program, calls = sample
    result = CliRunner().invoke(program, words)
    assert result.exit_code == 0, result.output
    [(gateway, item, colours, fast)] = calls
    assert (gateway.url, gateway.key, colours, fast) == expected
    assert item == "wall"


def test_help_lists_the_gateways_options_last() -> None:
    """A command's own come first."""
    shown = CliRunner().invoke(app, ["cancel", "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"}).stdout
    options = re.findall(r"^│ (--\w+(?:-\w+)*) ", shown, re.MULTILINE)
    assert options == ["--json", "--url", "--key", "--data-dir", "--help"]
