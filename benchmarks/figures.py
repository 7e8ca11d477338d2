"""Measured figures: stored as JSON by machine, shown as tables and a plot, compared with committed ones."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMMITTED = HERE / "measured"
"""Folder with one file per machine: even ratios differ between processors."""
PLOT = HERE.parent / "docs" / "pictures" / "performance.svg"
PAGE = HERE.parent / "docs" / "reference" / "performance.md"
BEGIN, END = "<!-- written by python -m benchmarks --commit -->", "<!-- end -->"
BASE = "inference, batch 8"
"""Contestant that speeds are compared with: the library as most people call it."""
SLOWER = 0.9
"""Share of the committed multiple below which a result counts as slower."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed of a contestant on a mix with a model.

    Attributes:
        rates: documents per second of each round.
        cpu_ms: CPU milliseconds per document by part, medians of the rounds.
        fill: share of real tokens in all tokens; None where not counted.
        differ: documents whose spans differ from those of `predict_entities` one by one; None if that did not run.
    """

    model: str
    mix: str
    contestant: str
    documents: int
    rates: list[float]
    cpu_ms: dict[str, float]
    fill: float | None = None
    differ: int | None = None

    @property
    def median(self) -> float:
        """Documents per second, median of the rounds."""
        return statistics.median(self.rates)


@dataclass(frozen=True, slots=True)
class Value:
    """A single figure; `target` is its bound, such as `<= 6`."""

    name: str
    value: float
    unit: str = ""
    target: str = ""

    @property
    def meets_target(self) -> bool | None:
        """True if the figure meets its target; None without a target."""
        if not self.target:
            return None
        sign, bound = self.target.split()[:2]
        return self.value <= float(bound) if sign == "<=" else self.value >= float(bound)


@dataclass
class Figures:
    """All figures of a run, by section."""

    machine: str = ""
    taken: str = ""
    speeds: list[Speed] = field(default_factory=list)
    values: dict[str, list[Value]] = field(default_factory=dict)

    @classmethod
    def new(cls) -> Figures:
        """Return empty figures for this machine and day."""
        return cls(describe_machine(), datetime.now(UTC).date().isoformat())

    @classmethod
    def read(cls, file: Path) -> Figures:
        """Read figures from a file; return empty ones if it does not exist."""
        if not file.exists():
            return cls()
        data = json.loads(file.read_text())
        return cls(
            data["machine"],
            data["taken"],
            [Speed(**speed) for speed in data["speeds"]],
            {section: [Value(**value) for value in values] for section, values in data["values"].items()},
        )

    def write(self, file: Path) -> None:
        """Write the figures to a file, rounded to four digits."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(_round_floats(asdict(self)), indent=1) + "\n")

    def replace_speeds(self, speeds: Sequence[Speed]) -> None:
        """Add speeds, replacing those of the same model, mix and contestant."""
        new = {_key(speed) for speed in speeds}
        self.speeds = [speed for speed in self.speeds if _key(speed) not in new] + list(speeds)

    def multiple_of_library(self, speed: Speed) -> float | None:
        """Return the speed as a multiple of the library's on the same mix and model."""
        base = self.find_speed(speed.model, speed.mix, BASE)
        return speed.median / base.median if base else None

    def find_speed(self, model: str, mix: str, contestant: str) -> Speed | None:
        """Return the contestant's speed, if it was measured."""
        return next((speed for speed in self.speeds if _key(speed) == (model, mix, contestant)), None)


def _key(speed: Speed) -> tuple[str, str, str]:
    return speed.model, speed.mix, speed.contestant


def _round_floats(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _round_floats(item) for key, item in value.items()}
    return [_round_floats(item) for item in value] if isinstance(value, list) else value


def describe_machine() -> str:
    """Return the number of cores, the processor and its features; no host names."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    pairs = (line.partition(":") for line in text.splitlines())
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    flags = facts.get("flags", "").split()
    wide = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "")
    extra = [wide, "bf16" if {"avx512_bf16", "amx_bf16"} & set(flags) else ""]
    model = re.sub(r"\((R|TM)\)| Processor", "", facts.get("model name", platform.machine()))
    virtual = "VM" if "hypervisor" in flags else ""
    parts = [f"{len(os.sched_getaffinity(0))} cores", f"{model} {virtual}".strip(), *extra]
    return ", ".join(part for part in parts if part)


def figures_path(machine: str, folder: Path = COMMITTED) -> Path:
    """Return the path of a machine's file."""
    return folder / f"{re.sub('[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"


