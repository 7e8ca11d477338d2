"""Read gold data (texts with their correct entities), and have a gateway predict entities in the same texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gleaner.cli.files.inputs import Faults
from gleaner.cli.files.json_rows import parse_json
from gleaner.cli.files.lines import read_lines
from gleaner.cli.files.readers import expand_pattern
from gleaner.cli.files.rows import Fault, InputError
from gleaner.client import Client
from gleaner.client.calls import Document, Labels, SubmitOptions
from gleaner.evaluation import Judged, Span


@dataclass(frozen=True, slots=True)
class GoldText:
    """A text with its correct entities.

    Attributes:
        labels: the labels that this text was annotated with; None for all labels of the files.
    """

    text: str
    entities: frozenset[Span]
    labels: tuple[str, ...] | None = None


def read_gold(files: Sequence[Path]) -> list[GoldText]:
    """Parse gold files, lines of `{"text", "entities": [{"start", "end", "label"}], "labels"?}`, in code points.

    Raises:
        InputError: files are missing or lines are invalid; the message lists all of them.
    """
    gold: list[GoldText] = []
    faults = Faults()
    for path in files:
        for file in expand_pattern(path) or (path,):
            for item in _read_file(file):
                faults.add(item) if isinstance(item, Fault) else gold.append(item)
    if faults.count:
        raise InputError("\n  ".join(faults.describe()))
    if not any(text.entities for text in gold):
        raise InputError("the files contain no entity to compare with; add `entities`")
    return gold


def all_labels(gold: Sequence[GoldText]) -> list[str]:
    """Return every label, in the order of first occurrence."""
    labels: dict[str, None] = {}
    for text in gold:
        labels.update(dict.fromkeys(text.labels or ()))
        labels.update(dict.fromkeys(sorted({span.label for span in text.entities})))
    return list(labels)


def judge_documents(
    client: Client, gold: Sequence[GoldText], labels: Labels, options: SubmitOptions
) -> tuple[list[Judged], Counter[str]]:
    """Return the predicted and correct entities of each text, and the number of failed texts by error code.

    Only entities of these labels are compared. A text that defines labels is sent with all of them.
    """
    judged: list[Judged] = []
    failed: Counter[str] = Counter()
    common_labels = labels if any(text.labels is None for text in gold) else None
    documents: list[Document] = [
        {"text": text.text} if text.labels is None else {"text": text.text, "labels": list(text.labels)}
        for text in gold
    ]
    for text, result in zip(gold, client.map(documents, common_labels, **options), strict=True):
        predicted = {Span(e.start, e.end, e.label): e.score for e in result.entities if e.label in labels}
        judged.append(Judged(frozenset(span for span in text.entities if span.label in labels), predicted))
        if not result.ok:
            failed[result.error.code if result.error else result.status] += 1
    return judged, failed


def _read_file(file: Path) -> Iterator[GoldText | Fault]:
    try:
        for line in read_lines(file, None, str(file)):
            if isinstance(line, Fault):
                yield line
                continue
            try:
                yield _parse_gold(line.text)
            except InputError as failure:
                yield Fault(line.where, str(failure), line.where)
    except OSError as failure:
        yield Fault(str(file), failure.strerror or str(failure), str(file))
    except InputError as failure:
        yield Fault(str(file), str(failure), str(file))


def _parse_gold(line: str) -> GoldText:
    try:
        row: Any = parse_json(line)
        text, labels = row["text"], row.get("labels")
        spans = [Span(item["start"], item["end"], item["label"]) for item in row["entities"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            'not gold; write {"text": …, "entities": [{"start": 0, "end": 3, "label": "person"}]}'
        ) from None
    names = [] if labels is None else labels
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not isinstance(text, str) or not named or not all(isinstance(span.label, str) for span in spans):
        raise InputError("text and labels must be strings")
    for span in spans:
        if not (type(span.start) is int and type(span.end) is int and 0 <= span.start < span.end <= len(text)):
            raise InputError(f"an entity from {span.start} to {span.end} is not within the text")
    if labels is not None and (extra := {span.label for span in spans} - set(labels)):
        raise InputError(f"entities with labels that are not in its `labels`: {', '.join(sorted(extra))}")
    return GoldText(text, frozenset(spans), None if labels is None else tuple(labels))
