"""`gleaner webhooks`: listen on this machine, manage the endpoints that hear of jobs, see what was sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.exit_codes import DOCUMENTS_FAILED, CommandError
from gleaner.cli.output import AsJson, duration, local, print_json, print_line, print_table
from gleaner.client import Client
from gleaner.webhook_endpoints import WebhookEndpoint
from gleaner.webhook_listener import Listener
from gleaner.webhooks import new_secret

EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="An endpoint's id.")]
Events = Annotated[list[str] | None, typer.Option("--event", help="Only this event; repeat for more.")]

app = typer.Typer(no_args_is_help=True, help="Be told when jobs end.")
endpoints = typer.Typer(no_args_is_help=True, help="List, create, delete, test endpoints; rotate their secrets.")
app.add_typer(endpoints, name="endpoints")


@app.command()
@with_gateway
def listen(
    gateway: Gateway,
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
) -> None:
    """Print events as they come, each verified, one JSON object a line, until Ctrl-C.

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
            client = stack.enter_context(gateway.client())
            stack.enter_context(_registered(client, public_url or listener.url, listener.secret, event))
        console.print(f"listening at {listener.url}; Ctrl-C ends", highlight=False)
        seen = 0
        while count is None or seen < count:
            found = listener.next(0.5)
            if found is not None:
                print_json(found)
                seen += 1


@contextlib.contextmanager
def _registered(client: Client, url: str, secret: str, events: list[str] | None) -> Iterator[None]:
    endpoint = client.webhooks.create(url, events=events, secret=secret, description="gleaner webhooks listen")
    try:
        yield
    finally:
        client.webhooks.delete(endpoint.id)


@app.command()
@with_gateway
def deliveries(
    gateway: Gateway,
    endpoint: EndpointId,
    status: Annotated[str | None, typer.Option(help="Only pending, delivered or failed ones.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what was and is to be sent to an endpoint in the last seven days, newest first."""
    with gateway.client() as client:
        found = list(client.webhooks.deliveries(endpoint, status=status, limit=limit))
    if as_json:
        for each in found:
            print_json(each)
        return
    print_table(
        ("delivery", "event", "job", "status", "attempts", "last answer", "next"),
        (
            (
                each.id,
                each.event,
                each.job_id,
                each.status,
                str(len(each.attempts)),
                "" if not each.attempts else str(each.attempts[-1].status or each.attempts[-1].error),
                local(each.next_attempt_at),
            )
            for each in found
        ),
    )


@app.command()
@with_gateway
def redeliver(
    gateway: Gateway,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="A delivery's id, its `webhook-id`.")],
    as_json: AsJson = False,
) -> None:
    """Send an event again, whatever became of it, under the same id."""
    with gateway.client() as client:
        found = client.webhooks.redeliver(delivery)
    if as_json:
        print_json(found)
    else:
        print_line(f"{found.id} ({found.event} of {found.job_id}) is {found.status}")


@app.command()
@with_gateway
def recover(
    gateway: Gateway,
    endpoint: EndpointId,
    since: Annotated[str, typer.Option(help="How far back, as 6h or 2d.")] = "24h",
    as_json: AsJson = False,
) -> None:
    """Send again whatever failed in the last hours."""
    with gateway.client() as client:
        count = client.webhooks.recover(endpoint, datetime.now(UTC) - duration(since))
    if as_json:
        print_json({"endpoint_id": endpoint, "recovered": count})
    else:
        print_line(f"{count} events are sent again")


@endpoints.command("list")
@with_gateway
def list_(gateway: Gateway, as_json: AsJson = False) -> None:
    """List registered endpoints, oldest first."""
    with gateway.client() as client:
        found = client.webhooks.list()
    if as_json:
        for each in found:
            print_json(_without_secret(each))
        return
    print_table(
        ("endpoint", "url", "events", "status", "failures", "description"),
        (
            (
                each.id,
                each.url,
                "all" if each.events is None else ", ".join(each.events),
                _status(each),
                str(each.failures_in_a_row),
                each.description,
            )
            for each in found
        ),
    )


@endpoints.command()
@with_gateway
def create(
    gateway: Gateway,
    receiver: Annotated[str, typer.Argument(metavar="RECEIVER", help="A public https URL.")],
    event: Events = None,
    description: Annotated[str, typer.Option(help="Words to know it by.")] = "",
    named_only: Annotated[
        bool, typer.Option("--named-only", help="Hear only of jobs that name the endpoint, not of all.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Register an endpoint. Its secret is shown this once."""
    with gateway.client() as client:
        made = client.webhooks.create(receiver, events=event, description=description, all_jobs=not named_only)
    if as_json:
        print_json(made)
        return
    print_line(f"{made.id} hears of {'all events' if made.events is None else ', '.join(made.events)}")
    print_line(f"secret, shown this once: {made.secret}")


@endpoints.command()
@with_gateway
def delete(gateway: Gateway, endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Forget an endpoint and what was still to be delivered to it."""
    with gateway.client() as client:
        client.webhooks.delete(endpoint)
    if as_json:
        print_json({"id": endpoint, "deleted": True})
    else:
        print_line(f"{endpoint} is gone")


@endpoints.command()
@with_gateway
def enable(gateway: Gateway, endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Bring a disabled endpoint back; what waited for it is sent."""
    with gateway.client() as client:
        _show_status(client.webhooks.enable(endpoint), as_json)


@endpoints.command()
@with_gateway
def disable(gateway: Gateway, endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Send an endpoint nothing until it is enabled again."""
    with gateway.client() as client:
        _show_status(client.webhooks.disable(endpoint), as_json)


@endpoints.command("test")
@with_gateway
def try_out(gateway: Gateway, endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Have a signed test sent now, and show what the receiver said; exit code 1 if it did not take it."""
    with gateway.client() as client:
        answer = client.webhooks.test(endpoint)
    if as_json:
        print_json(answer)
    else:
        said = f"status {answer['status']}" if answer["status"] else f"no answer ({answer['error']})"
        print_line(f"{'delivered' if answer['delivered'] else 'failed'}: {said} after {answer['latency_ms']} ms")
        if answer["body"]:
            print_line("\n".join(f"  {line}" for line in str(answer["body"]).splitlines()))
    if not answer["delivered"]:
        raise typer.Exit(DOCUMENTS_FAILED)


@endpoints.command()
@with_gateway
def rotate(gateway: Gateway, endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Change an endpoint's secret: the new one is shown this once, the old one signs along for 24 hours."""
    with gateway.client() as client:
        secret = client.webhooks.rotate(endpoint)
    if as_json:
        print_json({"id": endpoint, "secret": secret})
    else:
        print_line(secret)


def _show_status(endpoint: WebhookEndpoint, as_json: bool) -> None:
    if as_json:
        print_json(_without_secret(endpoint))
    else:
        print_line(f"{endpoint.id} is {_status(endpoint)}")


def _status(endpoint: WebhookEndpoint) -> str:
    return endpoint.status if endpoint.disabled_reason is None else f"{endpoint.status}: {endpoint.disabled_reason}"


def _without_secret(endpoint: WebhookEndpoint) -> dict[str, object]:
    return {name: value for name, value in asdict(endpoint).items() if name != "secret"}
