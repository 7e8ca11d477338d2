"""A model's files by name -> those that hold its weights, one or shards, of a variant, safetensors or pickles."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from worker.model.errors import ModelBrokenError

WEIGHTS = "model.safetensors"
MAX_BYTES = 16 * 2**30
"""Most bytes of all files of a model's weights together."""
MAX_SHARDS = 1_000
_NAME = re.compile(
    r"(?P<stem>model|pytorch_model)(\.(?P<before>[a-z0-9_]{1,32}))?(-(?P<shard>\d{5})-of-(?P<shards>\d{5}))?"
    r"(\.(?P<after>[a-z0-9_]{1,32}))?\.(?P<format>safetensors|bin)"
)
_STEMS = {"safetensors": "model", "bin": "pytorch_model"}


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The files that hold one set of weights.

    Attributes:
        names: in the order of the shards.
        pickled: they are pickles, which must be converted.
        variant: the precision or the like that publishers name such files by; "" for the usual ones.
    """

    names: tuple[str, ...]
    pickled: bool = False
    variant: str = ""

    @property
    def ready(self) -> bool:
        """True if the file can be loaded as it is."""
        return len(self.names) == 1 and not self.pickled


@dataclass(frozen=True, slots=True)
class _Parsed:
    pickled: bool
    variant: str
    shard: int
    shards: int


def is_weights(name: str) -> bool:
    """Return whether a file may hold a model's weights, by its name."""
    return _parse(name) is not None


def choose(source: str, names: Iterable[str], variant: str = "") -> WeightFiles:
    """Return the files to take the weights from: safetensors before pickles, one file before shards.

    Args:
        source: where the files are, for messages.
        names: all files there.
        variant: the one that is wanted. "": the usual files, or the only variant there is.

    Raises:
        ModelBrokenError: there are no weights, shards are missing, or a variant must be named.
    """
    present = sorted(names)
    groups: dict[tuple[bool, str, int], dict[int, str]] = defaultdict(dict)
    for name in present:
        parsed = _parse(name)
        if parsed is not None:
            groups[parsed.pickled, parsed.variant, parsed.shards][parsed.shard] = name
    variants = sorted({of for _, of, _ in groups})
    if variant and variant not in variants:
        there = ", ".join(of or "the usual files" for of in variants) or "nothing"
        raise ModelBrokenError(f"{source}: no weights of the variant {variant!r}; there is {there}.")
    for pickled in (False, True):
        of_format = sorted({of for kind, of, _ in groups if kind == pickled})
        if not of_format or (variant and variant not in of_format):
            continue
        chosen = variant if variant or "" in of_format else of_format[0]
        if chosen not in ("", variant) and len(of_format) > 1:
            raise ModelBrokenError(
                f"{source}: its weights come in variants. Set GLEANER_MODEL_VARIANT to one of "
                f"{', '.join(of_format)}."
            )
        return _complete(source, groups, pickled, chosen)
    others = [name for name in present if name.endswith((".safetensors", ".onnx", ".gguf"))]
    hint = f" {others[0]} is not read: only {WEIGHTS}, its shards and its variants are." if others else ""
    raise ModelBrokenError(f"{source}: no {WEIGHTS}.{hint}")


def _complete(
    source: str, groups: dict[tuple[bool, str, int], dict[int, str]], pickled: bool, variant: str
) -> WeightFiles:
    missing = ""
    for count in sorted(count for kind, of, count in groups if (kind, of) == (pickled, variant)):
        shards = groups[pickled, variant, count]
        if len(shards) == max(1, count) <= MAX_SHARDS:
            return WeightFiles(tuple(shards[number] for number in sorted(shards)), pickled, variant)
        missing = f"{source}: {len(shards)} of the {count} shards of its weights are there."
    raise ModelBrokenError(f"{missing} Fetch the others.")


def _parse(name: str) -> _Parsed | None:
    match = _NAME.fullmatch(name)
    if match is None or match["stem"] != _STEMS[match["format"]] or (match["before"] and match["after"]):
        return None
    shard, shards = int(match["shard"] or 0), int(match["shards"] or 0)
    if match["shard"] and not 1 <= shard <= shards:
        return None
    return _Parsed(match["format"] == "bin", match["before"] or match["after"] or "", shard, shards)
