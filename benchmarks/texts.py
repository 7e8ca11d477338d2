"""Documents to measure with: the same ones for the same seed, no two alike, in mixes of lengths and label sets.

None is longer than gleaner-small's window: the library reads only the beginning of a longer one, and there would be
nothing to compare.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

LABELS = ("person", "organization", "city", "date", "product")
MEDIAN_WORDS = 36
MOST_WORDS = 190
"""Words between blanks; the model counts punctuation, too, and reads 256."""

_PEOPLE = ("Ines Faber", "Tom Okafor", "Mei Tanaka", "Ravi Menon", "Clara Novak", "Jonas Berg")
_COMPANIES = ("Northwind Foods", "Halden Steel", "Brightwater Bank", "Orion Devices", "Maple Airways")
_CITIES = ("Lisbon", "Nairobi", "Osaka", "Denver", "Gdansk", "Lima")
_PRODUCTS = ("the Falcon 3 tablet", "its new cargo drone", "the Aurora kettle", "a payroll app")
_SENTENCES = (
    "{person} joined {company} in {city} on {day} and took over the team that builds {product}.",
    "On {day} {company} said that it would open an office in {city}, its second in the country.",
    "{person} told reporters in {city} that {product} had sold better than anybody expected.",
    "The board of {company} met for three hours and decided nothing that the staff had not known before.",
    "Analysts expect {company} to sell {product} in {city} from {day}, said {person}.",
    "Rain delayed the ceremony, and most of the guests went home before {person} spoke.",
)
_LABEL_SETS = (
    LABELS,
    ("person", "place"),
    ("company", "person", "weekday"),
    ("city", "country", "river", "mountain"),
    ("product", "price", "date", "company", "person", "city", "event"),
    ("name",),
    ("organization", "date"),
    ("job title", "person", "employer", "place of work"),
    ("vehicle", "device", "software", "food", "drink", "medicine", "book", "law", "weapon"),
    ("person", "organization", "location", "miscellaneous"),
)


@dataclass(frozen=True, slots=True)
class Mix:
    """Texts and the labels to look for in each."""

    texts: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]

    @property
    def shared(self) -> bool:
        """Whether all texts have the same labels."""
        return len(set(self.labels)) == 1

    def first(self, count: int) -> Mix:
        """Its first texts."""
        return Mix(self.texts[:count], self.labels[:count])


def documents(count: int, seed: int = 0) -> list[str]:
    """Texts whose lengths are lognormal, 36 words in the median, as in real traffic."""
    rng = random.Random(seed)
    spread = NormalDist(math.log(MEDIAN_WORDS), 0.8)
    lengths = [math.exp(spread.inv_cdf((i + 0.5) / count)) for i in range(count)]  # the same for every seed
    rng.shuffle(lengths)
    return [_text(rng, words) for words in lengths]


def usual(count: int, seed: int = 0) -> Mix:
    """So many documents of the usual mix, with the usual labels."""
    return _shared(documents(count, seed))


def mixes(count: int, seed: int = 0) -> Mapping[str, Mix]:
    """Every mix, each of that many documents ('long': a quarter as many)."""
    rng = random.Random(seed)
    sets = tuple(rng.choice(_LABEL_SETS) for _ in range(count))
    return {
        "lognormal": usual(count, seed),
        "short": _shared([_text(rng, rng.uniform(5, 15)) for _ in range(count)]),
        "long": _shared([_text(rng, rng.uniform(150, MOST_WORDS)) for _ in range(max(2, count // 4))]),
        "one long in 32": _shared(
            [_text(rng, MOST_WORDS if i % 32 == 16 else rng.uniform(5, 15)) for i in range(count)]
        ),
        "ten label sets": Mix(usual(count, seed).texts, sets),
    }


def _shared(texts: list[str]) -> Mix:
    return Mix(tuple(texts), (LABELS,) * len(texts))


def _text(rng: random.Random, words: float) -> str:
    """Sentences of so many words in all, the last one cut off."""
    wanted = max(4, min(MOST_WORDS, round(words)))
    found: list[str] = []
    while len(found) < wanted:
        found.extend(_sentence(rng).split())
    return " ".join(found[:wanted])


def _sentence(rng: random.Random) -> str:
    fill: Callable[[tuple[str, ...]], str] = rng.choice
    return rng.choice(_SENTENCES).format(
        person=fill(_PEOPLE),
        company=fill(_COMPANIES),
        city=fill(_CITIES),
        product=fill(_PRODUCTS),
        day=f"{rng.randint(1, 28)} March {rng.randint(1990, 2025)}",
    )
