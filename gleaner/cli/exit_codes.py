"""Exceptions -> a sentence on standard error and an exit code, in one place for all commands.

Exit codes: 0 all is well; 1 some documents failed, or the local stack did not start or broke; 2 the command or its
files are wrong; 3 the gateway could not be reached or refused; 130 interrupted.
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
    """The command cannot be done as it was given; `str()` says why and what to do."""


def explain(failure: GleanerError) -> str:
    """A gateway's failure for the person at the keyboard, with what to do where that is known."""
    if isinstance(failure, AuthenticationError):
        return f"the gateway does not accept the key; check --key or GLEANER_API_KEY ({failure.code})"
    if isinstance(failure, PermissionDenied):
        return f"the key's role may not do this: {failure.detail}"
    if isinstance(failure, TransportError):
        return f"the gateway cannot be reached: {failure}"
    if isinstance(failure, ApiError) and failure.retry_after is not None:
        return f"{failure}\n  it asks to try again in {failure.retry_after:.0f} s"
    return str(failure)
