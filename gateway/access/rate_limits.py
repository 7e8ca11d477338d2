"""Rate limits of keys and tenants: requests, reads and submits per second, documents and characters per day.

Sliding windows in the ledger, so that all gateways count together. All limits of a request are counted in one round
trip to Redis; without limits there is none. Open jobs are counted by the ledger itself (`create_job`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.access.caller import Caller
from gateway.errors import ErrorCode, GatewayError
from gateway.settings import GatewaySettings
from jobs.ledger import AsyncLedger, LedgerUnavailableError
from jobs.ledger.access import RateWindow, Take, take_rates
from jobs.observability.metrics import GatewayMetrics

Scope = Literal["key", "tenant", "address"]
Measure = Literal["requests", "submits", "reads", "documents", "characters", "failures"]

_CODES: dict[Measure, ErrorCode] = {
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
"""Length (seconds) and name of the window of each measure."""
_SETTINGS: dict[Measure, str] = {
    "requests": "requests_per_s",
    "submits": "submits_per_s",
    "reads": "reads_per_s",
    "documents": "documents_per_day",
    "characters": "characters_per_day",
}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The amount of a measure that one key, tenant or address may use in a window."""

    measure: Measure
    scope: Scope
    owner: str
    amount: int

    @property
    def name(self) -> str:
        """Name in the RateLimit headers."""
        return f"{self.measure}-{self.scope}"

    @property
    def window_s(self) -> int:
        """Length of the window (seconds)."""
        return _WINDOWS[self.measure][0]

    def count_command(self, cost: int) -> Take:
        """Return the ledger command that counts `cost`; a changed amount begins a new count."""
        name = f"LIMITER/{self.measure}/{self.scope}/{self.owner}/{self.amount}/1/{_WINDOWS[self.measure][1]}"
        return Take(name, self.amount, self.window_s, cost)


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """Remaining amount of a rate limit.

    Attributes:
        resets_s: time until the whole amount is available again without further requests (seconds).
    """

    limit: RateLimit
    remaining: int
    resets_s: int


@dataclass(frozen=True, slots=True)
class Charge:
    """The counted costs of a request or a job.

    Attributes:
        costs: cost counted against each limit.
        statuses: the limits' status after that.
    """

    costs: Sequence[tuple[RateLimit, int]] = ()
    statuses: Sequence[RateLimitStatus] = ()


class RateLimitError(GatewayError):
    """A request exceeds a rate limit.

    Attributes:
        statuses: status of the limits that were checked; the last one is exceeded.
    """

    def __init__(self, statuses: Sequence[RateLimitStatus], cost: int, retry_after_s: float) -> None:
        self.statuses = statuses
        status = statuses[-1]
        limit = status.limit
        remaining = f"your {limit.scope} has {status.remaining} of {limit.amount} {limit.measure} left"
        if cost > limit.amount:
            super().__init__(_CODES[limit.measure], f"{remaining}, and {cost} are more than the whole limit")
        else:
            detail = f"{remaining} in {_window_name(limit)}"
            super().__init__(_CODES[limit.measure], detail, retry_after_s=retry_after_s)


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """State of a sliding window: counts of the previous and the current one, and their remaining times."""

    previous: int
    previous_s: float
    current: int
    current_s: float

    def used_amount(self, expiry: float) -> int:
        """Return the amount used, with the previous window weighted by its remaining time (seconds)."""
        return math.floor(self.previous * self.previous_s / expiry) + self.current

    def retry_after(self, limit: RateLimit, cost: int) -> float:
        """Return the seconds until `cost` is available without further requests."""
        expiry, free = float(limit.window_s), limit.amount - cost
        if free - self.current >= 0:
            needed_s = (free - self.current + 1) * expiry / max(1, self.previous)
            return max(0.0, self.previous_s - needed_s)
        until_shift = max(0.0, self.current_s - expiry)
        return until_shift + max(0.0, expiry - (free + 1) * expiry / max(1, self.current))


