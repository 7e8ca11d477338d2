"""The local stack behind `gleaner up` and `gleaner demo`: the whole service as child processes on this machine.

Only the standard library and httpx are imported here; what else it needs is looked for when a stack starts, and
a missing package is `MissingExtra`, which names the extra to install.
"""

from gleaner.stack.blueprint import StackOptions
from gleaner.stack.datadir import DEFAULT, DataDir
from gleaner.stack.errors import (
    AlreadyRunning,
    Interrupted,
    MissingExtra,
    PortInUse,
    ServerUnreachable,
    StackError,
    StartFailed,
)
from gleaner.stack.local import Event, LocalStack

__all__ = [
    "DEFAULT",
    "AlreadyRunning",
    "DataDir",
    "Event",
    "Interrupted",
    "LocalStack",
    "MissingExtra",
    "PortInUse",
    "ServerUnreachable",
    "StackError",
    "StackOptions",
    "StartFailed",
]
