"""Which gateway a command talks to, and with which key: options, else environment, else the local stack."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gleaner.client import Client
from gleaner.errors import GleanerError
from gleaner.stack.datadir import DEFAULT as DEFAULT_DATA_DIR
from gleaner.stack.datadir import DataDir

__all__ = ["DEFAULT_DATA_DIR", "DataDirectory", "Globals", "Key", "NoGatewayError", "Url", "connect"]

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="GLEANER_URL", help="The gateway. [default: the local stack of --data-dir]"),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="GLEANER_API_KEY", help="The API key. [default: the local stack's]", show_envvar=True
    ),
]
DataDirectory = Annotated[
    Path, typer.Option("--data-dir", envvar="GLEANER_DATA_DIR", help="Where the local stack keeps its files.")
]


class NoGatewayError(GleanerError):
    """No gateway was named, and no local stack runs."""


@dataclass(frozen=True, slots=True)
class Globals:
    """Options given before the command's name; the same ones after it win."""

    url: str | None = None
    key: str | None = None


def connect(
    context: typer.Context, url: str | None, key: str | None, data_dir: Path, *, retries: int = 2
) -> Client:
    """A client for the gateway that was named, or for the stack that runs in `data_dir`.

    By default it gives up soon (about a second without an answer): somebody is waiting at the keyboard.

    Raises:
        NoGatewayError: there is neither.
    """
    given: Globals = context.find_object(Globals) or Globals()
    url, key = url or given.url, key or given.key
    directory = DataDir.at(data_dir)
    stack = directory.read_stack()
    if url is None:
        if stack is None:
            raise NoGatewayError(
                f"no gateway: start one with `gleaner up`, or name it by --url (no stack runs in {directory.root})"
            )
        url = str(stack["gateway_url"])
    if key is None and stack is not None and url.rstrip("/") == stack["gateway_url"]:
        with contextlib.suppress(OSError):
            key = directory.admin_key.read_text().strip()
    return Client(url, key, retries=retries)
