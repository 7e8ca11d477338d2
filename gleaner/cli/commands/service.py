"""`gleaner models`, `limits`: what the gateway offers, and how much of it."""

from __future__ import annotations

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.output import AsJson, print_json, print_table


@with_gateway
def models(gateway: Gateway, as_json: AsJson = False) -> None:
    """List the models that jobs may name."""
    with gateway.client() as client:
        found = client.models()
    if as_json:
        for model in found:
            print_json(model)
        return
    states = ("ready" if each.available else each.reason or "no worker now; jobs wait for one" for each in found)
    print_table(
        ("model", "workers", "revision", "threshold", "words at once", "state"),
        (
            (
                model.name,
                str(model.workers),
                model.revision or "",
                "" if model.default_threshold is None else f"{model.default_threshold:g}",
                str(model.limits.get("words_per_window", "")),
                state,
            )
            for model, state in zip(found, states, strict=True)
        ),
    )


@with_gateway
def limits(gateway: Gateway, as_json: AsJson = False) -> None:
    """Show what your key and tenant may do, what is left of it now, and what one request may hold."""
    with gateway.client() as client:
        found = client.limits()
    if as_json:
        print_json(found)
        return
    print_table(
        ("limit", "left", "of", "a window of", "whole again in"),
        (
            (rate.name, str(rate.remaining), str(rate.limit), f"{rate.window_s} s", f"{rate.resets_in_s} s")
            for rate in found.rates
        ),
    )
    for title, values in (("open now", found.open), ("one request", found.request)):
        print_table(
            (title, ""), ((name, "no limit" if most is None else str(most)) for name, most in values.items())
        )
