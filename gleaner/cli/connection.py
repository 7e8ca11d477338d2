"""The gateway and key of a command: from its options, else the environment, else the local stack."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import httpx
import typer

from gleaner.client import Client
from gleaner.errors import GleanerError
from gleaner.localstack.datadir import DEFAULT as DEFAULT_DATA_DIR
from gleaner.localstack.datadir import DataDir

__all__ = ["DEFAULT_DATA_DIR", "DataDirectory", "Gateway", "NoGatewayError", "Url", "with_gateway"]

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
class Gateway:
    """The options that select a gateway; they are resolved in `open_client`."""

    url: Url = None
    key: Key = None
    data_dir: DataDirectory = DEFAULT_DATA_DIR

    def open_client(self, *, retries: int = 2) -> Client:
        """Return a client for the named gateway, or for the stack that runs in the data directory.

        By default it gives up after about a second without a response, because a person is waiting.

        Raises:
            NoGatewayError: there is neither, or the URL is invalid.
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
        except (ValueError, httpx.InvalidURL) as failure:
            raise NoGatewayError(f"{failure}; check that {url} is a URL such as http://host:8000") from None


def with_gateway(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take its options as dataclasses, each field of which is an option.

    Help lists the options in the order of the command's arguments, those of `gateway` last.
    """
    arguments = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: argument.annotation for name, argument in arguments.items() if is_dataclass(argument.annotation)
    }
    options = {name: list(_list_options(group)) for name, group in groups.items()}

    @functools.wraps(command)
    def run(context: typer.Context, **values: Any) -> None:
        before = context.find_object(Gateway) or Gateway()  # named before the command, or not at all
        values["url"], values["key"] = values["url"] or before.url, values["key"] or before.key
        for name, group in groups.items():
            values[name] = group(**{option.name: values.pop(option.name) for option in options[name]})
        command(**values)

    ordered = sorted(arguments.items(), key=lambda item: item[0] == "gateway")
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name, argument in ordered:
        parameters += options.get(name, [argument.replace(kind=inspect.Parameter.KEYWORD_ONLY)])
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which typer reads
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _list_options(group: type[Any]) -> Iterator[inspect.Parameter]:
    """Yield a parameter for each field of a dataclass; every field has a default."""
    hints = get_type_hints(group, include_extras=True)
    for option in fields(group):
        yield inspect.Parameter(
            option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=hints[option.name]
        )
