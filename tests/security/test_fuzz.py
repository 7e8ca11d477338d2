"""Every parser of outside bytes refuses unreadable input, in time and memory linear in its size."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.harness import Target, check, fuzz
from tests.fuzz.targets import make_targets

TARGETS = make_targets()
SECONDS = float(os.environ.get("FUZZ_S", "60")) / len(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_of_outside_bytes_keeps_its_bounds(name: str) -> None:
    """A parser raises its refusals only, within CPU and memory linear in the input; `make fuzz` shrinks."""
    assert fuzz(TARGETS[name], SECONDS, int(os.environ.get("FUZZ_SEED", "0")))


@pytest.mark.parametrize("fault", ["exception", "time", "memory"])
def test_the_harness_finds_faults(fault: str) -> None:
    """A parser that breaks on a bracket, or takes quadratic time or much memory, is found within seconds."""

    def broken(data: bytes) -> None:
        if fault == "exception" and b"]" in data:
            raise KeyError
        if fault == "time":
            [data.count(b"\1") for _ in data]
        if fault == "memory":
            [bytearray(64) for _ in range(len(data) * 3)]

    target = Target(
        (b"[1]",) if fault != "exception" else (b"1",), broken, (ValueError,), cpu_s=0.03, cpu_s_per_mb=1
    )
    with pytest.raises((AssertionError, KeyError)):
        fuzz(target, 20)
    check(target, b"1")
