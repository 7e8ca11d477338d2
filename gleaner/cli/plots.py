"""Plots of an evaluation, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gleaner.cli.exit_codes import CommandError
from gleaner.evaluation import STEPS, Judged, sweep

_MAX_LABELS = 10
"""More lines could not be distinguished; the labels with the most gold entities are drawn."""


def plot_sweep(path: Path, documents: Sequence[Judged], labels: Sequence[str]) -> None:
    """Draw precision, recall and F1 by threshold, and each label's F1.

    Raises:
        CommandError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CommandError("--plot requires matplotlib: pip install 'gleaner-ner[eval]'") from None
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    overall, by_label = figure.subplots(1, 2, sharey=True)
    choices = sweep(documents, STEPS)
    for name in ("precision", "recall", "f1"):
        overall.plot(STEPS, [getattr(choice.quality, name) for choice in choices], label=name)
    drawn = [(sweep(documents, STEPS, label), label) for label in labels]
    for label_choices, label in sorted(drawn, key=lambda item: -item[0][0].quality.gold)[:_MAX_LABELS]:
        by_label.plot(STEPS, [choice.quality.f1 for choice in label_choices], label=label)
    for axes, title in ((overall, "all labels"), (by_label, "F1 by label")):
        axes.set(title=title, xlabel="threshold", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend()
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as failure:
        raise CommandError(f"{path}: {failure.strerror or failure}") from None
