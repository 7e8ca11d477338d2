"""How much a key and a tenant may ask for: requests, reads and submits a second, documents and characters a day.

Sliding windows in the ledger, so that all gateways count together; the rules of a request are counted in one round
trip, and where nothing is limited nothing is asked of the server. Open jobs are counted by the ledger itself
(`create`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gateway.http.problems import Problem, ProblemCode
from gateway.settings import GatewaySettings
from jobs.api_keys import KeyLimits, Role
from jobs.ledger import AsyncLedger, LedgerUnavailableError
from jobs.ledger.access import RateWindow, Take, take_rates

Scope = Literal["key", "tenant", "address"]
Measure = Literal["requests", "submits", "reads", "documents", "characters", "failures"]

_CODES: dict[Measure, ProblemCode] = {
    "requests": "rate_limited",
    "submits": "rate_limited",
    "reads": "rate_limited",
    "failures": "rate_limited",
    "documents": "quota_exceeded",
    "characters": "quota_exceeded",
}
_WINDOWS: dict[Measure, tuple[int, str]] = {
    "requests": (1, "second"),
    "submits": (1, "second"),
    "reads": (1, "second"),
    "failures": (60, "minute"),
    "documents": (86_400, "day"),
    "characters": (86_400, "day"),
}
"""Length (seconds) and name of the window of each."""
_SETTINGS: dict[Measure, str] = {
    "requests": "requests_per_s",
    "submits": "submits_per_s",
    "reads": "reads_per_s",
    "documents": "documents_per_day",
    "characters": "characters_per_day",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """So much of a measure in a window, for one key, tenant or address."""

    measure: Measure
    scope: Scope
    owner: str
    amount: int

    @property
    def name(self) -> str:
        """Its name in the RateLimit headers."""
        return f"{self.measure}-{self.scope}"

    @property
    def window_s(self) -> int:
        """Length of its window (seconds)."""
        return _WINDOWS[self.measure][0]

    def take(self, cost: int) -> Take:
        """Return what the ledger is to count; a change of the amount begins a new count."""
        name = f"LIMITER/{self.measure}/{self.scope}/{self.owner}/{self.amount}/1/{_WINDOWS[self.measure][1]}"
        return Take(name, self.amount, self.window_s, cost)


Charge = Sequence[tuple[Rule, int]]
"""How much was counted of which rules."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a rule.

    Attributes:
        resets_s: when all of it is back if nothing more is asked for (seconds).
    """

    rule: Rule
    remaining: int
    resets_s: int


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request this is.

    Attributes:
        limits: of the key, where they differ from everyone's.
        key_hash: SHA-256 of the key; "" where `GLEANER_AUTH=off`.
        session: SHA-256 of the browser's session that stands for the key; "" where the key itself came.
        standings: of the rules that this request was held against, by name; for its answer's headers.
    """

    key_id: str
    tenant: str
    role: Role
    limits: KeyLimits = field(default_factory=KeyLimits)
    key_hash: str = field(default="", repr=False)
    session: str = field(default="", repr=False)
    standings: dict[str, Standing] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class _Window:
    """The state of a sliding window: counts of the last one and of this one, and how long each still matters."""

    previous: int
    previous_s: float
    current: int
    current_s: float

    def used(self, expiry: float) -> int:
        return math.floor(self.previous * self.previous_s / expiry) + self.current

    def fits_in(self, rule: Rule, cost: int) -> float:
        """Seconds until `cost` fits, if nothing else is asked for meanwhile."""
        expiry, free = float(rule.window_s), rule.amount - cost
        if free - self.current >= 0:
            wanted = (free - self.current + 1) * expiry / max(1, self.previous)
            return max(0.0, self.previous_s - wanted)
        until_shift = max(0.0, self.current_s - expiry)
        return until_shift + max(0.0, expiry - (free + 1) * expiry / max(1, self.current))


