"""Documents to measure with: the same ones for the same seed, of mixed length, no two alike."""

from __future__ import annotations

import random

LABELS = ("person", "organization", "city", "date", "product")

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


def documents(count: int, seed: int = 0) -> list[str]:
    """That many texts of one to twelve sentences, most of them short, as in real traffic."""
    rng = random.Random(seed)
    return [" ".join(_sentence(rng) for _ in range(min(12, 1 + int(rng.expovariate(0.4))))) for _ in range(count)]


def _sentence(rng: random.Random) -> str:
    return rng.choice(_SENTENCES).format(
        person=rng.choice(_PEOPLE),
        company=rng.choice(_COMPANIES),
        city=rng.choice(_CITIES),
        product=rng.choice(_PRODUCTS),
        day=f"{rng.randint(1, 28)} March {rng.randint(1990, 2025)}",
    )
