"""The local stack behind `gleaner up` and `gleaner demo`: the whole service as child processes on this machine.

Only the standard library and httpx are imported here; other packages are checked when a stack starts, and a missing
one raises `MissingExtra`, which names the extra to install.
"""

from gleaner.localstack.datadir import DEFAULT, DataDir
from gleaner.localstack.errors import (
    AlreadyRunning,
    Interrupted,
    MissingExtra,
    PortInUse,
    ServerUnreachable,
    StackError,
    StartFailed,
)
from gleaner.localstack.local import Event, LocalStack
from gleaner.localstack.plan import StackOptions

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
