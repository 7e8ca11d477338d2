"""Gold, texts with the entities that are right in them -> what a gateway finds there, next to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gleaner.cli.files.inputs import Faults
from gleaner.cli.files.json_rows import parse_json
from gleaner.cli.files.lines import Lines
from gleaner.cli.files.opening import open_text
from gleaner.cli.files.readers import expand
from gleaner.cli.files.rows import Fault, InputError, encoding_fault, undecoded
from gleaner.client import Client
from gleaner.client.calls import Document, Labels, SubmitOptions
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
    """Return gold files' lines: `{"text", "entities": [{"start", "end", "label"}], "labels"?}`, in code points.

    Raises:
        InputError: files are missing, or lines are something else; says which and what, of all of them.
    """
    gold: list[Gold] = []
    faults = Faults()
    for path in files:
        for file in expand(path) or (path,):
            for item in _read(file):
                faults.add(item) if isinstance(item, Fault) else gold.append(item)
    if faults.count:
        raise InputError("\n  ".join(faults.lines()))
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


def judge(
    client: Client, gold: Sequence[Gold], labels: Labels, options: SubmitOptions
) -> tuple[list[Judged], Counter[str]]:
    """Return what the gateway finds in each text with what is right, and why texts failed, which found nothing.

    Only these labels are judged; a text with labels of its own is asked for all of its own, as it was once read.
    """
    judged: list[Judged] = []
    failed: Counter[str] = Counter()
    asked = labels if any(one.labels is None for one in gold) else None
    for one, result in zip(gold, client.map(map(_document, gold), asked, **options), strict=True):
        found = {Span(e.start, e.end, e.label): e.score for e in result.entities if e.label in labels}
        judged.append(Judged(frozenset(span for span in one.entities if span.label in labels), found))
        if not result.ok:
            failed[result.error.code if result.error else result.status] += 1
    return judged, failed


def _document(one: Gold) -> Document:
    return {"text": one.text} if one.labels is None else {"text": one.text, "labels": list(one.labels)}


def _read(file: Path) -> Iterator[Gold | Fault]:
    try:
        with open_text(file, None) as opened:
            lines = Lines(opened.stream, str(file))
            while True:
                lines.begin()
                line = lines.read()
                if not line:
                    return
                if not line.isspace():
                    where = f"{file}, line {lines.number}"
                    try:
                        if byte := undecoded(line):
                            raise InputError(f"{where}: {encoding_fault(byte, None)}")
                        yield _gold(line, where)
                    except InputError as failure:
                        yield Fault(where, str(failure).removeprefix(f"{where}: "), where)
    except OSError as failure:
        yield Fault(str(file), failure.strerror or str(failure), str(file))
    except InputError as failure:
        yield Fault(str(file), str(failure), str(file))


def _gold(line: str, where: str) -> Gold:
    try:
        row: Any = parse_json(line)
        text, labels = row["text"], row.get("labels")
        spans = [Span(each["start"], each["end"], each["label"]) for each in row["entities"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(
            f'{where}: not gold; write {{"text": …, "entities": [{{"start": 0, "end": 3, "label": "person"}}]}}'
        ) from None
    names = [] if labels is None else labels
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not isinstance(text, str) or not named or not all(isinstance(span.label, str) for span in spans):
        raise InputError(f"{where}: text and labels must be strings")
    for span in spans:
        if not (type(span.start) is int and type(span.end) is int and 0 <= span.start < span.end <= len(text)):
            raise InputError(f"{where}: an entity from {span.start} to {span.end} is not within the text")
    if labels is not None and (stray := {span.label for span in spans} - set(labels)):
        raise InputError(f"{where}: entities of {', '.join(sorted(stray))}, which is none of its labels")
    return Gold(text, frozenset(spans), None if labels is None else tuple(labels))
