"""What was measured: kept as JSON by machine, shown as tables and a plot, compared with that machine's before."""

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
"""A file for each machine: between processors even ratios differ, by what each of them is good at."""
PLOT = HERE.parent / "docs" / "pictures" / "performance.svg"
PAGE = HERE.parent / "docs" / "reference" / "performance.md"
BEGIN, END = "<!-- written by python -m benchmarks --commit -->", "<!-- end -->"
BASE = "inference, batch 8"
"""What the others are a multiple of: the library as most people call it."""
SLOWER = 0.9
"""Below this part of the committed multiple something became slower."""


@dataclass(frozen=True, slots=True)
class Speed:
    """One contestant on one mix with one model.

    Attributes:
        rates: documents a second of each round.
        cpu_ms: CPU milliseconds a document by part, medians of the rounds.
        fill: real tokens in all tokens; None where nobody counted.
        differ: documents whose spans are not those of `predict_entities` one by one; None where that did not run.
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
        """Documents a second."""
        return statistics.median(self.rates)


@dataclass(frozen=True, slots=True)
class Value:
    """A single figure; `target` is the bound it is meant to keep, as people write it."""

    name: str
    value: float
    unit: str = ""
    target: str = ""

    @property
    def kept(self) -> bool | None:
        """Whether the target is kept; None without one."""
        if not self.target:
            return None
        sign, bound = self.target.split()[:2]
        return self.value <= float(bound) if sign == "<=" else self.value >= float(bound)


@dataclass
class Figures:
    """Everything of one run, by section."""

    machine: str = ""
    taken: str = ""
    speeds: list[Speed] = field(default_factory=list)
    values: dict[str, list[Value]] = field(default_factory=dict)

    @classmethod
    def new(cls) -> Figures:
        """Nothing yet, on this machine, now."""
        return cls(machine(), datetime.now(UTC).date().isoformat())

    @classmethod
    def read(cls, file: Path) -> Figures:
        """What was written; nothing where there is no file."""
        if not file.exists():
            return cls()
        data = json.loads(file.read_text())
        return cls(
            data["machine"],
            data["taken"],
            [Speed(**one) for one in data["speeds"]],
            {section: [Value(**one) for one in values] for section, values in data["values"].items()},
        )

    def write(self, file: Path) -> None:
        """Keep it, rounded to what it can mean."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(_rounded(asdict(self)), indent=1) + "\n")

    def put(self, speeds: Sequence[Speed]) -> None:
        """Add speeds in place of older ones of the same model, mix and contestant."""
        new = {_key(one) for one in speeds}
        self.speeds = [one for one in self.speeds if _key(one) not in new] + list(speeds)

    def multiple(self, speed: Speed) -> float | None:
        """Of the library's speed on the same mix and model."""
        base = self.find(speed.model, speed.mix, BASE)
        return speed.median / base.median if base else None

    def find(self, model: str, mix: str, contestant: str) -> Speed | None:
        """One speed."""
        return next((one for one in self.speeds if _key(one) == (model, mix, contestant)), None)


def _key(speed: Speed) -> tuple[str, str, str]:
    return speed.model, speed.mix, speed.contestant


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def machine() -> str:
    """Cores, processor and what it can do; no names of hosts."""
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


def committed(here: str, folder: Path = COMMITTED) -> Path:
    """The file of a machine."""
    return folder / f"{re.sub('[^a-z0-9]+', '-', here.lower()).strip('-')}.json"


def tables(now: Figures, committed: Figures | None = None) -> Iterator[str]:
    """Lines of Markdown: a table for each model and mix, and one for each section of values.

    Args:
        now: what is shown.
        committed: what it is shown beside, in a last column.
    """
    old, last = committed or Figures(), " committed |" if committed else ""
    for model, mix in dict.fromkeys((one.model, one.mix) for one in now.speeds):
        rows = [one for one in now.speeds if (one.model, one.mix) == (model, mix)]
        yield from ("", f"**{model}, {mix}**", "")
        yield "| | documents/s | spread | times library | fill | differ | CPU ms a document |" + last
        yield "|---|---|---|---|---|---|---|" + "---|" * bool(committed)
        for one in rows:
            before = old.find(*_key(one))
            yield _row(now, one) + (f" {before.median:.1f} |" if before else " |" * bool(committed))
    for section, values in now.values.items():
        was = {one.name: one for one in old.values.get(section, [])}
        yield from ("", f"**{section}**", "", "| | | target |" + last, "|---|---|---|" + "---|" * bool(committed))
        for one in values:
            verdict = {None: "", True: " ✓", False: " ✗"}[one.kept]
            row = f"| {one.name} | {_short(one.value)} {one.unit} | {one.target}{verdict} |"
            then = f" {_short(was[one.name].value)} |" if one.name in was else " |"
            yield row + then * bool(committed)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}" if abs(value) >= 10 else f"{value:.2f}"


def _row(now: Figures, one: Speed) -> str:
    multiple = now.multiple(one)
    cells = (
        one.contestant,
        f"{one.median:.1f}",
        f"{min(one.rates):.1f}-{max(one.rates):.1f}",
        f"{multiple:.2f}" if multiple else "",
        f"{one.fill:.2f}" if one.fill else "",
        "" if one.differ is None else f"{one.differ}",
        " ".join(f"{part} {ms:.1f}" for part, ms in one.cpu_ms.items()),
    )
    return f"| {' | '.join(cells)} |"


def regressions(now: Figures, committed: Figures) -> Iterator[str]:
    """What lost a tenth or more of its multiple of the library's speed, which another machine would not change."""
    for one in now.speeds:
        before = committed.find(*_key(one))
        was, ratio = (committed.multiple(before) if before else None), now.multiple(one)
        if was and ratio and ratio < SLOWER * was:
            yield f"{one.model}, {one.mix}, {one.contestant}: {ratio:.2f} times the library, was {was:.2f}"


def publish(now: Figures, folder: Path = COMMITTED, page: Path = PAGE, picture: Path = PLOT) -> None:
    """Keep the figures: as JSON, as the plot, and in the page about performance, with those of other machines."""
    now.write(committed(now.machine, folder))
    plot(now, picture)
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    everyone = sorted(map(Figures.read, folder.glob("*.json")), key=lambda one: one.taken, reverse=True)
    shown = [line for one in everyone for line in (f"### {one.machine}, {one.taken}", *tables(one), "")]
    page.write_text("\n".join([before + BEGIN, "", *shown, END + after]), encoding="utf-8")


def plot(figures: Figures, file: Path = PLOT) -> None:
    """Speeds on the usual mix, and the growth of speed with workers."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    rows = [one for one in figures.speeds if (one.model, one.mix) == ("gleaner-small", "lognormal")][::-1]
    colours = ["tab:blue" if one.contestant.startswith("gleaner") else "tab:grey" for one in rows]
    spread = [[one.median - min(one.rates) for one in rows], [max(one.rates) - one.median for one in rows]]
    left.barh([one.contestant for one in rows], [one.median for one in rows], xerr=spread, color=colours)
    left.set_xlabel("documents a second (gleaner-small, lognormal lengths)")
    left.set_title(figures.machine, fontsize=9)
    growth = {one.name: one.value for one in figures.values.get("scale", [])}
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
    right.set_xlabel("workers (a model that only takes its time)")
    right.set_ylabel("documents a second")
    right.set_ylim(bottom=0)
    right.legend()
    drawing.savefig(file, metadata={"Date": None})
