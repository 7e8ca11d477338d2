"""Which waiting windows run next: the micro-batcher's one decision, as a pure function.

The tenant that had least so far is served next, of its jobs the one that had least; its oldest window leads, and
windows of like length, whoever owns them, fill the micro-batch as far as padding them costs less than the forward
pass it saves. By tenant first, since one of them may have a hundred jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

STANDARD_SHARE = 0.2
"""Part of the model's work that standard jobs keep while interactive ones are waiting all the time."""
INTERACTIVE_TOKENS = 256
"""Interactive micro-batches have half of the budget, but not less than this, or all of it. On two cores 32 clients
were served as fast with 256 tokens as with 512; a backlog takes a fifth less of the worker's CPU with 512."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the choice knows of a window. `pieces` is its length in the model, in tokens."""

    job: str
    pieces: int
    interactive: bool = False
    solo: bool = False
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Turns:
    """Tokens served so far, of each waiting job and tenant, and tokens owed to standard jobs for standing back."""

    served: Mapping[str, int] = field(default_factory=dict)
    tenants: Mapping[str, int] = field(default_factory=dict)
    owed: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """Indexes into what was waiting, the leading window first, and the turns after it."""

    picked: tuple[int, ...]
    turns: Turns


def choose(waiting: Sequence[Waiting], turns: Turns, budget: int) -> Choice:
    """Pick the next micro-batch.

    Args:
        waiting: all windows that wait, oldest first; not empty.
        turns: from the choice before.
        budget: longest window times number of windows may not exceed this many tokens, for interactive ones half of
            them; a window that alone is over it runs alone.
    """
    jobs = {w.job for w in waiting}
    served = _served(jobs, turns.served)
    tenants = _served({w.tenant for w in waiting}, turns.tenants)
    urgent = [i for i, w in enumerate(waiting) if w.interactive]
    standard = [i for i, w in enumerate(waiting) if not w.interactive] if urgent else range(len(waiting))
    least = budget // 8  # even a tiny forward pass takes time
    turn_of_standard = bool(standard) and turns.owed >= max(least, waiting[standard[0]].pieces)
    lane = standard if not urgent or turn_of_standard else urgent
    lead = (
        lane[0] if len(jobs) == 1 else min(lane, key=lambda i: (tenants[waiting[i].tenant], served[waiting[i].job]))
    )
    room = max(budget // 2, min(INTERACTIVE_TOKENS, budget)) if lane is urgent else budget
    picked = _filled(waiting, lead, lane, room)
    for i in picked:
        served[waiting[i].job] += waiting[i].pieces
        tenants[waiting[i].tenant] += waiting[i].pieces
    owed = turns.owed
    if urgent and standard:
        cost = max(least, len(picked) * max(waiting[i].pieces for i in picked))
        owed += -cost if lane is standard else cost * STANDARD_SHARE / (1 - STANDARD_SHARE)
    return Choice(picked, Turns(served, tenants, min(owed, budget)))


def _served(names: Set[str], before: Mapping[str, int]) -> dict[str, int]:
    """Return tokens served, by job or tenant that waits; a newcomer starts level with the one that had least."""
    floor = min((before[name] for name in names if name in before), default=0)
    return {name: before.get(name, floor) for name in names}


def _filled(waiting: Sequence[Waiting], lead: int, lane: Sequence[int], budget: int) -> tuple[int, ...]:
    first = waiting[lead]
    if first.solo or 2 * first.pieces > budget:
        return (lead,)
    worth = budget // 16  # about what a forward pass of its own would cost
    far = {i: abs(waiting[i].pieces - first.pieces) for i in lane}
    near = [i for i, distance in far.items() if distance <= worth]
    near.sort(key=far.__getitem__)  # the older of two that are as far
    picked, longest = [lead], first.pieces
    for i in near:
        if longest * (len(picked) + 1) > budget:
            break
        if i == lead or waiting[i].solo:
            continue
        pieces = waiting[i].pieces
        grown = max(longest, pieces)
        padding = longest - pieces if pieces <= longest else len(picked) * (pieces - longest)
        if padding <= worth and grown * (len(picked) + 1) <= budget:
            picked.append(i)
            longest = grown
    return tuple(picked)
