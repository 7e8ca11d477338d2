"""Options for labels and thresholds: --label, --labels-file, --threshold and the model's switches."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from gleaner.cli.connection import Gateway
from gleaner.cli.exit_codes import CommandError
from gleaner.client.calls import Labels, SubmitOptions
from gleaner.label_sets import LabelSet

MergeAdjacent = Annotated[
    bool | None,
    typer.Option(
        "--merge-adjacent/--no-merge-adjacent",
        help="Merge entities of one label that only blanks separate. [default: as the model requires]",
    ),
]


Label = Annotated[list[str] | None, typer.Option("--label", "-l", help="A label to look for; may be repeated.")]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        help="More labels: one per line, `label` or `label: description` (# starts a comment); or a .json file "
        "with a list, or an object of label to description."
    ),
]


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """The labels to look for, and the model."""

    label: Label = None
    labels_file: LabelsFile = None
    model: Annotated[str | None, typer.Option(help="One of `gleaner models`.")] = None


@dataclass(frozen=True, slots=True)
class ThresholdOptions(LabelOptions):
    """Labels, or the label set that has them, with their thresholds."""

    label_set: Annotated[
        str | None,
        typer.Option(help="Instead of labels, one of `gleaner label-sets list`: NAME, or NAME@VERSION."),
    ] = None
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="Minimum score of an entity: 0.6, or person=0.6 for one label; may be repeated. "
            "[default: the model's]"
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class OverlapOptions:
    """Entities that may overlap."""

    nested: Annotated[bool, typer.Option("--nested", help="Allow entities inside entities.")] = False
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Allow several labels for one span.")] = False


def read_labels(options: Sequence[str] | None, file: Path | None) -> Labels | None:
    """Return the labels of -l and the file, in order, without duplicates; None if there are none.

    Raises:
        CommandError: the file cannot be read, or does not contain labels.
    """
    for label in options or ():
        _require_single_label(label, "-l")
    labels: dict[str, str | None] = dict.fromkeys(options or ())
    if file is not None:
        try:
            content = file.read_text(encoding="utf-8-sig")
            labels.update(_from_json(content) if file.suffix.lower() == ".json" else _from_lines(content))
        except OSError as failure:
            raise CommandError(f"{file}: {failure.strerror or failure}") from None
        except UnicodeDecodeError as failure:
            raise CommandError(f"{file}: not UTF-8 (byte 0x{failure.object[failure.start]:02x})") from None
        except ValueError as failure:
            raise CommandError(f"{file}: {failure}; write one label per line, or a JSON list or object") from None
        if not labels:
            raise CommandError(f"{file}: the file has no label; write one per line")
    if any(labels.values()):
        return labels
    return list(labels) or None


def find_label_set(gateway: Gateway, reference: str | None, labels: Labels | None) -> LabelSet | None:
    """Return the version of the label set that every job of a run names, or None without --label-set.

    Raises:
        CommandError: there are labels too, or NAME@VERSION is written in another way.
        GleanerError: the gateway has no such label set, or cannot be asked.
    """
    if reference is None:
        return None
    if labels is not None:
        raise CommandError("--label-set replaces -l and --labels-file; leave one of them out")
    name, version = parse_reference(reference)
    with gateway.open_client() as client:
        return client.label_sets.get(name, version)


def choose_labels(labels: Labels | None, label_set: LabelSet | None) -> Labels | None:
    """Return the labels that every text is searched for by default; None if texts bring their own."""
    return labels if label_set is None else label_set.labels


def parse_reference(text: str) -> tuple[str, int | None]:
    """Parse NAME or NAME@VERSION.

    Raises:
        CommandError: the version is not a number.
    """
    name, separator, version = text.partition("@")
    if separator and not re.fullmatch("[1-9][0-9]{0,8}", version):
        raise CommandError(f"{text!r} is not a label set; write NAME or NAME@VERSION, as drugs@3")
    return name, int(version) if separator else None


def read_threshold(options: Sequence[str] | None, labels: Labels | None) -> float | Mapping[str, float] | None:
    """Return one threshold, or one per label; labels without a threshold get the global one.

    Raises:
        CommandError: a value is not a score from 0 to 1, or names a label that is not looked for.
    """
    default: float | None = None
    by_label: dict[str, float] = {}
    for option in options or ():
        label, separator, score = option.rpartition("=")
        if separator:
            by_label[label] = parse_score(score, "--threshold", option, "person=0.6")
        else:
            default = parse_score(score, "--threshold", option, "person=0.6")
    if not by_label:
        return default
    if labels is not None and (unknown := by_label.keys() - set(labels)):
        raise CommandError(
            f"--threshold names labels that are not looked for: {', '.join(sorted(unknown))}; add -l"
        )
    if default is not None:
        if labels is None:
            raise CommandError(
                "combining a global --threshold with per-label thresholds requires the labels to be listed with -l"
            )
        by_label = {**dict.fromkeys(labels, default), **by_label}
    return by_label


def drop_unset(**options: Any) -> SubmitOptions:
    """Return the options that are not None."""
    return cast("SubmitOptions", {name: value for name, value in options.items() if value is not None})


def parse_score(text: str, option: str, value: str, example: str) -> float:
    """Parse a score from 0 to 1.

    Raises:
        CommandError: it is none; the message names the option, its whole value, and an example.
    """
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0.0 <= score <= 1.0:
        raise CommandError(f"{option} {value}: not a score from 0 to 1; write 0.6 or {example}")
    return score


def _require_single_label(label: str, where: str) -> None:
    """Raise if several labels were written as one; a comma in a description is allowed.

    Raises:
        CommandError: the label contains a comma; the message says how to write it.
    """
    name = label.partition(": ")[0]
    parts = [part.strip() for part in name.split(",")]
    if len(parts) > 1:
        separate = " ".join(f"-l {shlex.quote(part)}" for part in parts if part)
        raise CommandError(
            f"{where}: {label!r} would be one label; write {separate}, or one label per line in --labels-file; a "
            "label that contains a comma requires a JSON --labels-file"
        )


def _from_lines(content: str) -> dict[str, str | None]:
    labels: dict[str, str | None] = {}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", content), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            label, _, description = line.partition(": ")
            _require_single_label(line.strip(), f"line {number}")
            _add_label(labels, label.strip(), description.strip() or None, f"line {number}: ")
    return labels


def _from_json(content: str) -> dict[str, str | None]:
    def collect_labels(items: list[tuple[str, Any]]) -> dict[str, Any]:
        labels: dict[str, Any] = {}
        for label, description in items:
            _add_label(labels, label, description, "")
        return labels

    try:
        value: Any = json.loads(content, object_pairs_hook=collect_labels)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(value, list) and all(isinstance(label, str) for label in value):
        return dict.fromkeys(value)
    if isinstance(value, dict) and all(item is None or isinstance(item, str) for item in value.values()):
        return value
    raise ValueError("neither labels nor labels with descriptions")


def _add_label(labels: dict[str, Any], label: str, description: Any, where: str) -> None:
    """Add a label.

    Raises:
        ValueError: it was added before with another description.
    """
    if label in labels and labels[label] != description:
        raise ValueError(f"{where}the label {label!r} occurs twice, with different descriptions")
    labels[label] = description
