"""The gateway and key of a command: from its options, else the environment, else the local stack."""

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

__all__ = ["DEFAULT_DATA_DIR", "DataDirectory", "Gateway", "Globals", "NoGatewayError", "Url", "with_gateway"]

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
    Path, typer.Option("--data-dir", envvar="GLEANER_DATA_DIR", help="Folder of the local stack's files.")
]


class NoGatewayError(GleanerError):
    """No gateway was named, and no local stack is running."""


@dataclass(frozen=True, slots=True)
class Globals:
    """Options before the command's name; the same options after it take precedence."""

    url: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    """The options that select a gateway; they are resolved in `open_client`."""

    url: str | None
    key: str | None
    data_dir: Path

    def open_client(self, *, retries: int = 2) -> Client:
        """Return a client for the named gateway, or for the stack that runs in the data directory.

        By default it gives up after about a second without a response, because a person is waiting.

        Raises:
            NoGatewayError: there is neither, or the URL or the proxy settings are invalid.
        """
        url, key = self.url, self.key
        directory = DataDir(self.data_dir)
        stack = directory.read_stack()
        if url is None:
            if stack is None:
                raise NoGatewayError(
                    f"no gateway: no stack is running in {directory.root}; start one with `gleaner up`, or name a "
                    "gateway with --url"
                )
            url = str(stack["gateway_url"])
        if key is None and stack is not None and url.rstrip("/") == stack["gateway_url"]:
            with contextlib.suppress(OSError):
                key = directory.admin_key.read_text().strip()
        try:
            return Client(url, key, retries=retries)
        except ImportError as failure:  # raised by httpx if a proxy variable requires SOCKS without socksio
            raise NoGatewayError(f"{failure}; or unset the proxy variables (ALL_PROXY, HTTP_PROXY)") from None
        except (ValueError, httpx.InvalidURL) as failure:
            raise NoGatewayError(
                f"{failure}; check that {url} is a URL such as http://host:8000, and that proxy variables are URLs"
            ) from None


def with_gateway(command: Callable[Concatenate[Gateway, P], None]) -> Callable[..., None]:
    """Add --url, --key and --data-dir to a command, and pass it a `Gateway` as its first argument."""
    hints = get_type_hints(command, include_extras=True)
    _, *options = inspect.signature(command).parameters.values()

    @functools.wraps(command)
    def run(context: typer.Context, url: Url = None, key: Key = None, **values: Any) -> None:
        before: Globals = context.find_object(Globals) or Globals()
        gateway = Gateway(url or before.url, key or before.key, values.pop("data_dir"))
        command(gateway, **values)  # type: ignore[call-arg]  # typer reads the signature below

    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(item.replace(annotation=hints[item.name], kind=inspect.Parameter.KEYWORD_ONLY) for item in options),
        inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Url),
        inspect.Parameter("key", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Key),
        inspect.Parameter(
            "data_dir", inspect.Parameter.KEYWORD_ONLY, default=DEFAULT_DATA_DIR, annotation=DataDirectory
        ),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
