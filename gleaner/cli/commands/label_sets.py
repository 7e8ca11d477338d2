"""`gleaner label-sets`: labels that are stored once and named by jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from gleaner.cli.connection import Gateway, with_gateway
from gleaner.cli.exit_codes import CommandError
from gleaner.cli.label_options import Label, LabelsFile, parse_reference, read_labels
from gleaner.cli.printing import AsJson, format_time, print_items, print_json, print_result

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the label set.")]

app = typer.Typer(no_args_is_help=True, help="Store labels once, in versions, and name them in jobs.")


@app.command("put")
@with_gateway
def put_label_set(
    gateway: Gateway, name: Name, label: Label = None, labels_file: LabelsFile = None, as_json: AsJson = False
) -> None:
    """Store labels: as a new version, unless the latest version has the same ones."""
    labels = read_labels(label, labels_file)
    if labels is None:
        raise CommandError("there are no labels to store; write them with -l or --labels-file")
    with gateway.open_client() as client:
        label_set = client.label_sets.put(name, labels)
    print_result(label_set, f"{label_set.reference} has {label_set.size} labels", as_json)


@app.command("get")
@with_gateway
def get_label_set(
    gateway: Gateway,
    label_set: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="[default version: the latest]")],
    as_json: AsJson = False,
) -> None:
    """Print the labels with their descriptions as a JSON object, as --labels-file reads it; with --json more."""
    name, version = parse_reference(label_set)
    with gateway.open_client() as client:
        stored = client.label_sets.get(name, version)
    print_json(stored if as_json else stored.labels)


@app.command("list")
@with_gateway
def list_label_sets(gateway: Gateway, as_json: AsJson = False) -> None:
    """List label sets by name, with their latest version."""
    with gateway.open_client() as client:
        label_sets = client.label_sets.list()
    columns = {
        "label set": lambda label_set: label_set.name,
        "version": lambda label_set: label_set.version,
        "stored since": lambda label_set: label_set.versions[0],
        "labels": lambda label_set: label_set.size,
        "changed": lambda label_set: format_time(label_set.created_at),
    }
    print_items(label_sets, columns, as_json)


@app.command("delete")
@with_gateway
def delete_label_set(gateway: Gateway, name: Name, as_json: AsJson = False) -> None:
    """Delete a label set with all of its versions; jobs keep their labels."""
    with gateway.open_client() as client:
        client.label_sets.delete(name)
    print_result({"name": name, "deleted": True}, f"{name} is deleted", as_json)
