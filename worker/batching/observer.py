"""Interface through which the micro-batcher reports its numbers."""

from __future__ import annotations

from worker.protocols import LabelCounts


class Observer:
    """Receives the numbers; this one ignores them."""

    def record_batch(self, windows: int, jobs: int, real: int, padded: int) -> None:
        """Record a micro-batch that is about to run: windows, jobs, tokens without and with padding."""

    def record_stage(self, stage: str, seconds: float) -> None:
        """Record the duration of a stage (`collate`, `forward`, `decode`)."""

    def record_labels(self, counts: LabelCounts) -> None:
        """Record how many vectors of labels were computed for a micro-batch, and how many were there."""

    def record_out_of_memory(self, action: str) -> None:
        """Record that the device's memory was full; `action` is `split` or `failed`."""
