"""`gleaner webhooks`: receive events on this machine, manage endpoints, show deliveries."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.exit_codes import DOCUMENTS_FAILED, CommandError
from gleaner.cli.printing import AsJson, format_time, parse_duration, print_items, print_json, print_result
from gleaner.webhook_endpoints import WebhookEndpoint
from gleaner.webhook_listener import Listener
from gleaner.webhooks import new_secret

EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Id of the endpoint.")]
Events = Annotated[list[str] | None, typer.Option("--event", help="Only this type of event; may be repeated.")]

app = typer.Typer(no_args_is_help=True, help="Receive webhooks when jobs end, and manage endpoints.")
endpoints = typer.Typer(no_args_is_help=True, help="List, create, delete, test endpoints; rotate their secrets.")
app.add_typer(endpoints, name="endpoints")


@app.command("listen")
@with_gateway
def listen_for_events(
    gateway: Gateway,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 for a free one.")] = 0,
    public_url: Annotated[
        str | None,
        typer.Option(help="URL for the gateway to call, such as a tunnel's. [default: this machine's port]"),
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(help="Only receive webhooks signed with this secret. [default: register an endpoint]"),
    ] = None,
    event: Events = None,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this number of events.")] = None,
) -> None:
    """Print verified events as they arrive, one JSON object per line, until Ctrl-C.

    An endpoint is registered while the command runs. The gateway must be allowed to call this machine: a local
    stack is; for other gateways, use a tunnel and --public-url.
    """
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(Listener(secret or new_secret(), port))
        except OSError as failure:
            raise CommandError(f"port {port} cannot be used ({failure.strerror}); choose another") from failure
        if secret is None:
            client = stack.enter_context(gateway.open_client())
            endpoint = client.webhooks.create(
                public_url or listener.url,
                events=event,
                secret=listener.secret,
                description="gleaner webhooks listen",
            )
            stack.callback(client.webhooks.delete, endpoint.id)
        console.print(f"listening at {listener.url}; press Ctrl-C to stop", highlight=False)
        received = 0
        while count is None or received < count:
            next_event = listener.next(0.5)
            if next_event is not None:
                print_json(next_event)
                received += 1


@app.command("deliveries")
@with_gateway
def list_deliveries(
    gateway: Gateway,
    endpoint: EndpointId,
    status: Annotated[str | None, typer.Option(help="Only pending, delivered or failed deliveries.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of deliveries, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List an endpoint's deliveries of the last seven days, pending ones included, newest first."""
    with gateway.open_client() as client:
        deliveries = list(client.webhooks.deliveries(endpoint, status=status, limit=limit))
    columns = {
        "delivery": lambda delivery: delivery.id,
        "event": lambda delivery: delivery.event,
        "job": lambda delivery: delivery.job_id,
        "status": lambda delivery: delivery.status,
        "attempts": lambda delivery: len(delivery.attempts),
        "last answer": lambda delivery: (
            delivery.attempts[-1].status or delivery.attempts[-1].error if delivery.attempts else None
        ),
        "next": lambda delivery: format_time(delivery.next_attempt_at),
    }
    print_items(deliveries, columns, as_json)


@app.command("redeliver")
@with_gateway
def redeliver_event(
    gateway: Gateway,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="Id of the delivery, its `webhook-id`.")],
    as_json: AsJson = False,
) -> None:
    """Send an event again under the same id, whether it was delivered or not."""
    with gateway.open_client() as client:
        repeated = client.webhooks.redeliver(delivery)
    text = f"{repeated.id} ({repeated.event} of {repeated.job_id}) is {repeated.status}"
    print_result(repeated, text, as_json)


@app.command("recover")
@with_gateway
def recover_deliveries(
    gateway: Gateway,
    endpoint: EndpointId,
    since: Annotated[str, typer.Option(help="How far back, as 6h or 2d.")] = "24h",
    as_json: AsJson = False,
) -> None:
    """Send all events again whose delivery failed recently."""
    with gateway.open_client() as client:
        count = client.webhooks.recover(endpoint, datetime.now(UTC) - parse_duration(since))
    print_result({"endpoint_id": endpoint, "recovered": count}, f"sending {count} events again", as_json)


