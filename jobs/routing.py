"""Which model runs a job: `GLEANER_MODELS` -> names that jobs may ask for -> the one model, by tenant.

    gleaner-small,medium=gliner-medium:90|gliner-medium-next:10

Two entries: `gleaner-small` is a model; `medium` is a name whose jobs are split over two models by weight. A split
may bear the name of one of its models, so that a canary asks nothing of the clients.
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
        names: what a job may ask for; the first is the default.
        served: what has queues and workers: the models listed, and those of splits.
        splits: of each name that is split, its models and their weights. One of weight 0 gets no new jobs.
    """

    names: tuple[str, ...]
    served: tuple[str, ...]
    splits: Mapping[str, Mapping[str, int]]

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `GLEANER_MODELS` says.

        Raises:
            ValueError: an entry that cannot be meant; the message says which, and what is wrong with it.
        """
        entries: dict[str, Mapping[str, int] | None] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            name, is_split, shares = (part.strip() for part in entry.partition("="))
            if not name or "|" in name:
                raise ValueError(f"{entry!r} is no model: expected {FORM}")
            if name in entries:
                raise ValueError(f"{name!r} is listed twice")
            entries[name] = _shares(entry, shares) if is_split else None
        if not entries:
            raise ValueError("no model is listed")
        splits = {name: shares for name, shares in entries.items() if shares is not None}
        served = dict.fromkeys(model for name in entries for model in splits.get(name, (name,)))
        if nested := next((model for model in served if model not in splits.get(model, (model,))), None):
            raise ValueError(f"{nested!r} is the name of a split of other models, and a split is of models only")
        return cls(tuple(entries), tuple(served), splits)

    def choose_model(self, name: str, tenant: str) -> str:
        """The model that runs this tenant's jobs of a name: the same in every process, as long as weights stay.

        Weighted rendezvous hashing: a tenant goes to the model that scores highest for it, and a weight moves its
        own model's scores only. So a weight that grows takes tenants over and moves none between the others.
        """
        if (shares := self.splits.get(name)) is None:
            return name
        return max(shares, key=lambda model: (_score(name, tenant, model, shares[model]), model))

    def __str__(self) -> str:
        """As `GLEANER_MODELS` has it."""
        return ",".join(map(self._entry, self.names))

    def _entry(self, name: str) -> str:
        shares = self.splits.get(name)
        return name if shares is None else f"{name}={'|'.join(f'{m}:{w}' for m, w in shares.items())}"


def _shares(entry: str, text: str) -> dict[str, int]:
    shares: dict[str, int] = {}
    for part in text.split("|"):
        model, _, weight = (piece.strip() for piece in part.rpartition(":"))
        if not model or "=" in model:
            raise ValueError(f"{entry!r} is no split: expected {FORM}")
        if not (weight.isascii() and weight.isdigit()):
            raise ValueError(f"the weight of {model!r} in {entry!r} is not a whole number from 0")
        if model in shares:
            raise ValueError(f"{model!r} is twice in {entry!r}")
        shares[model] = int(weight)
    if not any(shares.values()):
        raise ValueError(f"no model of {entry!r} has a weight above 0")
    return shares


def _score(name: str, tenant: str, model: str, weight: int) -> float:
    digest = hashlib.sha256("\0".join((name, tenant, model)).encode()).digest()
    uniform = ((int.from_bytes(digest[:8], "big") >> 12) + 1) / (2**52 + 1)  # within 0 and 1, and neither of them
    return weight / -math.log(uniform)
