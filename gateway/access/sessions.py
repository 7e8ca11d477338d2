"""Browser sessions: a random token in a cookie, which stands for an API key while the key is valid.

The ledger maps the token's hash to the key's until sign-out or the end of the session's lifetime. The key itself is
never in a cookie.
"""

from __future__ import annotations

import hashlib
import secrets

from gateway.settings import GatewaySettings
from jobs.ledger import AsyncLedger
from jobs.ledger.access import begin_session, end_session, find_session_key

LEGACY_COOKIE = "gleaner_api_key"
"""Contained the API key itself in versions up to 0.1; never read, removed at sign-in and sign-out."""
_COOKIE = "gleaner_session"
_PREFIX = "gs_"
_MAX_CHARACTERS = 128


class Sessions:
    """Begins, finds and ends sessions.

    Args:
        ledger: stores the sessions.
        settings: read once by the caller.
    """

    def __init__(self, ledger: AsyncLedger, settings: GatewaySettings) -> None:
        self._ledger = ledger
        self._https = settings.https != "off"
        self.lifetime_s = settings.session_lifetime_s

    async def begin_session(self, key_hash: str) -> str:
        """Begin a session of a key; return the token for the cookie, which is not stored.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        token = _PREFIX + secrets.token_urlsafe(32)
        await self._ledger.run(begin_session(_digest(token), key_hash, self.lifetime_s))
        return token

    async def find_session(self, token: str) -> tuple[str, str] | None:
        """Return the hashes of the session and of its key, or None if it does not exist.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        if len(token) > _MAX_CHARACTERS or not token.isascii() or not token.startswith(_PREFIX):
            return None
        session = _digest(token)
        key_hash = await self._ledger.run(find_session_key(session))
        return (session, key_hash) if key_hash else None

    async def is_active(self, session: str) -> bool:
        """Return whether the session with this hash still exists.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        return await self._ledger.run(find_session_key(session)) != ""

    async def end_session(self, token: str) -> None:
        """End a session, if it exists.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        await self._ledger.run(end_session(_digest(token)))

    def is_secure(self, scheme: str) -> bool:
        """Return whether the browser uses, or has to use, https."""
        return self._https or scheme == "https"

    def cookie_name(self, scheme: str) -> str:
        """Return the cookie's name; over https one that sibling domains and plain HTTP cannot set."""
        return f"__Host-{_COOKIE}" if self.is_secure(scheme) else _COOKIE


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
