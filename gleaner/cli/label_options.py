"""What a command asks of the model: --label and --labels-file -> labels, --threshold -> one or one a label."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gleaner.cli.exit_codes import CommandError
from gleaner.client.calls import Labels

Label = Annotated[list[str] | None, typer.Option("--label", "-l", help="What to look for; repeat it for more.")]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        help="More labels: one per line, `label` or `label: description` (# begins a comment); or JSON, a list or "
        "an object of label to description, in a file called .json."
    ),
]
Threshold = Annotated[
    list[str] | None,
    typer.Option(
        help="Score from which an entity counts, as 0.6, or for one label, as person=0.6; repeat it. "
        "[default: the model's]"
    ),
]

Model = Annotated[str | None, typer.Option(help="One of `gleaner models`.")]
Nested = Annotated[bool, typer.Option("--nested", help="Allow entities inside entities.")]
MergeAdjacent = Annotated[
    bool | None,
    typer.Option(
        "--merge-adjacent/--no-merge-adjacent",
        help="Make one entity of those of a label that only blanks separate. [default: as the model needs]",
    ),
]
MultiLabel = Annotated[bool, typer.Option("--multi-label", help="Allow several labels for one span.")]


def read_labels(given: Sequence[str] | None, file: Path | None) -> Labels | None:
    """Labels of both kinds, in order, each once; None where there are none: JSON lines may bring their own.

    Raises:
        CommandError: the file cannot be read, or holds something else.
    """
    for label in given or ():
        _require_one(label, "-l")
    found: dict[str, str | None] = dict.fromkeys(given or ())
    if file is not None:
        try:
            content = file.read_text(encoding="utf-8-sig")
            found.update(_from_json(content) if file.suffix.lower() == ".json" else _from_lines(content))
        except OSError as failure:
            raise CommandError(f"{file}: {failure.strerror or failure}") from None
        except UnicodeDecodeError as failure:
            raise CommandError(f"{file}: not UTF-8 (byte 0x{failure.object[failure.start]:02x})") from None
        except ValueError as failure:
            raise CommandError(f"{file}: {failure}; write one label per line, or a JSON list or object") from None
        if not found:
            raise CommandError(f"{file}: no label in it")
    if any(found.values()):
        return found
    return list(found) or None


def read_threshold(given: Sequence[str] | None, labels: Labels | None) -> float | Mapping[str, float] | None:
    """One score for all, or label by label, those that are not named getting the one for all.

    Raises:
        CommandError: one is not a score from 0 to 1, or names a label that is not looked for.
    """
    common: float | None = None
    special: dict[str, float] = {}
    for each in given or ():
        label, named, score = each.rpartition("=")
        if named:
            special[label] = _score(score, each)
        else:
            common = _score(score, each)
    if not special:
        return common
    if labels is not None and (strange := special.keys() - set(labels)):
        raise CommandError(f"--threshold names {', '.join(sorted(strange))}, which is none of the labels")
    if common is not None:
        if labels is None:
            raise CommandError("a threshold for all beside thresholds of labels needs the labels named by -l")
        special = {**dict.fromkeys(labels, common), **special}
    return special


def _score(text: str, given: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0.0 <= score <= 1.0:
        raise CommandError(f"--threshold {given}: not a score from 0 to 1; write 0.6 or person=0.6")
    return score


def _require_one(label: str, where: str) -> None:
    """Raise where several labels were written as one; a comma in a description is well.

    Raises:
        CommandError: they were; says how to write them.
    """
    name = label.partition(": ")[0]
    parts = [part.strip() for part in name.split(",")]
    if len(parts) > 1:
        one_by_one = " ".join(f"-l {shlex.quote(part)}" for part in parts if part)
        raise CommandError(
            f"{where}: {label!r} would be one label; write {one_by_one}, or one per line in --labels-file; a label "
            "that has a comma goes into a --labels-file of JSON"
        )


def _from_lines(content: str) -> dict[str, str | None]:
    labels: dict[str, str | None] = {}
    for number, line in enumerate(re.split(r"\r\n|\r|\n", content), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            label, _, description = line.partition(": ")
            _require_one(line.strip(), f"line {number}")
            _add(labels, label.strip(), description.strip() or None, f"line {number}: ")
    return labels


def _from_json(content: str) -> dict[str, str | None]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        labels: dict[str, Any] = {}
        for label, description in items:
            _add(labels, label, description, "")
        return labels

    try:
        value: Any = json.loads(content, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(value, list) and all(isinstance(label, str) for label in value):
        return dict.fromkeys(value)
    if isinstance(value, dict) and all(each is None or isinstance(each, str) for each in value.values()):
        return value
    raise ValueError("neither labels nor labels with descriptions")


def _add(labels: dict[str, Any], label: str, description: Any, where: str) -> None:
    """Add a label.

    Raises:
        ValueError: it is there with another description.
    """
    if label in labels and labels[label] != description:
        raise ValueError(f"{where}the label {label!r} is there twice, with different descriptions")
    labels[label] = description
