"""How much a key and a tenant may ask for: requests and submissions a second, documents and characters a day.

Sliding windows of the `limits` library in the ledger's server, so that all gateways count together; where nothing
is limited nothing is asked of the server. Open jobs are counted by the ledger itself (`create`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import redis.asyncio
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from redis.exceptions import RedisError

from gateway.guard import GuardedLedger
from gateway.problems import Problem, ProblemCode
from gateway.settings import GatewaySettings
from jobs.keys import KeyLimits, Role
from jobs.ledger import LedgerUnavailableError
from jobs.ledger.store import PREFIX

T = TypeVar("T")
Scope = Literal["key", "tenant", "address"]
Measure = Literal["requests", "submits", "documents", "characters", "failures"]

_CODES: dict[Measure, ProblemCode] = {
    "requests": "rate_limited",
    "submits": "rate_limited",
    "failures": "rate_limited",
    "documents": "quota_exceeded",
    "characters": "quota_exceeded",
}
_WINDOWS: dict[Measure, type[RateLimitItem]] = {
    "requests": RateLimitItemPerSecond,
    "submits": RateLimitItemPerSecond,
    "failures": RateLimitItemPerMinute,
    "documents": RateLimitItemPerDay,
    "characters": RateLimitItemPerDay,
}
_SETTINGS: dict[Measure, str] = {
    "requests": "requests_per_s",
    "submits": "submits_per_s",
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
    def item(self) -> RateLimitItem:
        """The rule as `limits` knows it."""
        return _WINDOWS[self.measure](self.amount)

    @property
    def window_s(self) -> int:
        """Length of its window (seconds)."""
        return self.item.get_expiry()

    @property
    def key(self) -> str:
        """Where it is counted; a change of the amount begins a new count of its own."""
        return self.item.key_for(self.measure, self.scope, self.owner)


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
        standings: of the rules that this request was held against, by name; for its answer's headers.
    """

    key_id: str
    tenant: str
    role: Role
    limits: KeyLimits = field(default_factory=KeyLimits)
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
        client: of the ledger's database.
        settings: everyone's limits.
        ledger: whose deadline and breaker the counts are under, too.
    """

    def __init__(self, client: redis.asyncio.Redis, settings: GatewaySettings, ledger: GuardedLedger) -> None:
        options = {"connection_pool": client.connection_pool}
        self._storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=f"{PREFIX}limit",
            **options,  # type: ignore[arg-type]  # its options are typed for URLs
        )
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

    async def admit(self, caller: Caller, *, submits: bool) -> None:
        """Count one request.

        Raises:
            Problem: rate_limited.
            LedgerUnavailableError: the store does not answer.
        """
        measures: tuple[Measure, ...] = ("requests", "submits") if submits else ("requests",)
        for rule in self.rules(caller, *measures):
            await self._take(caller, rule, 1)

    async def charge(self, caller: Caller, documents: int, characters: int) -> Charge:
        """Count a job's documents and characters; what is not made a job of them after all is to be given back.

        Raises:
            Problem: quota_exceeded.
            LedgerUnavailableError: the store does not answer.
        """
        costs: dict[Measure, int] = {"documents": documents, "characters": characters}
        taken: list[tuple[Rule, int]] = []
        try:
            for rule in self.rules(caller, *costs):
                await self._take(caller, rule, costs[rule.measure])
                taken.append((rule, costs[rule.measure]))
        except BaseException:
            await self.give_back(taken)
            raise
        return taken

    async def give_back(self, charge: Charge) -> None:
        """Take back what was counted, as far as the store answers."""
        for rule, cost in charge:
            with contextlib.suppress(LedgerUnavailableError):
                await self._hit(rule, -cost)

    async def failed_attempt(self, address: str) -> None:
        """Count a bad key from an address.

        Raises:
            Problem: rate_limited. A good key from the same address still passes: it may be one of many behind it,
                and 256 random bits are not guessed at any rate.
        """
        if not self._settings.auth_failures_per_minute:
            return
        rule = Rule("failures", "address", _network(address), self._settings.auth_failures_per_minute)
        with contextlib.suppress(LedgerUnavailableError):
            if not await self._hit(rule, 1):
                window = await self._window(rule)
                raise Problem(
                    "rate_limited",
                    "too many attempts with bad keys from this address",
                    headers={"Retry-After": _seconds(window.fits_in(rule, 1))},
                )

    async def standings(self, caller: Caller) -> list[Standing]:
        """What is left of every rule of a caller.

        Raises:
            LedgerUnavailableError: the store does not answer.
        """
        rules = self.rules(caller)
        windows = await asyncio.gather(*(self._window(rule) for rule in rules))
        return [_standing(rule, window) for rule, window in zip(rules, windows, strict=True)]

    async def _take(self, caller: Caller, rule: Rule, cost: int) -> None:
        passed = await self._hit(rule, cost)
        window = await self._window(rule)
        standing = caller.standings[rule.name] = _standing(rule, window)
        if passed:
            return
        left = f"{standing.remaining} of {rule.amount} {rule.measure} are left to your {rule.scope}"
        if cost > rule.amount:
            raise Problem(_CODES[rule.measure], f"{left}, {cost} are more than it may ever have at once")
        raise Problem(
            _CODES[rule.measure],
            f"{left} in {_window_name(rule)}",
            headers={"Retry-After": _seconds(window.fits_in(rule, cost))},
        )

    async def _hit(self, rule: Rule, cost: int) -> bool:
        async def work() -> bool:
            return await self._storage.acquire_sliding_window_entry(rule.key, rule.amount, rule.window_s, cost)

        return await self._asked(work)

    async def _window(self, rule: Rule) -> _Window:
        async def work() -> _Window:
            return _Window(*await self._storage.get_sliding_window(rule.key, rule.window_s))

        return await self._asked(work)

    async def _asked(self, work: Callable[[], Awaitable[T]]) -> T:
        async def translated() -> T:
            try:
                return await work()
            except (RedisError, OSError) as error:
                raise LedgerUnavailableError(f"limits: {type(error).__name__}") from error

        return await self._ledger.guarded("limits", translated)


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


def _network(address: str) -> str:
    """What counts as one address: an IPv6 subscriber has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
