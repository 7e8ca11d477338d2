"""Render every overlay into a folder, for tools that read files: `python -m scripts.render DIR`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import helm_python as helm
import yaml

CHART = Path(__file__).parents[1] / "charts" / "gleaner"
COMMIT = "0" * 40
"""Stands for the model's commit that `values-prod.yaml` leaves to its user."""


def main(target: Path) -> None:
    """Write DIR/<overlay>.yaml each."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in sorted(CHART.glob("values-*.yaml")):
        values = yaml.safe_load(path.read_text())
        for model in values.get("models", {}).values():
            if model.get("revision") == "":
                model["revision"] = COMMIT
        with helm.Chart.load(str(CHART)) as chart:
            texts = chart.render(values, name="gleaner", namespace="gleaner")
        documents = [
            text for name, text in sorted(texts.items()) if not name.endswith("NOTES.txt") and text.strip()
        ]
        (target / path.name.removeprefix("values-")).write_text("\n---\n".join(documents))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
