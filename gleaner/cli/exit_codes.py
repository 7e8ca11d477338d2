"""Exit codes of all commands, and the sentences for the client's exceptions.

Exit codes: 0 success; 1 some documents failed, or the local stack failed; 2 the command or its files are invalid;
3 the gateway could not be reached or refused the request; 130 interrupted.
"""

from __future__ import annotations

from typing import Final

from gleaner.errors import ApiError, AuthenticationError, GleanerError, PermissionDenied, TransportError

DOCUMENTS_FAILED: Final = 1
STACK_FAILED: Final = 1
USAGE: Final = 2
GATEWAY: Final = 3
INTERRUPTED: Final = 130


class CommandError(Exception):
    """The command cannot be run with these arguments; `str()` says why and what to do."""


def explain_error(failure: GleanerError) -> str:
    """Return a sentence about a failed request and, if known, how to fix it."""
    if isinstance(failure, AuthenticationError):
        return f"the gateway rejected the key; check --key or GLEANER_API_KEY ({failure.code})"
    if isinstance(failure, PermissionDenied):
        return f"the key's role does not allow this; use another key: {failure.detail}"
    if isinstance(failure, TransportError):
        return f"the gateway cannot be reached: {failure} (is it running? check --url)"
    if isinstance(failure, ApiError) and failure.retry_after is not None:
        return f"{failure}\n  try again in {failure.retry_after:.0f} s"
    return str(failure)
