"""`python -m tests.support.processes.gateway`: the real gateway, stopped between write and push."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from gateway.__main__ import main
from jobs.queue.publisher import QueuePublisher


def never(*_: object) -> asyncio.Future[None]:
    """Say that the moment has come, and do nothing more."""
    Path(os.environ["TEST_STRIKE"]).touch()
    return asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    QueuePublisher.inline_push = lambda *_: None  # as where the broker is another server
    QueuePublisher.push = never
    sys.exit(main())
