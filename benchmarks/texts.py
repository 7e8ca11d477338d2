"""Texts for benchmarks: reproducible by seed, all different, in mixes of lengths and label sets.

None is longer than gleaner-small's window: the library reads only the beginning of a longer one, so results could
not be compared.
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
"""Most words, separated by blanks; the model also counts punctuation, and reads 256."""

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
    """Texts, and the labels to look for in each."""

    texts: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]

    @property
    def shared(self) -> bool:
        """True if all texts have the same labels."""
        return len(set(self.labels)) == 1

    def take(self, count: int) -> Mix:
        """Return the first texts of the mix."""
        return Mix(self.texts[:count], self.labels[:count])


def make_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts with lognormal lengths, 36 words in the median, like in real traffic."""
    rng = random.Random(seed)
    spread = NormalDist(math.log(MEDIAN_WORDS), 0.8)
    lengths = [math.exp(spread.inv_cdf((i + 0.5) / count)) for i in range(count)]  # the same for every seed
    rng.shuffle(lengths)
    return [_make_text(rng, words) for words in lengths]


def make_usual_mix(count: int, seed: int = 0) -> Mix:
    """Return `count` texts of the usual mix, with the usual labels."""
    return _with_labels(make_texts(count, seed))


def make_mixes(count: int, seed: int = 0) -> Mapping[str, Mix]:
    """Return all mixes, of `count` texts each ('long': a quarter as many)."""
    rng = random.Random(seed)
    sets = tuple(rng.choice(_LABEL_SETS) for _ in range(count))
    return {
        "lognormal": make_usual_mix(count, seed),
        "short": _with_labels([_make_text(rng, rng.uniform(5, 15)) for _ in range(count)]),
        "long": _with_labels([_make_text(rng, rng.uniform(150, MOST_WORDS)) for _ in range(max(2, count // 4))]),
        "one long in 32": _with_labels(
            [_make_text(rng, MOST_WORDS if i % 32 == 16 else rng.uniform(5, 15)) for i in range(count)]
        ),
        "ten label sets": Mix(make_usual_mix(count, seed).texts, sets),
    }


def _with_labels(texts: list[str]) -> Mix:
    return Mix(tuple(texts), (LABELS,) * len(texts))


def _make_text(rng: random.Random, words: float) -> str:
    """Return sentences with `words` words in total, the last one truncated."""
    wanted = max(4, min(MOST_WORDS, round(words)))
    result: list[str] = []
    while len(result) < wanted:
        result.extend(_make_sentence(rng).split())
    return " ".join(result[:wanted])


def _make_sentence(rng: random.Random) -> str:
    pick: Callable[[tuple[str, ...]], str] = rng.choice
    return rng.choice(_SENTENCES).format(
        person=pick(_PEOPLE),
        company=pick(_COMPANIES),
        city=pick(_CITIES),
        product=pick(_PRODUCTS),
        day=f"{rng.randint(1, 28)} March {rng.randint(1990, 2025)}",
    )
