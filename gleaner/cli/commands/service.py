"""`gleaner models` and `limits`: the gateway's models and your limits."""

from __future__ import annotations

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.printing import AsJson, print_items, print_json, print_table


@with_gateway
def list_models(gateway: Gateway, as_json: AsJson = False) -> None:
    """List the models that jobs may name."""
    with gateway.open_client() as client:
        served = client.models()
    columns = {
        "model": lambda model: model.name,
        "workers": lambda model: model.workers,
        "revision": lambda model: model.revision,
        "threshold": lambda model: None if model.default_threshold is None else f"{model.default_threshold:g}",
        "words at once": lambda model: model.limits.get("words_per_window"),
        "state": lambda model: "ready" if model.available else model.reason or "no worker now; jobs wait for one",
    }
    print_items(served, columns, as_json)


@with_gateway
def show_limits(gateway: Gateway, as_json: AsJson = False) -> None:
    """Show the limits of your key and tenant, the remaining quota, and the maximum sizes of a request."""
    with gateway.open_client() as client:
        current = client.limits()
    if as_json:
        print_json(current)
        return
    print_table(
        ("limit", "remaining", "of", "window", "resets in"),
        (
            (rate.name, rate.remaining, rate.limit, f"{rate.window_s} s", f"{rate.resets_in_s} s")
            for rate in current.rates
        ),
    )
    for title, values in (("open now", current.open), ("one request", current.request)):
        print_table((title, ""), ((name, "no limit" if most is None else most) for name, most in values.items()))
