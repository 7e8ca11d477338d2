"""The demo's documents: invented texts of many kinds, each with separate labels."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

Labels = tuple[str, ...] | dict[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One document of the demo with its labels and, if it differs from the default, its threshold."""

    id: str
    labels: Labels
    text: str
    threshold: float | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the document as the client submits it."""
        document: dict[str, Any] = {"id": self.id, "text": self.text}
        document["labels"] = dict(self.labels) if isinstance(self.labels, dict) else list(self.labels)
        if self.threshold is not None:
            document["options"] = {"threshold": self.threshold}
        return document


def load_samples() -> tuple[Sample, ...]:
    """Return every document, in order."""
    long_text = files("gleaner.demo").joinpath("railway.txt").read_text(encoding="utf-8")
    return (
        Sample(
            "news-harbour",
            ("person", "organization", "city", "date"),
            "HAMBURG, 14 March 2024 - The shipping company Norderlicht said on Thursday that it will open an "
            "office in Rotterdam next year. Chief executive Maren Albers told reporters that the decision was "
            "taken together with the European Investment Bank. The Port of Antwerp declined to comment.",
        ),
        Sample(
            "news-election",
            ("politician", "political party", "country", "election"),
            "Finland's Social Democratic Party won the most seats in the 2019 Finnish parliamentary election, "
            "and Antti Rinne became prime minister. Six months later Sanna Marin of the same party took over. "
            "The Centre Party stayed in the coalition, while the National Coalition Party went into opposition.",
        ),
        Sample(
            "clinical-note",
            ("disease", "drug"),
            "A 58-year-old man with type 2 diabetes and hypertension was treated with metformin and lisinopril. "
            "After two weeks on amoxicillin for pneumonia he developed a skin rash and diarrhea. Amoxicillin was "
            "stopped, doxycycline was started, and the rash resolved. There was no sign of renal failure.",
        ),
        Sample(
            "abstract-genetics",
            {"disease": "a disorder, syndrome or cancer"},
            "Mutations in BRCA1 account for many cases of hereditary breast and ovarian cancer. Carriers in this "
            "cohort had a higher risk of pancreatic cancer as well, but not of colorectal cancer or melanoma. "
            "Families with Lynch syndrome were excluded.",
            threshold=0.6,
        ),
        Sample(
            "shop-review",
            ("product", "store", "price"),
            "I bought the Sony WH-1000XM5 headphones for $329 at Best Buy after my old Bose QuietComfort 35 "
            "broke. They pair with my iPhone 15 in seconds. Amazon had them for $299 a week later, of course.",
        ),
        Sample(
            "assistant-order",
            ("song", "artist", "playlist", "city", "time"),
            "Add Here Comes the Sun by The Beatles to my playlist Road Trip, and find a table for four in Boston "
            "tomorrow at 7 pm.",
        ),
        Sample(
            "legal-ruling",
            ("person", "organization", "date"),
            "On 3 June 2021 the Supreme Court of the United States ruled in favour of Nathan Van Buren. The "
            "opinion, written by Justice Amy Coney Barrett, held that he had not broken the Computer Fraud and "
            "Abuse Act. The Electronic Frontier Foundation had filed a brief with the court.",
        ),
        Sample(
            "letter-emoji",
            ("person", "location", "date"),
            "Hi Zoë 👋🏽, greetings from São Paulo! 🇧🇷 Yesterday I met Łukasz Nowak and Björn Ångström at a "
            "concert 🎶; tomorrow I fly to Tokyo (東京) in Japan. Say hello to 李明 and to "
            "Дмитрий Иванов. 😀 Yours, José",
        ),
        Sample(
            "music-history",
            ("musician", "band", "album", "award", "location"),
            "Miles Davis recorded Kind of Blue in New York City in 1959 with John Coltrane and Bill Evans. "
            "Decades later Radiohead named him as an influence on OK Computer, which won the Grammy Award for "
            "Best Alternative Music Album.",
        ),
        Sample("long-railway", ("person", "organization", "location", "date"), long_text),
    )
