"""The ledger's Redis: down, full, or without a valid append-only file or a replica."""

from __future__ import annotations

from collections.abc import Mapping

from alerts.model import CELL, Alert, Case, Group, in_cells, move_namespace

_CLAIM = {"persistentvolumeclaim": "data-gleaner-valkey-0"}
_VOLUMES = '{persistentvolumeclaim=~"data-.+-valkey-[0-9]+"}'
_FREE = " / ".join(
    f"max by ({CELL}, persistentvolumeclaim) ({move_namespace(f'kubelet_volume_stats_{name}_bytes{_VOLUMES}')})"
    for name in ("available", "capacity")
)


def _volume(free: int, labels: Mapping[str, str] | None = None, value: str = "") -> Case:
    """Return a case with a volume of which `free` percent are free."""
    of = 'namespace="a",persistentvolumeclaim="data-gleaner-valkey-0"'
    return Case(
        {
            f"kubelet_volume_stats_available_bytes{{{of}}}": f"{free}x20",
            f"kubelet_volume_stats_capacity_bytes{{{of}}}": "100x20",
            'gleaner_store_up{namespace="a"}': "1x20",
        },
        "15m",
        labels or {},
        value,
    )


GROUP = Group(
    "gleaner-store",
    (
        Alert(
            name="GleanerRedisDown",
            expr=f"max by ({CELL}) (gleaner_store_up) == 0 or max by ({CELL}) (gleaner_store_down) == 1",
            after="1m",
            severity="page",
            team="platform",
            summary="The ledger's Redis does not answer.",
            description="Nothing can be submitted (503), read or run. No accepted job is lost.",
            board="overview",
            fires=Case(
                {'gleaner_store_up{namespace="a"}': "0x5", 'gleaner_store_up{namespace="b"}': "1x5"},
                "3m",
                {"namespace": "a"},
            ),
            quiet=Case({"gleaner_store_up": "1x5", "gleaner_store_down": "0x5"}, "3m"),
        ),
        Alert(
            name="GleanerRedisMemoryHigh",
            expr=f"max by ({CELL}) (gleaner_store_memory_bytes / (gleaner_store_memory_limit_bytes > 0)) > 0.8",
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
            expr=f"max by ({CELL}) (gleaner_store_durable) == 0",
            after="5m",
            severity="page",
            team="platform",
            summary="The append-only file of Redis is off or failing.",
            description="It is off, or its last write or rewrite failed: a crash of Redis would lose accepted jobs.",
            board="resources",
            fires=Case({"gleaner_store_durable": "0x10"}, "7m"),
            quiet=Case({"gleaner_store_durable": "1x10"}, "7m"),
        ),
        Alert(
            name="GleanerReplicaMissing",
            expr=f"max by ({CELL}) (gleaner_store_replicas) < "
            f"max by ({CELL}) (max_over_time(gleaner_store_replicas[6h]))",
            after="10m",
            severity="ticket",
            team="platform",
            summary="The ledger's Redis has lost a replica.",
            description="{{ $value }} replicas are connected, fewer than in the last six hours. Without one, nothing "
            "takes over when the master fails, and with durability replica submissions are answered 503.",
            board="resources",
            fires=Case({'gleaner_store_replicas{namespace="a"}': "1x5 0x20"}, "20m", {"namespace": "a"}, "0"),
            quiet=Case({"gleaner_store_replicas": "0x20"}, "20m"),
        ),
        Alert(
            name="GleanerLedgerVolumeFilling",
            expr=in_cells(f"{_FREE} < 0.2"),
            after="10m",
            severity="page",
            team="platform",
            summary="The ledger's volume is nearly full.",
            description="{{ $value | humanizePercentage }} of {{ $labels.persistentvolumeclaim }} is free. A rewrite of "
            "the append-only file needs room for a second one; on a full disk Redis refuses every write.",
            board="resources",
            fires=_volume(15, {**_CLAIM, "namespace": "a"}, "15%"),
            quiet=_volume(30),
        ),
    ),
)
