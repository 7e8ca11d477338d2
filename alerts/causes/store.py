"""The ledger's Redis: down, full, or without a valid append-only file."""

from __future__ import annotations

from alerts.model import Alert, Case, Group

GROUP = Group(
    "gleaner-store",
    (
        Alert(
            name="GleanerRedisDown",
            expr="max(gleaner_store_up) == 0 or max(gleaner_store_down) == 1",
            after="1m",
            severity="page",
            team="platform",
            summary="The ledger's Redis does not answer.",
            description="Nothing can be submitted (503), read or run. No accepted job is lost.",
            board="overview",
            fires=Case({"gleaner_store_up": "0x5"}, "3m"),
            quiet=Case({"gleaner_store_up": "1x5", "gleaner_store_down": "0x5"}, "3m"),
        ),
        Alert(
            name="GleanerRedisMemoryHigh",
            expr="max(gleaner_store_memory_bytes / (gleaner_store_memory_limit_bytes > 0)) > 0.8",
            after="5m",
            severity="page",
            team="platform",
            summary="The ledger's Redis is nearly full.",
            description="{{ $value | humanizePercentage }} of maxmemory is used. From 70 % on new jobs are refused with 503.",
            board="resources",
            fires=Case(
                {"gleaner_store_memory_bytes": "85x10", "gleaner_store_memory_limit_bytes": "100x10"},
                "7m",
                value="85%",
            ),
            quiet=Case({"gleaner_store_memory_bytes": "85x10", "gleaner_store_memory_limit_bytes": "0x10"}, "7m"),
        ),
        Alert(
            name="GleanerAofFailing",
            expr="max(gleaner_store_durable) == 0",
            after="5m",
            severity="page",
            team="platform",
            summary="The append-only file of Redis is off or failing.",
            description="It is off, or its last write or rewrite failed: a crash of Redis would lose accepted jobs.",
            board="resources",
            fires=Case({"gleaner_store_durable": "0x10"}, "7m"),
            quiet=Case({"gleaner_store_durable": "1x10"}, "7m"),
        ),
    ),
)
