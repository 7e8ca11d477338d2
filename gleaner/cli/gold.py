"""Gold: texts with the entities that are right in them -> what a gateway finds there, beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gleaner._calls import Document, Labels, SubmitOptions
from gleaner.cli.readers import InputError
from gleaner.client import Client
from gleaner.evaluation import Judged, Span


@dataclass(frozen=True, slots=True)
class Gold:
    """A text with its entities.

    Attributes:
        labels: what was looked for in this text; None for all labels of the files.
    """

    text: str
    entities: frozenset[Span]
    labels: tuple[str, ...] | None = None


def read_gold(files: Sequence[Path]) -> list[Gold]:
    """The lines of gold files: `{"text", "entities": [{"start", "end", "label"}], "labels"?}`, in code points.

    Raises:
        InputError: a file is missing, or a line is something else; says which and what.
    """
    gold = [one for file in files for one in _read(file)]
    if not any(one.entities for one in gold):
        raise InputError("no gold: there is no entity in the files")
    return gold


def all_labels(gold: Sequence[Gold]) -> list[str]:
    """Every label, in the order of their first lines."""
    found: dict[str, None] = {}
    for one in gold:
        found.update(dict.fromkeys(one.labels or ()))
        found.update(dict.fromkeys(sorted({span.label for span in one.entities})))
    return list(found)


def judge(client: Client, gold: Sequence[Gold], labels: Labels, options: SubmitOptions) -> tuple[list[Judged], int]:
    """What the gateway finds in each text beside what is right; and how many texts failed, which found nothing.

    Only these labels are judged; a text with labels of its own is asked for all of its own, as it was once read.
    """
    judged: list[Judged] = []
    failed = 0
    asked = labels if any(one.labels is None for one in gold) else None
    for one, result in zip(gold, client.map(map(_document, gold), asked, **options), strict=True):
        found = {Span(e.start, e.end, e.label): e.score for e in result.entities if e.label in labels}
        judged.append(Judged(frozenset(span for span in one.entities if span.label in labels), found))
        failed += not result.ok
    return judged, failed


def _document(one: Gold) -> Document:
    return {"text": one.text} if one.labels is None else {"text": one.text, "labels": list(one.labels)}


def _read(file: Path) -> Iterator[Gold]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _gold(line, f"{file}, line {number}")
    except OSError as failure:
        raise InputError(f"{file}: {failure.strerror or failure}") from None
    except UnicodeDecodeError as failure:
        raise InputError(f"{file}: not UTF-8 (at byte {failure.start}); convert it first") from None


def _gold(line: str, where: str) -> Gold:
    try:
        row: Any = json.loads(line)
        text, labels = row["text"], row.get("labels")
        spans = [Span(each["start"], each["end"], each["label"]) for each in row["entities"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f'{where}: not gold; write {{"text": …, "entities": [{{"start": 0, "end": 3, "label": "person"}}]}}'
        ) from None
    if not isinstance(text, str) or not all(isinstance(span.label, str) for span in spans):
        raise InputError(f"{where}: text and labels must be strings")
    for span in spans:
        if not (
            isinstance(span.start, int) and isinstance(span.end, int) and 0 <= span.start < span.end <= len(text)
        ):
            raise InputError(f"{where}: an entity from {span.start} to {span.end} is not within the text")
    if labels is not None and (stray := {span.label for span in spans} - set(labels)):
        raise InputError(f"{where}: entities of {', '.join(sorted(stray))}, which is none of its labels")
    return Gold(text, frozenset(spans), None if labels is None else tuple(labels))
