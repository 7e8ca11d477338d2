"""`gleaner webhooks`: listen on this machine, and manage the endpoints that are told when jobs end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gleaner.cli.connection import DEFAULT_DATA_DIR, DataDirectory, Key, Url, connect
from gleaner.cli.failures import DOCUMENTS_FAILED, CommandError
from gleaner.client import Client
from gleaner.listening import Listener
from gleaner.webhooks import WebhookEndpoint, new_secret

EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="An endpoint's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
Events = Annotated[list[str] | None, typer.Option("--event", help="Only this event; repeat for more.")]

app = typer.Typer(no_args_is_help=True, help="Be told when jobs end.")
endpoints = typer.Typer(no_args_is_help=True, help="List, create, delete, test endpoints; rotate their secrets.")
app.add_typer(endpoints, name="endpoints")


@app.command()
def listen(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 0,
    public_url: Annotated[
        str | None, typer.Option(help="What the gateway is to call, as a tunnel's. [default: this machine's port]")
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(help="Only listen, for webhooks signed with this secret. [default: register an endpoint]"),
    ] = None,
    event: Events = None,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Print events as they come, each verified, until Ctrl-C.

    An endpoint is registered for as long as this runs. The gateway must be allowed to call this machine: a local
    stack is; elsewhere a tunnel with --public-url does it.
    """
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(Listener(secret or new_secret(), port))
        except OSError as failure:
            raise CommandError(f"port {port} cannot be used: {failure.strerror}; choose another") from failure
        if secret is None:
            client = stack.enter_context(connect(context, url, key, data_dir))
            stack.enter_context(_registered(client, public_url or listener.url, listener.secret, event))
        console.print(f"listening at {listener.url}; Ctrl-C ends", highlight=False)
        seen = 0
        while count is None or seen < count:
            found = listener.next(0.5)
            if found is not None:
                typer.echo(json.dumps(found, ensure_ascii=False))
                seen += 1


@contextlib.contextmanager
def _registered(client: Client, url: str, secret: str, events: list[str] | None) -> Iterator[None]:
    endpoint = client.webhooks.create(url, events=events, secret=secret, description="gleaner webhooks listen")
    try:
        yield
    finally:
        client.webhooks.delete(endpoint.id)


@endpoints.command("list")
def list_(
    context: typer.Context,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """List registered endpoints, oldest first."""
    with connect(context, url, key, data_dir) as client:
        found = client.webhooks.list()
    if as_json:
        for endpoint in found:
            typer.echo(json.dumps({name: value for name, value in asdict(endpoint).items() if name != "secret"}))
        return
    table = Table("endpoint", "url", "events", "status", "failures", "description", box=None)
    for each in found:
        status = each.status if each.disabled_reason is None else f"{each.status}: {each.disabled_reason}"
        events = "all" if each.events is None else ", ".join(each.events)
        table.add_row(each.id, each.url, events, status, str(each.failures_in_a_row), each.description)
    Console().print(table)


@endpoints.command()
def create(
    context: typer.Context,
    receiver: Annotated[str, typer.Argument(metavar="RECEIVER", help="A public https URL.")],
    event: Events = None,
    description: Annotated[str, typer.Option(help="Words to know it by.")] = "",
    named_only: Annotated[
        bool, typer.Option("--named-only", help="Hear only of jobs that name the endpoint, not of all.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Register an endpoint. Its secret is shown this once."""
    with connect(context, url, key, data_dir) as client:
        made = client.webhooks.create(receiver, events=event, description=description, all_jobs=not named_only)
    _show(made, as_json)


@endpoints.command()
def delete(
    context: typer.Context,
    endpoint: EndpointId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Forget an endpoint and what was still to be delivered to it."""
    with connect(context, url, key, data_dir) as client:
        client.webhooks.delete(endpoint)
    typer.echo(f"{endpoint} is gone")


@endpoints.command("test")
def try_out(
    context: typer.Context,
    endpoint: EndpointId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Have a signed test sent now, and show what the receiver said; exit code 1 if it did not take it."""
    with connect(context, url, key, data_dir) as client:
        answer = client.webhooks.test(endpoint)
    said = f"status {answer['status']}" if answer["status"] else f"no answer ({answer['error']})"
    typer.echo(f"{'delivered' if answer['delivered'] else 'failed'}: {said} after {answer['latency_ms']} ms")
    if answer["body"]:
        typer.echo(answer["body"])
    if not answer["delivered"]:
        raise typer.Exit(DOCUMENTS_FAILED)


@endpoints.command()
def rotate(
    context: typer.Context,
    endpoint: EndpointId,
    url: Url = None,
    key: Key = None,
    data_dir: DataDirectory = DEFAULT_DATA_DIR,
) -> None:
    """Change an endpoint's secret: the new one is shown this once, the old one signs along for 24 hours."""
    with connect(context, url, key, data_dir) as client:
        typer.echo(client.webhooks.rotate(endpoint))


def _show(made: WebhookEndpoint, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(made)))
        return
    typer.echo(f"{made.id} hears of {'all events' if made.events is None else ', '.join(made.events)}")
    typer.echo(f"secret, shown this once: {made.secret}")