def format_tables(now: Figures, committed: Figures | None = None) -> Iterator[str]:
    """Yield lines of Markdown: a table for each model and mix, and one for each section of values.

    Args:
        now: the figures.
        committed: shown in an additional last column.
    """
    old, last = committed or Figures(), " committed |" if committed else ""
    for model, mix in dict.fromkeys((speed.model, speed.mix) for speed in now.speeds):
        rows = [speed for speed in now.speeds if (speed.model, speed.mix) == (model, mix)]
        yield from ("", f"**{model}, {mix}**", "")
        yield "| | documents/s | spread | times library | fill | differ | CPU ms per document |" + last
        yield "|---|---|---|---|---|---|---|" + "---|" * bool(committed)
        for speed in rows:
            before = old.find_speed(*_key(speed))
            yield _format_row(now, speed) + (f" {before.median:.1f} |" if before else " |" * bool(committed))
    for section, values in now.values.items():
        was = {value.name: value for value in old.values.get(section, [])}
        yield from ("", f"**{section}**", "", "| | | target |" + last, "|---|---|---|" + "---|" * bool(committed))
        for value in values:
            verdict = {None: "", True: " ✓", False: " ✗"}[value.meets_target]
            row = f"| {value.name} | {_format_number(value.value)} {value.unit} | {value.target}{verdict} |"
            then = f" {_format_number(was[value.name].value)} |" if value.name in was else " |"
            yield row + then * bool(committed)


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}" if abs(value) >= 10 else f"{value:.2f}"


def _format_row(now: Figures, speed: Speed) -> str:
    multiple = now.multiple_of_library(speed)
    cells = (
        speed.contestant,
        f"{speed.median:.1f}",
        f"{min(speed.rates):.1f}-{max(speed.rates):.1f}",
        f"{multiple:.2f}" if multiple else "",
        f"{speed.fill:.2f}" if speed.fill else "",
        "" if speed.differ is None else f"{speed.differ}",
        " ".join(f"{part} {ms:.1f}" for part, ms in speed.cpu_ms.items()),
    )
    return f"| {' | '.join(cells)} |"


def find_regressions(now: Figures, committed: Figures) -> Iterator[str]:
    """Yield a line for each contestant that lost a tenth or more of its multiple of the library's speed."""
    for speed in now.speeds:
        before = committed.find_speed(*_key(speed))
        was = committed.multiple_of_library(before) if before else None
        ratio = now.multiple_of_library(speed)
        if was and ratio and ratio < SLOWER * was:
            yield f"{speed.model}, {speed.mix}, {speed.contestant}: {ratio:.2f} times the library, was {was:.2f}"


def publish_figures(now: Figures, folder: Path = COMMITTED, page: Path = PAGE, picture: Path = PLOT) -> None:
    """Write the figures as JSON and plot, and the tables of all machines into the page about performance."""
    now.write(figures_path(now.machine, folder))
    draw_plot(now, picture)
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    machines = sorted(map(Figures.read, folder.glob("*.json")), key=lambda figures: figures.taken, reverse=True)
    lines = [line for run in machines for line in (f"### {run.machine}, {run.taken}", *format_tables(run), "")]
    page.write_text("\n".join([before + BEGIN, "", *lines, END + after]), encoding="utf-8")


def draw_plot(figures: Figures, file: Path = PLOT) -> None:
    """Draw speeds on the usual mix, and the growth of speed with the number of workers."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    rows = [speed for speed in figures.speeds if (speed.model, speed.mix) == ("gleaner-small", "lognormal")][::-1]
    colours = ["tab:blue" if speed.contestant.startswith("gleaner") else "tab:grey" for speed in rows]
    spread = [[row.median - min(row.rates) for row in rows], [max(row.rates) - row.median for row in rows]]
    left.barh([row.contestant for row in rows], [row.median for row in rows], xerr=spread, color=colours)
    left.set_xlabel("documents per second (gleaner-small, lognormal lengths)")
    left.set_title(figures.machine, fontsize=9)
    growth = {value.name: value.value for value in figures.values.get("scale", [])}
    for kind, style in (("measured", "o-"), ("predicted", "x--")):
        points = [
            (int(name.split()[0]), value) for name, value in growth.items() if name.endswith(f"workers, {kind}")
        ]
        if points:
            right.plot(*zip(*sorted(points), strict=True), style, label=kind)
    if not right.lines:
        right.remove()
        drawing.savefig(file, metadata={"Date": None})
        return
    right.set_xlabel("workers (with a model that only waits)")
    right.set_ylabel("documents per second")
    right.set_ylim(bottom=0)
    right.legend()
    drawing.savefig(file, metadata={"Date": None})
