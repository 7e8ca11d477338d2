"""Names derived from a model's name: its slug (keys, queues, Kubernetes) and its two queues."""

from __future__ import annotations

import hashlib
import re
from functools import cache

from jobs.schema import Priority

WEBHOOK_QUEUE = "gleaner.webhooks"
WIRE_VERSION = 3
"""The newest version of ledger records that this code reads, and all before it. A job is written with the lowest
that says what it asks for (`jobs.shards.wire_version`), so that older workers take what they understand.

1: the first. 2: options `redact` and `explain`. 3: option `merge_adjacent`.
"""


@cache
def model_slug(model: str) -> str:
    """The model's name as used in keys, queues and Kubernetes names.

    Lower case, runs of anything but `[a-z0-9]` made `-`; 6 hex of its SHA-256 behind it if that changed the name,
    so that two models never share a slug.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return plain if plain == model else f"{plain}-{hashlib.sha256(model.encode()).hexdigest()[:6]}"


def queue_name(model: str, priority: Priority) -> str:
    """The Celery queue of a model's jobs of this priority."""
    return f"gleaner.{model_slug(model)}.{priority.value}"
