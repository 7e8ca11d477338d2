"""Texts with entities for tests of the real model: templates filled by a seeded generator."""

from __future__ import annotations

from random import Random

from jobs.schema import Labels

PEOPLE = [
    "Marie Curie",
    "Tim Cook",
    "Ada Lovelace",
    "Nelson Mandela",
    "Angela Merkel",
    "Serena Williams",
    "Akira Kurosawa",
    "Frida Kahlo",
    "Alan Turing",
    "José García",
    "李明",
    "Владимир Петров",
    "محمد علي",
]
FIRMS = [
    "Apple",
    "Siemens",
    "Toyota",
    "the World Health Organization",
    "Deutsche Bank",
    "Microsoft",
    "Stanford University",
    "the European Commission",
    "Novartis",
    "Boeing",
    "東京電力",
]
PLACES = [
    "Paris",
    "Nairobi",
    "Cupertino",
    "New Zealand",
    "Berlin",
    "São Paulo",
    "Tokyo",
    "Chicago",
    "the Netherlands",
    "Warsaw",
    "Αθήνα",
]
DATES = ["12 March 2019", "Monday", "June 1987", "the 4th of July", "last Tuesday", "2004", "3:30 pm"]
PRODUCTS = ["iPhone 15", "Model 3", "Windows 11", "PlayStation 5", "aspirin", "a 500 mg dose of ibuprofen"]

SENTENCES = (
    "{person} joined {firm} in {place} on {date}.",
    "On {date}, {firm} opened a new laboratory in {place}.",
    "{person}, who was born in {place}, met {other} of {firm}.",
    "Shares of {firm} fell 3.5% after {person} resigned.",
    "{place} will host the annual meeting of {firm}, said {person}.",
    "In {place}, {person} signed a contract with {firm} 🎉.",
    "The {product} costs $1,299.00 at {firm} (see https://example.com/shop?id=7).",
    "Dr. {person} was given {product} on {date}; the U.S. clinic in {place} agreed.",
    '"We love {place} ❤", wrote {person} about the {product}!',
    "Was {person} ever in {place}?",
)
FILLER = (
    "The weather stayed mild and the roads were quiet.",
    "Most of the work was done by hand and took a long time.",
    "Nobody knew why the lights were still on.",
    "It was a slow morning, and the coffee was cold ☕.",
    "A small group of people waited near the door.",
    "The report lists the steps in order and gives a short reason for each.",
    "Prices rose a little, then fell again.",
    "They repaired the fence, painted the gate and went home.",
    "Some of the boxes were empty; others held old letters.",
    "The second half of the book is easier to read than the first.",
)
LABEL_SETS: tuple[Labels, ...] = (
    {"person": None},
    {"person": None, "organization": None, "location": None, "date": None},
    {"location": None, "product": None, "money": None},
    {"who": "a person's name", "where": "a city or a country"},
    {"company": "a business or an institution", "person": None},
    dict.fromkeys(
        [
            "person",
            "organization",
            "location",
            "date",
            "time",
            "product",
            "drug",
            "money",
            "percentage",
            "url",
            "event",
            "law",
            "language",
            "animal",
            "vehicle",
            "book",
            "disease",
            "nationality",
        ]
    ),
)


def sentence(random: Random) -> str:
    """Return a sentence with entities."""
    person, other = random.sample(PEOPLE, 2)
    return random.choice(SENTENCES).format(
        person=person,
        other=other,
        firm=random.choice(FIRMS),
        place=random.choice(PLACES),
        date=random.choice(DATES),
        product=random.choice(PRODUCTS),
    )


def passage(random: Random, words: int, entities: float = 0.5) -> str:
    """Sentences of about that many words in all; `entities` is the share of those with entities."""
    parts: list[str] = []
    while sum(len(part.split()) for part in parts) < words:
        parts.append(sentence(random) if random.random() < entities else random.choice(FILLER))
    return " ".join(parts)