class Limiter:
    """Holds requests against the rules of who sends them.

    Args:
        settings: everyone's limits.
        ledger: where is counted.
    """

    def __init__(self, settings: GatewaySettings, ledger: AsyncLedger) -> None:
        self._settings = settings
        self._ledger = ledger

    def rules(self, caller: Caller, *measures: Measure) -> list[Rule]:
        """The rules of a caller for these measures (default all), the key's before its tenant's."""
        found: list[Rule] = []
        for measure in measures or _SETTINGS:
            field_name = _SETTINGS[measure]
            of_key = getattr(caller.limits, field_name) or getattr(self._settings, f"key_{field_name}")
            of_tenant = getattr(self._settings, f"tenant_{field_name}")
            if of_key:
                found.append(Rule(measure, "key", caller.key_id, of_key))
            if of_tenant:
                found.append(Rule(measure, "tenant", caller.tenant, of_tenant))
        return found

    async def admit(self, caller: Caller, *, submits: bool, cost: int = 1) -> None:
        """Count one request.

        Args:
            caller: whose.
            submits: it makes a job; all others are reads.
            cost: what a read costs the store, in reads of one job.

        Raises:
            Problem: rate_limited.
            LedgerUnavailableError: the store does not answer.
        """
        costs: dict[Measure, int] = {"requests": 1, "submits": 1} if submits else {"requests": 1, "reads": cost}
        await self._take(caller, costs)

    async def charge(self, caller: Caller, documents: int, characters: int) -> Charge:
        """Count a job's documents and characters; what is not made a job of them after all is to be given back.

        Raises:
            Problem: quota_exceeded.
            LedgerUnavailableError: the store does not answer.
        """
        return await self._take(caller, {"documents": documents, "characters": characters})

    async def give_back(self, charge: Charge) -> None:
        """Take back what was counted, as far as the store answers."""
        if charge:
            with contextlib.suppress(LedgerUnavailableError):
                await self._ledger.run(take_rates([rule.take(-cost) for rule, cost in charge]))

    async def failed_attempt(self, address: str) -> None:
        """Count a bad key from an address.

        Raises:
            Problem: rate_limited. A good key from the same address still passes: it may be one of many behind it,
                and 256 random bits are not guessed at any rate.
        """
        if not self._settings.auth_failures_per_minute:
            return
        rule = Rule("failures", "address", network(address), self._settings.auth_failures_per_minute)
        with contextlib.suppress(LedgerUnavailableError):
            taken = await self._ledger.run(take_rates([rule.take(1)]))
            if taken.refused is not None:
                raise Problem(
                    "rate_limited",
                    "too many attempts with bad keys from this address",
                    headers={"Retry-After": _seconds(_window(taken.windows[0]).fits_in(rule, 1))},
                )

    async def standings(self, caller: Caller) -> list[Standing]:
        """What is left of every rule of a caller.

        Raises:
            LedgerUnavailableError: the store does not answer.
        """
        rules = self.rules(caller)
        if not rules:
            return []
        taken = await self._ledger.run(take_rates([rule.take(0) for rule in rules]))
        return [_standing(rule, _window(window)) for rule, window in zip(rules, taken.windows, strict=True)]

    async def _take(self, caller: Caller, costs: Mapping[Measure, int]) -> Charge:
        """Count all of it or nothing; the standings end with the rule that has no room, if one has none."""
        charge = [(rule, _cost(rule, costs[rule.measure])) for rule in self.rules(caller, *costs)]
        if not charge:
            return charge
        taken = await self._ledger.run(take_rates([rule.take(cost) for rule, cost in charge]))
        windows = [_window(window) for window in taken.windows]
        last = len(charge) if taken.refused is None else taken.refused + 1
        for (rule, _), window in list(zip(charge, windows, strict=True))[:last]:
            caller.standings[rule.name] = _standing(rule, window)
        if taken.refused is None:
            return charge
        rule, cost = charge[taken.refused]
        raise _refusal(caller.standings[rule.name], windows[taken.refused], cost)


def _cost(rule: Rule, cost: int) -> int:
    """Return what a rule counts: a read that costs more than the rule allows takes all there is."""
    return min(cost, rule.amount) if rule.measure == "reads" else cost


def _refusal(standing: Standing, window: _Window, cost: int) -> Problem:
    rule = standing.rule
    left = f"{standing.remaining} of {rule.amount} {rule.measure} are left to your {rule.scope}"
    if cost > rule.amount:
        return Problem(_CODES[rule.measure], f"{left}, {cost} are more than it may ever have at once")
    return Problem(
        _CODES[rule.measure],
        f"{left} in {_window_name(rule)}",
        headers={"Retry-After": _seconds(window.fits_in(rule, cost))},
    )


def _window(window: RateWindow) -> _Window:
    return _Window(window.previous, window.previous_ms / 1000, window.current, window.current_ms / 1000)


def max_stored_bytes(settings: GatewaySettings, caller: Caller) -> int:
    """Return the most bytes that the caller's tenant may keep in the store when this key adds to it; 0: any."""
    return caller.limits.stored_bytes or settings.tenant_max_stored_bytes


def quota_of_stored(stored_bytes: int, most: int) -> Problem:
    """Return the refusal of what would make a tenant keep more than `most` bytes."""
    detail = (
        f"your tenant keeps {stored_bytes} bytes of the {most} it may, too many to add this; DELETE jobs whose "
        "results you have read and endpoints you do not use, or ask for a shorter result_ttl_s"
    )
    return Problem("quota_exceeded", detail, headers={"Retry-After": "10"})


def headers(standings: Iterable[Standing]) -> dict[str, str]:
    """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) of these rules."""
    listed = list(standings)
    if not listed:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{s.rule.name}";q={s.rule.amount};w={s.rule.window_s}' for s in listed),
        "RateLimit": ", ".join(f'"{s.rule.name}";r={s.remaining};t={s.resets_s}' for s in listed),
    }


def _standing(rule: Rule, window: _Window) -> Standing:
    left = max(0, rule.amount - window.used(rule.window_s))
    resets = window.current_s if window.current > 0 else window.previous_s if window.previous > 0 else 0.0
    return Standing(rule, left, math.ceil(resets))


def _seconds(wait: float) -> str:
    return str(max(1, math.ceil(wait)))


def _window_name(rule: Rule) -> str:
    return {1: "a second", 60: "a minute"}.get(rule.window_s, "24 hours")


def network(address: str) -> str:
    """Return what counts as one address: an IPv6 subscriber has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
