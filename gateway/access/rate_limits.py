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

from gateway.access import Caller
from gateway.errors import ErrorCode, GatewayError
from gateway.settings import GatewaySettings
from jobs.ledger import AsyncLedger, LedgerUnavailableError
from jobs.ledger.access import RateWindow, Take, take_rates
from jobs.observability.metrics import GatewayMetrics

Scope = Literal["key", "tenant", "address"]
Measure = Literal["requests", "submits", "reads", "documents", "characters", "failures"]

_DAY_S = 86_400
_WINDOWS: dict[Measure, tuple[int, str]] = {
    "requests": (1, "second"),
    "submits": (1, "second"),
    "reads": (1, "second"),
    "failures": (60, "minute"),
    "documents": (_DAY_S, "day"),
    "characters": (_DAY_S, "day"),
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
        code: ErrorCode = "quota_exceeded" if limit.window_s == _DAY_S else "rate_limited"
        if cost > limit.amount:
            super().__init__(code, f"{remaining}, and {cost} are more than the whole limit")
        else:
            window = "24 hours" if limit.window_s == _DAY_S else "a second"
            super().__init__(code, f"{remaining} in {window}", retry_after_s=retry_after_s)


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
                    retry_after_s=find_retry_after(limit, counts.windows[0], 1),
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
        return [build_status(limit, window) for limit, window in zip(limits, counts.windows, strict=True)]

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
        statuses = [build_status(limit, window) for (limit, _), window in zip(charged, counts.windows, strict=True)]
        if counts.refused is None:
            return Charge(charged, statuses)
        limit, cost = charged[counts.refused]
        self._metrics.limited.labels(limit.measure, limit.scope).inc()
        retry_after_s = find_retry_after(limit, counts.windows[counts.refused], cost)
        raise RateLimitError(statuses[: counts.refused + 1], cost, retry_after_s)


def _cap_cost(limit: RateLimit, cost: int) -> int:
    """Return the counted cost: a read that costs more than the whole limit uses all of it."""
    return min(cost, limit.amount) if limit.measure == "reads" else cost


def max_stored_bytes(settings: GatewaySettings, caller: Caller) -> int:
    """Return the most bytes that the caller's tenant may store when this key adds to them; 0 is no limit."""
    return caller.limits.stored_bytes or settings.tenant_max_stored_bytes


def stored_quota_error(stored_bytes: int, max_bytes: int) -> GatewayError:
    """Return the error of a request that would make a tenant store more than `max_bytes`."""
    detail = (
        f"your tenant stores {stored_bytes} of at most {max_bytes} bytes, too many to add this; DELETE jobs whose "
        "results you have read, endpoints and label sets you do not use, or set a shorter result_ttl_s"
    )
    return GatewayError("quota_exceeded", detail, retry_after_s=10)


def build_status(limit: RateLimit, window: RateWindow) -> RateLimitStatus:
    """Return the status of a limit; the previous window counts in proportion to its remaining time."""
    used = math.floor(window.previous * window.previous_ms / (1000 * limit.window_s)) + window.current
    resets_ms = window.current_ms if window.current > 0 else window.previous_ms if window.previous > 0 else 0
    return RateLimitStatus(limit, max(0, limit.amount - used), math.ceil(resets_ms / 1000))


def find_retry_after(limit: RateLimit, window: RateWindow, cost: int) -> float:
    """Return the seconds until `cost` is available without further requests."""
    window_s, free = float(limit.window_s), limit.amount - cost
    if free >= window.current:
        needed_s = (free - window.current + 1) * window_s / max(1, window.previous)
        return max(0.0, window.previous_ms / 1000 - needed_s)
    until_shift_s = max(0.0, window.current_ms / 1000 - window_s)
    return until_shift_s + max(0.0, window_s - (free + 1) * window_s / max(1, window.current))


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
