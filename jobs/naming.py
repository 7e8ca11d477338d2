"""Names derived from a model's name: its slug (Redis keys, queues, Kubernetes) and its two queues."""

from __future__ import annotations

import hashlib
import re
from functools import cache

from jobs.schema import Priority

WEBHOOK_QUEUE = "gleaner.webhooks"
WIRE_VERSION = 4
"""Newest version of ledger records that this code reads; it reads all older ones too. A job is written with the
lowest version that its options need (`jobs.shards.wire_version`), so that older workers take the jobs they
understand.

1: the first. 2: options `redact` and `explain`. 3: option `merge_adjacent`.
"""


@cache
def model_slug(model: str) -> str:
    """Return the model's name as used in Redis keys, queues and Kubernetes names.

    Lower case, with `-` for runs of other characters than `[a-z0-9]`; if that changed the name, 6 hex digits of its
    SHA-256 are appended, so that two models never share a slug.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return plain if plain == model else f"{plain}-{hashlib.sha256(model.encode()).hexdigest()[:6]}"


def queue_name(model: str, priority: Priority) -> str:
    """Return the name of the Celery queue of a model and priority."""
    return f"gleaner.{model_slug(model)}.{priority.value}"