class Limiter:
    """Counts requests against the rate limits of their callers.

    Args:
        settings: the default limits.
        ledger: counts.
        metrics: counts the refusals.
    """

    def __init__(self, settings: GatewaySettings, ledger: AsyncLedger, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._ledger = ledger
        self._metrics = metrics

    def limits_of(self, caller: Caller, *measures: Measure) -> list[RateLimit]:
        """Return a caller's limits of these measures (default all), the key's before its tenant's."""
        limits: list[RateLimit] = []
        for measure in measures or _SETTINGS:
            field_name = _SETTINGS[measure]
            key_amount = getattr(caller.limits, field_name) or getattr(self._settings, f"key_{field_name}")
            tenant_amount = getattr(self._settings, f"tenant_{field_name}")
            if key_amount:
                limits.append(RateLimit(measure, "key", caller.key_id, key_amount))
            if tenant_amount:
                limits.append(RateLimit(measure, "tenant", caller.tenant, tenant_amount))
        return limits

    async def admit_request(self, caller: Caller, *, submits: bool, cost: int = 1) -> Sequence[RateLimitStatus]:
        """Count one request; return the status of the limits that it was counted against.

        Args:
            caller: the sender.
            submits: the request creates a job; all others are reads.
            cost: cost of a read for Redis, in reads of one job.

        Raises:
            RateLimitError: rate_limited.
            LedgerUnavailableError: Redis does not answer.
        """
        costs: dict[Measure, int] = {"requests": 1, "submits": 1} if submits else {"requests": 1, "reads": cost}
        return (await self._count_costs(caller, costs)).statuses

    async def charge_job(self, caller: Caller, documents: int, cost: int) -> Charge:
        """Count a job's documents and cost (`jobs.cost`); pass the charge to `refund` if the job is not created.

        Raises:
            RateLimitError: quota_exceeded.
            LedgerUnavailableError: Redis does not answer.
        """
        return await self._count_costs(caller, {"documents": documents, "characters": cost})

    async def refund(self, charge: Charge) -> None:
        """Undo a charge, if Redis answers."""
        if charge.costs:
            with contextlib.suppress(LedgerUnavailableError):
                await self._ledger.run(take_rates([limit.count_command(-cost) for limit, cost in charge.costs]))

    async def count_failed_attempt(self, address: str) -> None:
        """Count an attempt with a bad key from an address.

        Raises:
            GatewayError: rate_limited. A good key from the same address is still accepted: many clients may share
                the address, and 256 random bits cannot be guessed at any rate.
        """
        if not self._settings.auth_failures_per_minute:
            return
        limit = RateLimit("failures", "address", client_network(address), self._settings.auth_failures_per_minute)
        with contextlib.suppress(LedgerUnavailableError):
            counts = await self._ledger.run(take_rates([limit.count_command(1)]))
            if counts.refused is not None:
                raise GatewayError(
                    "rate_limited",
                    "too many attempts with invalid keys from this address",
                    retry_after_s=_parse_window(counts.windows[0]).retry_after(limit, 1),
                )

    async def read_statuses(self, caller: Caller) -> list[RateLimitStatus]:
        """Return the status of every limit of a caller, without counting.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        limits = self.limits_of(caller)
        if not limits:
            return []
        counts = await self._ledger.run(take_rates([limit.count_command(0) for limit in limits]))
        return [_status(limit, _parse_window(window)) for limit, window in zip(limits, counts.windows, strict=True)]

    async def _count_costs(self, caller: Caller, costs: Mapping[Measure, int]) -> Charge:
        """Count all costs or none.

        Raises:
            RateLimitError: a limit is exceeded.
            LedgerUnavailableError: Redis does not answer.
        """
        charged = [(limit, _cap_cost(limit, costs[limit.measure])) for limit in self.limits_of(caller, *costs)]
        if not charged:
            return Charge()
        counts = await self._ledger.run(take_rates([limit.count_command(cost) for limit, cost in charged]))
        windows = [_parse_window(window) for window in counts.windows]
        statuses = [_status(limit, window) for (limit, _), window in zip(charged, windows, strict=True)]
        if counts.refused is None:
            return Charge(charged, statuses)
        limit, cost = charged[counts.refused]
        self._metrics.limited.labels(limit.measure, limit.scope).inc()
        retry_after_s = windows[counts.refused].retry_after(limit, cost)
        raise RateLimitError(statuses[: counts.refused + 1], cost, retry_after_s)


def _cap_cost(limit: RateLimit, cost: int) -> int:
    """Return the counted cost: a read that costs more than the whole limit uses all of it."""
    return min(cost, limit.amount) if limit.measure == "reads" else cost


def _parse_window(window: RateWindow) -> SlidingWindow:
    return SlidingWindow(window.previous, window.previous_ms / 1000, window.current, window.current_ms / 1000)


def max_stored_bytes(settings: GatewaySettings, caller: Caller) -> int:
    """Return the most bytes that the caller's tenant may store when this key adds to them; 0 is no limit."""
    return caller.limits.stored_bytes or settings.tenant_max_stored_bytes


def stored_quota_error(stored_bytes: int, max_bytes: int) -> GatewayError:
    """Return the error of a request that would make a tenant store more than `max_bytes`."""
    detail = (
        f"your tenant stores {stored_bytes} of at most {max_bytes} bytes, too many to add this; DELETE jobs whose "
        "results you have read and endpoints you do not use, or set a shorter result_ttl_s"
    )
    return GatewayError("quota_exceeded", detail, retry_after_s=10)


def _status(limit: RateLimit, window: SlidingWindow) -> RateLimitStatus:
    remaining = max(0, limit.amount - window.used_amount(limit.window_s))
    resets = window.current_s if window.current > 0 else window.previous_s if window.previous > 0 else 0.0
    return RateLimitStatus(limit, remaining, math.ceil(resets))


def _window_name(limit: RateLimit) -> str:
    return {1: "a second", 60: "a minute"}.get(limit.window_s, "24 hours")


def client_network(address: str) -> str:
    """Return the network that is counted as one address: a /64 for IPv6, which one subscriber has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
