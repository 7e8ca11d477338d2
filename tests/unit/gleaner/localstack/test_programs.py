"""The programs of a stack, and the order in which they stop."""

from __future__ import annotations

from pathlib import Path

from gleaner.localstack import programs
from jobs.process.programs import Program, plan_stop


def test_the_server_stops_last(tmp_path: Path) -> None:
    """Flower, gateway, workers together, courier, server: whoever still writes finds the server."""
    listed = [
        programs.server_program(tmp_path, tmp_path, tmp_path),
        programs.courier_program(1),
        *(programs.worker_program(n, 2, 1) for n in (1, 2)),
        programs.gateway_program(1, 2),
        programs.flower_program(1, "u", "p"),
    ]

    assert [group.names for group in plan_stop(Program(**program.to_json()) for program in listed)] == [
        ("flower",),
        ("gateway",),
        ("worker-1", "worker-2"),
        ("courier",),
        ("server",),
    ]
