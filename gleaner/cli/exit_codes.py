"""Exit codes of all commands, and the exception of a command that cannot be run.

Exit codes: 0 success; 1 some documents failed, or the local stack failed; 2 the command or its files are invalid;
3 the gateway could not be reached or refused the request; 130 interrupted.
"""

from __future__ import annotations

from typing import Final

DOCUMENTS_FAILED: Final = 1
STACK_FAILED: Final = 1
USAGE: Final = 2
GATEWAY: Final = 3
INTERRUPTED: Final = 130


class CommandError(Exception):
    """The command cannot be run with these arguments; `str()` says why and what to do."""
