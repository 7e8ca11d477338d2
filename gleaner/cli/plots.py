"""Numbers -> pictures, by matplotlib where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gleaner.cli.exit_codes import CommandError
from gleaner.evaluation import STEPS, Judged
from gleaner.evaluation import sweep as swept

_MOST_LABELS = 10
"""More lines than these nobody can tell apart; those with the most gold are drawn."""


def sweep(path: Path, documents: Sequence[Judged], labels: Sequence[str]) -> None:
    """Draw precision, recall and F1 by threshold, and each label's F1.

    Raises:
        CommandError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CommandError("--plot needs matplotlib: pip install 'gleaner-ner[eval]'") from None
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    whole, each = figure.subplots(1, 2, sharey=True)
    choices = swept(documents, STEPS)
    for name in ("precision", "recall", "f1"):
        whole.plot(STEPS, [getattr(one.quality, name) for one in choices], label=name)
    drawn = [(swept(documents, STEPS, label), label) for label in labels]
    for by_label, label in sorted(drawn, key=lambda one: -one[0][0].quality.gold)[:_MOST_LABELS]:
        each.plot(STEPS, [one.quality.f1 for one in by_label], label=label)
    for axes, title in ((whole, "all labels"), (each, "F1 by label")):
        axes.set(title=title, xlabel="threshold", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend()
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as failure:
        raise CommandError(f"{path}: {failure.strerror or failure}") from None
