"""F1 of each runtime and precision on human-annotated texts, which are not in this repository.

`GLEANER_DATA` names their folder (default ../shared/data): ner/dev.jsonl with one example per line, with
`tokenized_text`, `ner` as [first word, last word, label], and `space`, the annotated labels.
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
from worker.model.errors import ModelError
from worker.model.selection.select import allowed_candidates
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
POINTS = 0.5
"""F1 points (of 100) by which a faster runtime or precision may differ from fp32."""


def load_examples(count: int | None = None) -> tuple[Mix, list[Spans]] | None:
    """Return texts with their labels, and the annotated spans; None where the data is missing.

    Args:
        count: number of examples, evenly spread; None takes all.
    """
    file = Path(os.environ.get("GLEANER_DATA", ROOT.parent / "shared" / "data")) / "ner" / "dev.jsonl"
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    step = max(1, len(lines) // count) if count else 1
    parsed = [_parse_example(json.loads(line)) for line in lines[::step]]
    labelled = [example for example in parsed if example[1]]
    mix = Mix(tuple(text for text, _, _ in labelled), tuple(labels for _, labels, _ in labelled))
    return mix, [spans for _, _, spans in labelled]


def _parse_example(line: dict[str, Any]) -> tuple[str, tuple[str, ...], Spans]:
    words: list[str] = line["tokenized_text"]
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    spans = frozenset((starts[first], starts[last] + len(words[last]), label) for first, last, label in line["ner"])
    return " ".join(words), tuple(line["space"]), spans


def micro_f1(predicted: Sequence[Spans], gold: Sequence[Spans]) -> float:
    """Return strict micro F1 in points of 100: start, end and label must be equal."""
    hits = sum(len(a & b) for a, b in zip(predicted, gold, strict=True))
    total = sum(map(len, predicted)) + sum(map(len, gold))
    return 200 * hits / total if total else 100.0


def measure_f1(mix: Mix, gold: Sequence[Spans]) -> dict[str, float]:
    """Return F1 by runtime and precision, torch in fp32 first; those that the worker refuses are left out."""
    scores = {}
    for candidate in allowed_candidates("cpu", "auto", "auto"):
        settings = {"runtime": candidate.runtime, "precision": candidate.precision, "device": "cpu"}
        try:
            engine = load_engine(WorkerSettings.model_validate(settings))
        except ModelError as error:
            print(f"{candidate.runtime} {candidate.precision}: {error}")
            continue
        predicted = EngineAlone(engine, engine.warm_up()).run(mix).spans
        scores[f"{candidate.runtime} {candidate.precision}"] = micro_f1(predicted, gold)
    return scores
