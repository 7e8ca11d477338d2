"""The demo's documents: invented texts of many kinds, each with separate labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One document of the demo with its labels and, if it differs from the default, its threshold."""

    id: str
    labels: Sequence[str] | Mapping[str, str]
    text: str
    threshold: float | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the document as the client submits it."""
        document: dict[str, Any] = {"id": self.id, "text": self.text, "labels": self.labels}
        if self.threshold is not None:
            document["options"] = {"threshold": self.threshold}
        return document


def load_samples() -> tuple[Sample, ...]:
    """Return every document, in order: the short ones of samples.json, then the long one."""
    short, long = ((files(__package__) / name).read_text("utf-8") for name in ("samples.json", "railway.txt"))
    railway = Sample("long-railway", ("person", "organization", "location", "date"), long)
    return (*(Sample(**fields) for fields in json.loads(short)), railway)
