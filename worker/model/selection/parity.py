# ruff: noqa: RUF001  # letters of other alphabets look like Latin ones
"""The rule by which a runtime may run a model: its scores are the library's for one text alone. Pure.

`worker.model.selection.select` loads and times the candidates; this page has the texts, and how near scores must
be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.schema import Document, Labels, Options
from worker.model.decode import Scores
from worker.protocols import ShardRef, Tokenizer, Window
from worker.text.windows import cut_document

MARGINS: Mapping[str, float] = {"fp32": 1e-3, "fp16": 0.01, "bf16": 0.05, "int8": 0.2}
"""The most by which a score may differ.

In 32 bits rounding moves scores by some 1e-5; what is further off is another computation, such as one that reads
padding. bf16 has 8 significant bits: a logit of 8 is off by 0.03 when it is written down, and by 0.2 after a dozen
layers, of which at most a quarter reaches a score. fp16 has 11 bits; int8 has 7, for weights, and is
run only on request.
"""
Rows = list[NDArray[Any]]
"""For each row the scores of all that the model scores of its text, whether they mean an entity or not."""
ROWS = 8
"""Of a micro-batch when timing; about what fits a CPU's caches."""

_SETS: tuple[Labels, ...] = (
    {"person": None, "organization": None, "location": None},
    {"person": None, "company": None, "city": None, "date": None, "product": None},
    {"animal": None},
    {
        "event": None,
        "country": None,
        "river": None,
        "ship": None,
        "job title": None,
        "language": None,
        "food": None,
    },
)
_TEXTS = (
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


_SCRIPTS = (
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
"""Short texts: in a micro-batch with one of `_TEXTS` that is at least four times as long."""
LONG = 40
"""Words of such a text, from which on it is cut: longer ones would only take time."""
COMPANIES = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """How a candidate did: seconds for the texts, or why it is out."""

    runtime: str
    precision: str
    seconds: float = 0.0
    refused: str | None = None


def micro_batches(tokenizer: Tokenizer) -> list[list[Window]]:
    """Return built-in texts as micro-batches of like lengths, each with several sets of labels: for timing."""
    windows = [window for i, text in enumerate(_TEXTS) for window in _windows(i, text, tokenizer)]
    windows.sort(key=lambda window: window.row_tokens)
    return [windows[i : i + ROWS] for i in range(0, len(windows), ROWS)]


def companies(tokenizer: Tokenizer) -> list[list[Window]]:
    """Return micro-batches of short texts next to one four times as long, and of one text alone."""
    longest = sorted(_TEXTS, key=len)[-COMPANIES:]
    batches = []
    for number, text in enumerate(longest):
        texts = (*_SCRIPTS[number::COMPANIES], " ".join(text.split()[:LONG]))
        rows = [_windows(number + i, each, tokenizer)[0] for i, each in enumerate(texts)]
        batches += [rows, rows[:1]]
    return batches


def _windows(number: int, text: str, tokenizer: Tokenizer) -> Sequence[Window]:
    document = Document(number, str(number), text)
    return cut_document(
        document, _SETS[number % len(_SETS)], Options(), tokenizer, ShardRef("agreement", 0)
    ).windows


def rows_of(windows: Sequence[Window], scores: Scores, tagged: bool) -> list[NDArray[Any]]:
    """Return the scores of each row's own words and labels, without those of padding.

    Args:
        windows: the rows of the forward pass.
        scores: what the model returned.
        tagged: `logits` are of (row, word, label, start | end | inside); else of (row, first word, width, label).
    """
    rows = []
    for window, logits in zip(windows, scores["logits"], strict=True):
        words, labels = len(window.words), len(window.prompts)
        if tagged:
            own = logits[:words, :labels]
        else:
            last = np.arange(words)[:, None] + np.arange(logits.shape[1])
            own = logits[:words, :, :labels][last < words]
        with np.errstate(over="ignore"):
            rows.append(1.0 / (1.0 + np.exp(-own.astype(np.float64))))
    return rows


def disagreement(expected: Sequence[Rows], found: Sequence[Rows], precision: str) -> str | None:
    """Return how the scores of micro-batches differ by more than that precision allows; None where they agree.

    Scores are compared before overlaps are settled: where two spans overlap whose scores are all but equal, either
    may win, and that says nothing about a runtime.
    """
    pairs = zip(chain.from_iterable(expected), chain.from_iterable(found), strict=True)
    apart = np.concatenate([np.abs(one - other).ravel() for one, other in pairs])
    over = np.count_nonzero(~(apart <= MARGINS[precision]))  # what is no number is over
    return f"{over:,} of {len(apart):,} scores differ, by up to {apart.max():.3f}" if over else None
