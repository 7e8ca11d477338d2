"""Authentication, sessions and rate limits of callers."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.api_keys import KeyLimits, Role


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated sender of a request.

    Attributes:
        limits: the key's limits where they differ from the defaults.
        key_hash: SHA-256 of the key; "" with `GLEANER_AUTH=off`.
        session: SHA-256 of the browser session used instead of the key; "" without one.
    """

    key_id: str
    tenant: str
    role: Role
    limits: KeyLimits = field(default_factory=KeyLimits)
    key_hash: str = field(default="", repr=False)
    session: str = field(default="", repr=False)
