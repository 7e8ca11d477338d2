"""Selects the model that runs a job: `GLEANER_MODELS` -> names that jobs may request -> one model, by tenant.

    gleaner-small,medium=gliner-medium:90|gliner-medium-next:10

Two entries: `gleaner-small` is a model; `medium` is a name whose jobs are split over two models by weight. A split
may have the name of one of its models, so that a canary needs no change in the clients.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

FORM = "`name`, or `name=model:weight|model:weight`"


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a service.

    Attributes:
        names: names that a job may request; the first is the default.
        served: models with queues and workers: those listed, and those of splits.
        splits: models and weights of each split name. A model of weight 0 gets no new jobs.
    """

    names: tuple[str, ...]
    served: tuple[str, ...]
    splits: Mapping[str, Mapping[str, int]]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `GLEANER_MODELS`.

        Raises:
            ValueError: an invalid entry; the message names it and what is wrong with it.
        """
        entries: dict[str, Mapping[str, int] | None] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, is_split, shares = (part.strip() for part in entry.partition("="))
            if not name or "|" in name:
                raise ValueError(f"{entry!r} is not a model: expected {FORM}")
            if name in entries:
                raise ValueError(f"{name!r} is listed twice")
            entries[name] = _parse_shares(entry, shares) if is_split else None
        if not entries:
            raise ValueError("no model is listed")
        splits = {name: shares for name, shares in entries.items() if shares is not None}
        served = dict.fromkeys(model for name in entries for model in splits.get(name, (name,)))
        if nested := next((model for model in served if model not in splits.get(model, (model,))), None):
            raise ValueError(f"{nested!r} is itself a split; a split can only contain models")
        return cls(tuple(entries), tuple(served), splits)

    def choose_model(self, name: str, tenant: str) -> str:
        """Return the model that runs this tenant's jobs of a name: the same in every process until weights change.

        Weighted rendezvous hashing: a tenant goes to the model that scores highest for it, and a weight changes
        only its model's scores. So a weight that grows takes over tenants and moves none between the other models.
        """
        if (shares := self.splits.get(name)) is None:
            return name
        return max(shares, key=lambda model: (_score(name, tenant, model, shares[model]), model))

    def __str__(self) -> str:
        """Return the form of `GLEANER_MODELS`."""
        splits = {name: "|".join(f"{m}:{w}" for m, w in shares.items()) for name, shares in self.splits.items()}
        return ",".join(f"{name}={splits[name]}" if name in splits else name for name in self.names)


def _parse_shares(entry: str, text: str) -> dict[str, int]:
    shares: dict[str, int] = {}
    for part in text.split("|"):
        model, _, weight = (piece.strip() for piece in part.rpartition(":"))
        if not model or "=" in model:
            raise ValueError(f"{entry!r} is not a split: expected {FORM}")
        if not (weight.isascii() and weight.isdigit()):
            raise ValueError(f"the weight of {model!r} in {entry!r} is not a whole number from 0")
        if model in shares:
            raise ValueError(f"{model!r} is listed twice in {entry!r}")
        shares[model] = int(weight)
    if not any(shares.values()):
        raise ValueError(f"no model of {entry!r} has a weight above 0")
    return shares


def _score(name: str, tenant: str, model: str, weight: int) -> float:
    digest = hashlib.sha256("\0".join((name, tenant, model)).encode()).digest()
    uniform = ((int.from_bytes(digest[:8], "big") >> 12) + 1) / (2**52 + 1)  # strictly between 0 and 1
    return weight / -math.log(uniform)
