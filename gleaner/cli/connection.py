"""Which gateway a command talks to, and with which key: options, else environment, else the local stack."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, get_type_hints

import httpx
import typer

from gleaner.client import Client
from gleaner.errors import GleanerError
from gleaner.localstack.datadir import DEFAULT as DEFAULT_DATA_DIR
from gleaner.localstack.datadir import DataDir

__all__ = [
    "DEFAULT_DATA_DIR",
    "DataDirectory",
    "Gateway",
    "Globals",
    "NoGatewayError",
    "Url",
    "with_gateway",
]

P = ParamSpec("P")

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


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the options say about the gateway; nothing is looked up before `client`."""

    url: str | None
    key: str | None
    data_dir: Path

    def client(self, *, retries: int = 2) -> Client:
        """A client for the gateway that was named, or for the stack that runs in the data directory.

        By default it gives up soon (about a second without an answer): somebody is waiting at the keyboard.

        Raises:
            NoGatewayError: there is neither.
        """
        url, key = self.url, self.key
        directory = DataDir.from_path(self.data_dir)
        stack = directory.read_stack()
        if url is None:
            if stack is None:
                raise NoGatewayError(
                    "no gateway: start one with `gleaner up`, or name it by --url "
                    f"(no stack runs in {directory.root})"
                )
            url = str(stack["gateway_url"])
        if key is None and stack is not None and url.rstrip("/") == stack["gateway_url"]:
            with contextlib.suppress(OSError):
                key = directory.admin_key.read_text().strip()
        try:
            return Client(url, key, retries=retries)
        except ImportError as failure:  # as httpx's, where a proxy variable asks for SOCKS and socksio is not there
            raise NoGatewayError(f"{failure}; or unset the proxy variables (ALL_PROXY, HTTP_PROXY)") from None
        except (ValueError, httpx.InvalidURL) as failure:
            raise NoGatewayError(
                f"{failure}; is {url} a URL as http://host:8000, and are the proxy variables' values URLs?"
            ) from None


def with_gateway(command: Callable[Concatenate[Gateway, P], None]) -> Callable[..., None]:
    """Give a command --url, --key and --data-dir, and hand it, as its first argument, what they say."""
    hints = get_type_hints(command, include_extras=True)
    _, *own = inspect.signature(command).parameters.values()

    @functools.wraps(command)
    def run(context: typer.Context, url: Url = None, key: Key = None, **given: Any) -> None:
        before: Globals = context.find_object(Globals) or Globals()
        gateway = Gateway(url or before.url, key or before.key, given.pop("data_dir"))
        command(gateway, **given)  # type: ignore[call-arg]  # typer reads the signature below

    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY) for each in own),
        inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Url),
        inspect.Parameter("key", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Key),
        inspect.Parameter(
            "data_dir", inspect.Parameter.KEYWORD_ONLY, default=DEFAULT_DATA_DIR, annotation=DataDirectory
        ),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
