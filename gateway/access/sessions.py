"""A browser's sessions: a random token in a cookie, which stands for an API key while the key is good.

The ledger keeps the token's hash with the key's, and forgets both at sign-out or after the session's lifetime. The
key itself never lies in the browser's cookies.
"""

from __future__ import annotations

import hashlib
import secrets

from starlette.requests import Request

from gateway.settings import GatewaySettings
from jobs.ledger import AsyncLedger
from jobs.ledger.access import session_begin, session_end, session_key

LEGACY_COOKIE = "gleaner_api_key"
"""Held the API key itself in versions up to 0.1; never read, removed at sign-in and sign-out."""
_COOKIE = "gleaner_session"
_PREFIX = "gs_"
_MAX_CHARACTERS = 128


class Sessions:
    """Begins, finds and ends sessions.

    Args:
        ledger: where they are kept.
        settings: read once by the caller.
    """

    def __init__(self, ledger: AsyncLedger, settings: GatewaySettings) -> None:
        self._ledger = ledger
        self._https = settings.https != "off"
        self.lifetime_s = settings.session_lifetime_s

    async def begin(self, key_hash: str) -> str:
        """Begin a session of a key; the token for the cookie, which cannot be had again.

        Raises:
            LedgerUnavailableError: the store does not answer.
        """
        token = _PREFIX + secrets.token_urlsafe(32)
        await self._ledger.run(session_begin(_digest(token), key_hash, self.lifetime_s))
        return token

    async def find(self, token: str) -> tuple[str, str] | None:
        """Return the hashes of the session and of its key, or None if there is no such session.

        Raises:
            LedgerUnavailableError: the store does not answer.
        """
        if len(token) > _MAX_CHARACTERS or not token.isascii() or not token.startswith(_PREFIX):
            return None
        session = _digest(token)
        key_hash = await self._ledger.run(session_key(session))
        return (session, key_hash) if key_hash else None

    async def lives(self, session: str) -> bool:
        """Return whether the session with this hash has not ended.

        Raises:
            LedgerUnavailableError: the store does not answer.
        """
        return await self._ledger.run(session_key(session)) != ""

    async def end(self, token: str) -> None:
        """End a session; nothing happens if there is none.

        Raises:
            LedgerUnavailableError: the store does not answer.
        """
        await self._ledger.run(session_end(_digest(token)))

    def is_secure(self, request: Request) -> bool:
        """Return whether the browser came, or has to come, over https."""
        return self._https or request.url.scheme == "https"

    def cookie_name(self, request: Request) -> str:
        """Return the name of the cookie; over https one that no sibling domain and no plain HTTP can plant."""
        return f"__Host-{_COOKIE}" if self.is_secure(request) else _COOKIE


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
