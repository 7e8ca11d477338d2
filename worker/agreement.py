"""Which runtime a model runs on: the fastest whose scores on built-in texts are those of torch in 32 bits. Pure.

`worker.selection` loads and times the candidates; this page has the texts, the rule of agreement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.schema import Document, Labels, Options
from worker.contract import ShardRef, Tokenizer, Window
from worker.windows import cut

THRESHOLD = 0.3
"""Scores below it are of no interest; it is also what a score counts as that only one of two runtimes found."""
MARGIN = 0.05
"""So much may a score differ, and so may a span come or go whose score is that near its threshold."""
Seen = Mapping[tuple[int, ...], float]
"""Score of each micro-batch, row, first word, word after the last, and label."""
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


@dataclass(frozen=True, slots=True)
class Trial:
    """How a candidate did: seconds for the texts, or why it is out."""

    runtime: str
    precision: str
    seconds: float = 0.0
    refused: str | None = None


def micro_batches(tokenizer: Tokenizer) -> list[list[Window]]:
    """The built-in texts as micro-batches of like lengths, each with several sets of labels."""
    windows = [
        window
        for i, text in enumerate(_TEXTS)
        for window in cut(
            Document(i, str(i), text),
            _SETS[i % len(_SETS)],
            Options(threshold=THRESHOLD),
            tokenizer,
            ShardRef("agreement", 0),
        ).windows
    ]
    windows.sort(key=lambda window: window.pieces)
    return [windows[i : i + ROWS] for i in range(0, len(windows), ROWS)]


def disagreement(expected: Seen, found: Seen) -> str | None:
    """How the scores differ by more than they may; None where they agree.

    Scores are compared before overlaps are settled: where two spans overlap whose scores are all but equal, either
    may win, and that says nothing about a runtime.
    """
    apart = [
        abs(expected.get(key, THRESHOLD) - found.get(key, THRESHOLD)) for key in expected.keys() | found.keys()
    ]
    over = sum(difference > MARGIN for difference in apart)
    return f"{over} of {len(apart)} scores differ, by up to {max(apart):.3f}" if over else None