@endpoints.command("list")
@with_gateway
def list_endpoints(gateway: Gateway, as_json: AsJson = False) -> None:
    """List registered endpoints, oldest first."""
    with gateway.open_client() as client:
        registered = client.webhooks.list()
    columns = {
        "endpoint": lambda endpoint: endpoint.id,
        "url": lambda endpoint: endpoint.url,
        "events": lambda endpoint: "all" if endpoint.events is None else ", ".join(endpoint.events),
        "status": _describe_status,
        "failures": lambda endpoint: endpoint.failures_in_a_row,
        "description": lambda endpoint: endpoint.description,
    }
    print_items(map(_without_secret, registered) if as_json else registered, columns, as_json)


@endpoints.command("create")
@with_gateway
def create_endpoint(
    gateway: Gateway,
    receiver: Annotated[str, typer.Argument(metavar="RECEIVER", help="A public https URL.")],
    event: Events = None,
    description: Annotated[str, typer.Option(help="Description, for your information.")] = "",
    named_only: Annotated[
        bool, typer.Option("--named-only", help="Send only events of jobs that name the endpoint, not of all jobs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Register an endpoint. Its secret is shown only now."""
    with gateway.open_client() as client:
        endpoint = client.webhooks.create(receiver, events=event, description=description, all_jobs=not named_only)
    events = "all events" if endpoint.events is None else ", ".join(endpoint.events)
    text = f"{endpoint.id} receives {events}\nsecret, shown only now: {endpoint.secret}"
    print_result(endpoint, text, as_json)


@endpoints.command("delete")
@with_gateway
def delete_endpoint(gateway: Gateway, endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Delete an endpoint and its pending deliveries."""
    with gateway.open_client() as client:
        client.webhooks.delete(endpoint)
    print_result({"id": endpoint, "deleted": True}, f"{endpoint} is deleted", as_json)


@endpoints.command("enable")
@with_gateway
def enable_endpoint(gateway: Gateway, endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Enable a disabled endpoint; deliveries that were waiting for it are sent."""
    with gateway.open_client() as client:
        _show_status(client.webhooks.enable(endpoint), as_json)


@endpoints.command("disable")
@with_gateway
def disable_endpoint(gateway: Gateway, endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Stop sending events to an endpoint until it is enabled again."""
    with gateway.open_client() as client:
        _show_status(client.webhooks.disable(endpoint), as_json)


@endpoints.command("test")
@with_gateway
def send_test_event(gateway: Gateway, endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Send a signed test event now, and show the receiver's response; exit code 1 if it was not delivered."""
    with gateway.open_client() as client:
        answer = client.webhooks.test(endpoint)
    outcome = f"status {answer['status']}" if answer["status"] else f"no response ({answer['error']})"
    verdict = f"{'delivered' if answer['delivered'] else 'failed'}: {outcome} after {answer['latency_ms']} ms"
    body = (f"  {line}" for line in str(answer["body"] or "").splitlines())
    print_result(answer, "\n".join([verdict, *body]), as_json)
    if not answer["delivered"]:
        raise typer.Exit(DOCUMENTS_FAILED)


@endpoints.command("rotate")
@with_gateway
def rotate_secret(gateway: Gateway, endpoint: EndpointId, as_json: AsJson = False) -> None:
    """Change an endpoint's secret: the new one is shown only now; events carry both signatures for 24 hours."""
    with gateway.open_client() as client:
        secret = client.webhooks.rotate(endpoint)
    print_result({"id": endpoint, "secret": secret}, secret, as_json)


def _show_status(endpoint: WebhookEndpoint, as_json: bool) -> None:
    print_result(_without_secret(endpoint), f"{endpoint.id} is {_describe_status(endpoint)}", as_json)


def _describe_status(endpoint: WebhookEndpoint) -> str:
    return endpoint.status if endpoint.disabled_reason is None else f"{endpoint.status}: {endpoint.disabled_reason}"


def _without_secret(endpoint: WebhookEndpoint) -> dict[str, object]:
    return {name: value for name, value in asdict(endpoint).items() if name != "secret"}
