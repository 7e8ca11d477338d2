"""F1 of each runtime and precision on human-annotated texts, which stay outside this repository.

`GLEANER_DATA` names their folder (../shared/data if not set): ner/dev.jsonl, an example a line, with
`tokenized_text`, `ner` as [first word, last word, label], and `space`, the labels that were annotated.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants import EngineAlone, Spans
from benchmarks.texts import Mix
from worker.app import load_engine
from worker.model.selection.select import allowed_candidates
from worker.model.sources.resolve import ModelError
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
POINTS = 0.5
"""F1 points (of 100) that a faster way may differ from fp32."""


def examples(count: int | None = None) -> tuple[Mix, list[Spans]] | None:
    """Texts with their labels, and what people found in them; None where the data is not there.

    Args:
        count: take so many, evenly spread; None takes all.
    """
    file = Path(os.environ.get("GLEANER_DATA", ROOT.parent / "shared" / "data")) / "ner" / "dev.jsonl"
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    step = max(1, len(lines) // count) if count else 1
    read = [_example(json.loads(line)) for line in lines[::step]]
    read = [one for one in read if one[1]]
    return Mix(tuple(one[0] for one in read), tuple(one[1] for one in read)), [one[2] for one in read]


def _example(line: dict[str, Any]) -> tuple[str, tuple[str, ...], Spans]:
    words: list[str] = line["tokenized_text"]
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    found = frozenset((starts[first], starts[last] + len(words[last]), label) for first, last, label in line["ner"])
    return " ".join(words), tuple(line["space"]), found


def f1(found: Sequence[Spans], right: Sequence[Spans]) -> float:
    """Strict micro F1 in points of 100: start, end and label must be the same."""
    hits = sum(len(a & b) for a, b in zip(found, right, strict=True))
    total = sum(map(len, found)) + sum(map(len, right))
    return 200 * hits / total if total else 100.0


def measure(mix: Mix, right: Sequence[Spans]) -> dict[str, float]:
    """F1 by runtime and precision, torch in fp32 first; what the worker's own calibration refuses is left out."""
    scores = {}
    for way in allowed_candidates("cpu", "auto", "auto"):
        asked = {"runtime": way.runtime, "precision": way.precision, "device": "cpu"}
        try:
            engine = load_engine(WorkerSettings.model_validate(asked))
        except ModelError as error:
            print(f"{way.runtime} {way.precision}: {error}")
            continue
        found = EngineAlone(engine, engine.warm_up()).run(mix).spans
        scores[f"{way.runtime} {way.precision}"] = f1(found, right)
    return scores
