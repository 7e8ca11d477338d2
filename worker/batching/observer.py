"""The micro-batcher's numbers, for whoever wants them."""

from __future__ import annotations


class Observer:
    """Where the numbers go; this one drops them."""

    def microbatch(self, windows: int, jobs: int, real: int, padded: int) -> None:
        """A micro-batch is about to run: its windows, the jobs they belong to, tokens without and with padding."""

    def stage(self, stage: str, seconds: float) -> None:
        """A stage (`collate`, `forward`, `decode`) took this long."""

    def out_of_memory(self, action: str) -> None:
        """The device was full; `split` or `failed` says what was done."""
