"""A model's file names -> the files with its weights: one or shards, of a variant, safetensors or pickles."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from worker.model.errors import ModelBrokenError

WEIGHTS = "model.safetensors"
MAX_BYTES = 16 * 2**30
"""Most bytes of all files of a model's weights."""
MAX_SHARDS = 1_000
_NAME = re.compile(
    r"(?P<stem>model|pytorch_model)(\.(?P<before>[a-z0-9_]{1,32}))?(-(?P<shard>\d{5})-of-(?P<shards>\d{5}))?"
    r"(\.(?P<after>[a-z0-9_]{1,32}))?\.(?P<format>safetensors|bin)"
)
_STEMS = {"safetensors": "model", "bin": "pytorch_model"}


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The files of one set of weights.

    Attributes:
        names: in the order of the shards.
        pickled: they are pickles, which must be converted.
        variant: the part of the names that distinguishes sets, mostly a precision; "" for the default set.
    """

    names: tuple[str, ...]
    pickled: bool = False
    variant: str = ""

    @property
    def ready(self) -> bool:
        """True if the file can be loaded without conversion."""
        return len(self.names) == 1 and not self.pickled


_Set = tuple[bool, str, int]
"""A set of weights: pickled or not, its variant, and its number of shards."""


def is_weights(name: str) -> bool:
    """Return whether this is the name of a file with weights."""
    return _parse_name(name) is not None


def choose_weights(source: str, names: Iterable[str], variant: str = "") -> WeightFiles:
    """Return the files to take the weights from: safetensors before pickles, one file before shards.

    Args:
        source: the model, for messages.
        names: all its files.
        variant: the requested one. "": the default set, or the only variant.

    Raises:
        ModelBrokenError: there are no weights, shards are missing, or the settings must name a variant.
    """
    present = sorted(names)
    groups: dict[_Set, dict[int, str]] = defaultdict(dict)
    for name in present:
        if parsed := _parse_name(name):
            group, shard = parsed
            groups[group][shard] = name
    variants = sorted({of for _, of, _ in groups})
    if variant and variant not in variants:
        available = ", ".join(of or "the default (no variant)" for of in variants) or "none"
        raise ModelBrokenError(f"{source}: no weights of the variant {variant!r}. Available: {available}.")
    for pickled in (False, True):
        of_format = sorted({of for kind, of, _ in groups if kind == pickled})
        if not of_format or (variant and variant not in of_format):
            continue
        chosen = variant if variant or "" in of_format else of_format[0]
        if chosen not in ("", variant) and len(of_format) > 1:
            raise ModelBrokenError(
                f"{source}: its weights have several variants. Set GLEANER_MODEL_VARIANT to one of "
                f"{', '.join(of_format)}."
            )
        return _collect_shards(source, groups, pickled, chosen)
    ignored = [name for name in present if name.endswith((".safetensors", ".onnx", ".gguf"))]
    hint = f" {ignored[0]} is not read; only {WEIGHTS}, its shards and its variants are." if ignored else ""
    raise ModelBrokenError(f"{source}: no {WEIGHTS}.{hint}")


def _collect_shards(source: str, groups: dict[_Set, dict[int, str]], pickled: bool, variant: str) -> WeightFiles:
    missing = ""
    for count in sorted(count for kind, of, count in groups if (kind, of) == (pickled, variant)):
        shards = groups[pickled, variant, count]
        if len(shards) == max(1, count) <= MAX_SHARDS:
            return WeightFiles(tuple(shards[number] for number in sorted(shards)), pickled, variant)
        missing = f"{source}: only {len(shards)} of the {count} shards of its weights are present."
    raise ModelBrokenError(f"{missing} Fetch the missing ones.")


def _parse_name(name: str) -> tuple[_Set, int] | None:
    """Return the set that a file belongs to, and the number of its shard; None for a file without weights."""
    match = _NAME.fullmatch(name)
    if match is None or match["stem"] != _STEMS[match["format"]] or (match["before"] and match["after"]):
        return None
    shard, shards = int(match["shard"] or 0), int(match["shards"] or 0)
    if match["shard"] and not 1 <= shard <= shards:
        return None
    return (match["format"] == "bin", match["before"] or match["after"] or "", shards), shard
