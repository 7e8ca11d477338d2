# ruff: noqa: RUF001  # letters of other alphabets look like Latin ones
"""The condition for using a runtime: its scores equal the library's for each text alone. Pure.

`worker.model.selection.select` loads and times the candidates; this module has the texts and the margins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.schema import Document, Labels
from jobs.tasks import RelationType, Task, Tasks
from worker.model.decode import Scores
from worker.protocols import ShardRef, Tokenizer, Window
from worker.text.windows import JobContext, cut_document

MARGINS: Mapping[str, float] = {"fp32": 1e-3, "fp16": 0.01, "bf16": 0.05, "int8": 0.2}
"""The most that a score may differ by.

In 32 bits rounding moves scores by some 1e-5; a larger difference is another computation, such as one that reads
padding. bf16 has 8 significant bits: a logit of 8 is off by 0.03 when it is stored, and by 0.2 after a dozen
layers, of which at most a quarter reaches a score. fp16 has 11 bits; int8 has 7, for weights, and is used only on
request.
"""
Rows = list[NDArray[Any]]
"""For each row all scores of its text, above the threshold or not."""
ROWS = 8
"""Rows of a micro-batch when timing; about as many as fit a CPU's caches."""

LABEL_SETS: tuple[Labels, ...] = (
    {"person": None, "organization": None, "location": None},
    {"person": None, "company": None, "city": None, "date": None, "product": None},
    {"animal": None},
    dict.fromkeys(("event", "country", "river", "ship", "job title", "language", "food")),
)
_RELATION_SETS: tuple[Mapping[str, RelationType], ...] = (
    {"works for": RelationType()},
    {},
    {"located in": RelationType(), "owns": RelationType(), "born on": RelationType()},
)
TEXTS = (
    "Maria Keller moved to Oslo.",
    "The harbour office closed early on Friday.",
    "In April the ferry Nordlys carried 412 people from Bergen to Kirkenes and back.",
    "A grey heron stood in the Wandle all morning, and two foxes crossed the road behind the bakery.",
    "Teo Marsh, who runs Alder & Finch in Leeds, sold his third Meridian press to a school in Accra.",
    "Nobody answered.",
    (
        "Dr. Ines Okafor of the Lakeside Institute spoke in Portuguese about the drought, then in English "
        "about what the farmers along the Zambezi had planted instead of maize."
    ),
    "On 3 March 2019 Juniper Rail ordered eleven trains from Castellan Works; the first reached Gdansk in May.",
    "We ate rye bread, cheese and plums.",
    (
        "The mayor of Turin, Carla Bassi, met Hugo Lindqvist, the chief engineer of Polar Grid, at the "
        "Olympic stadium on Tuesday. They signed nothing, but agreed to meet again in Stockholm before the "
        "summer, when the new line to Kiruna is to be opened by the king."
    ),
    "Kestrel Foods recalls its Sunrise muesli in Ireland and Wales.",
    (
        "After the storm of 1953 the village was rebuilt two miles inland. Its old church, where Agnes Thorne "
        "had been organist for forty years, was left to the gulls, and in winter the bell could still be "
        "heard when the wind came from the sea. Her nephew Robert wrote the only book about it, printed by "
        "the Marlow Press in a hundred copies, one of which is kept in the library at Norwich beside a letter "
        "from the Dutch ambassador."
    ),
    "Lena plays chess in Tbilisi every July.",
    "Sergeant Paul Nwosu found the missing horse near Lake Tahoe, three days after the Reno Fair.",
    "The Amazon rose by nine metres.",
    "Orchard Bank and the city of Lyon will pay for the bridge.",
)
SCRIPTS = (
    "Die Deutsche Bank eröffnete eine Filiale in München.",
    "José García viajó el martes a São Paulo.",
    "Владимир Петров приехал в Москву.",
    "Η Άννα Παπαδοπούλου ζει στην Αθήνα.",
    "नरेंद्र मोदी नई दिल्ली में थे।",
    "ولد محمد علي في القاهرة.",
    "דוד כהן נולד בתל אביב.",
    "สมชายเกิดที่กรุงเทพมหานคร",
    "李明在北京大学学习。",
    "山田太郎は大阪で会見を開いた。",
    "김철수는 서울대학교에서 공부한다.",
    "Teo Marsh ❤️ Paris 🎉!",
)
"""Short texts: in a micro-batch with one of `TEXTS` that is at least four times as long."""
LONG = 40
"""Words to which such a text is cut: longer ones would only take time."""
MIXED_BATCHES = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of trying a candidate: seconds for the texts, or the reason for refusing it."""

    runtime: str
    precision: str
    seconds: float = 0.0
    refused: str | None = None


def build_timing_batches(tokenizer: Tokenizer) -> list[list[Window]]:
    """Return built-in texts as micro-batches of similar lengths, with several sets of labels each, for timing."""
    windows = [window for i, text in enumerate(TEXTS) for window in _cut_text(i, text, tokenizer)]
    windows.sort(key=lambda window: window.row_tokens)
    return [windows[i : i + ROWS] for i in range(0, len(windows), ROWS)]


def build_mixed_batches(tokenizer: Tokenizer) -> list[list[Window]]:
    """Return micro-batches of short texts with one four times as long, and of one text alone."""
    longest = sorted(TEXTS, key=len)[-MIXED_BATCHES:]
    batches = []
    for number, text in enumerate(longest):
        texts = (*SCRIPTS[number::MIXED_BATCHES], " ".join(text.split()[:LONG]))
        rows = [_cut_text(number + i, short, tokenizer)[0] for i, short in enumerate(texts)]
        batches += [rows, rows[:1]]
    return batches


def _cut_text(number: int, text: str, tokenizer: Tokenizer) -> Sequence[Window]:
    """Cut a text with one of the label sets; a model for relations is asked for some in most texts."""
    can_relate = Task.RELATIONS in tokenizer.spec.tasks
    relations = _RELATION_SETS[number % len(_RELATION_SETS)] if can_relate else {}
    tasks = Tasks(LABEL_SETS[number % len(LABEL_SETS)], relations)
    document = Document(number, str(number), text)
    return cut_document(document, JobContext(ShardRef("agreement", 0), tasks), tokenizer).windows


def row_scores(windows: Sequence[Window], scores: Scores, tagged: bool) -> list[NDArray[Any]]:
    """Return the scores of each row's own words and labels, without those of padding.

    For the shape of the logits see `worker.model.decode.decode_scores`.
    """
    rows = []
    for window, logits in zip(windows, scores["logits"], strict=True):
        words, labels = len(window.words), len(window.prompts)
        if tagged:
            real = logits[:words, :labels]
        else:
            last = np.arange(words)[:, None] + np.arange(logits.shape[1])
            real = logits[:words, :, :labels][last < words]
        with np.errstate(over="ignore"):
            rows.append(1.0 / (1.0 + np.exp(-real.astype(np.float64))))
    return rows


def describe_disagreement(expected: Sequence[Rows], actual: Sequence[Rows], precision: str) -> str | None:
    """Return a message if scores of micro-batches differ by more than the precision allows; None where they agree.

    Scores are compared before overlaps are resolved: of two overlapping spans with almost equal scores either may
    win, which says nothing about a runtime.
    """
    pairs = zip(chain.from_iterable(expected), chain.from_iterable(actual), strict=True)
    differences = np.concatenate([np.abs(wanted - score).ravel() for wanted, score in pairs])
    over = np.count_nonzero(~(differences <= MARGINS[precision]))  # NaN counts as over
    return f"{over:,} of {len(differences):,} scores differ, by up to {differences.max():.3f}" if over else None
