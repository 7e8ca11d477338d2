"""`make pictures`: a service with the shipped model at work for two minutes -> docs/pictures/*.png.

The panels are the dashboards' own, asked of the Prometheus that scraped that run.
"""

from __future__ import annotations

import io
import math
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from alerts import panels
from alerts.widgets import Board, Panel
from gleaner.demo.samples import load_samples
from tests.conftest import ROOT
from tests.operations.conftest import WEBHOOKS, Watched
from tests.operations.gameday import tool
from tests.support.processes.harness import ServiceHarness, wait_for
from tests.support.processes.monitoring import Monitoring, monitoring
from tests.support.servers.receivers import receiving

SHOWN = ("overview", "queue", "model", "webhooks")
INTO = ROOT / "docs" / "pictures"
RUN_S = 120.0
INTERVAL = "10s"
"""What `$__rate_interval` stands for, at a scrape a second."""
STYLE: Mapping[str, Any] = {
    "axes.edgecolor": "#9aa0a6",
    "axes.prop_cycle": cycler(color=["#1f6f8b", "#d1603d", "#5b8c5a", "#8e5ea2", "#c9a227", "#555555"]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 8,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.3,
}
MOST_LINES = 6
STEP_S = 1
SHORT = 2000
LABELS = ["person", "organization", "location", "date"]


def work(watched: Watched) -> float:
    """Run a quiet start, a flood and a second worker that helps; return the start, in Unix seconds."""
    began, texts = time.time(), [sample.text for sample in load_samples() if len(sample.text) < SHORT]
    hook, broken = watched.receiver.url("/hook"), watched.receiver.url("/500")
    while (past := time.time() - began) < RUN_S:
        if 25 < past < 40:
            watched.submit(texts * 30, labels=LABELS, priority="standard", webhook={"url": broken})
        if past > 50 and len(watched.harness.of("worker")) == 1:
            worker(watched.harness)
            watched.monitoring.watch(watched.harness)
        watched.submit(texts[:2], labels=LABELS, priority="interactive", webhook={"url": hook})
        watched.submit([*texts[:6], " "], labels=LABELS, priority="standard", webhook={"url": hook})
        time.sleep(0.7)
    return began


def worker(harness: ServiceHarness) -> None:
    """Start one with the shipped model."""
    harness.start("worker", "worker", {**harness.by_socket(), "GLEANER_WORKER_SLOTS": "32"})


def draw(board: Board, monitoring: Monitoring, began: float, ended: float) -> bytes:
    """Draw a dashboard's lines as a PNG."""
    chosen = [panel for panel in board.panels if not panel.elsewhere and not panel.single][:8]
    rows = (len(chosen) + 1) // 2
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 1.9 * rows), dpi=100, layout="constrained", facecolor="white")
        places = list(figure.subplots(rows, 2, squeeze=False).flat)
        for panel, axes in zip(chosen, places, strict=False):
            plot(axes, panel, lines(panel, monitoring, began, ended))
        for axes in places[len(chosen) :]:
            axes.set_axis_off()
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png")
    small = io.BytesIO()
    Image.open(drawn).convert("RGB").quantize(48).save(small, format="png", optimize=True)
    return small.getvalue()


def lines(panel: Panel, monitoring: Monitoring, began: float, ended: float) -> dict[str, list[tuple[float, float]]]:
    """Legend to (second of the run, value)."""
    points = {}
    for expr, legend in panel.queries.items():
        query = {
            "query": expr.replace("$__rate_interval", INTERVAL),
            "start": str(began),
            "end": str(ended),
            "step": str(STEP_S),
        }
        answer = httpx.get(f"{monitoring.url}/api/v1/query_range", params=query, timeout=20, trust_env=False)
        for series in answer.json()["data"]["result"]:
            name = re.sub(r"{{(\w+)}}", lambda m, of=series["metric"]: of.get(m[1], ""), legend)
            points[name] = [(float(at) - began, float(value)) for at, value in series["values"] if value != "NaN"]
    return points


def plot(axes: Axes, panel: Panel, series: Mapping[str, list[tuple[float, float]]]) -> None:
    """Draw a panel."""
    busiest = sorted(series.items(), key=lambda line: -max((value for _, value in line[1]), default=0.0))
    for name, points in busiest[:MOST_LINES]:
        axes.plot(*zip(*gaps(points), strict=True), label=name) if points else None
    axes.set_title(panel.title, loc="left")
    axes.set_xlim(0, RUN_S)
    highest = max((value for points in series.values() for _, value in points), default=0.0)
    axes.set_ylim(0, 1.05 * highest or 1)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, panel.unit)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} s"))
    axes.grid(axis="y", color="#e3e5e8", linewidth=0.6)
    if len(series) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1.01, 0.97), ncols=3, borderpad=0)


def gaps(points: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield the points, with a break where samples are missing."""
    for (at, value), (following, _) in pairwise([*points, (points[-1][0], 0.0)]):
        yield at, value
        if following - at > STEP_S:
            yield at + STEP_S, math.nan


def written(value: float, unit: str) -> str:
    """Format a value for people."""
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s":
        return f"{value * 1000:.0f} ms" if 0 < value < 1 else f"{value:g} s"
    short = f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
    return short + {"ops": "/s", "reqps": "/s"}.get(unit, "")


def main() -> None:
    """Run the service, monitor it, and draw the dashboards."""
    directory = Path(tempfile.mkdtemp(prefix="gleaner-pictures-"))
    harness = ServiceHarness()
    harness.settings |= WEBHOOKS
    try:
        with receiving() as receiver, monitoring(tool, directory, "") as watch:
            gateway = harness.gateway()
            worker(harness)
            harness.courier()
            wait_for(lambda: all(child.ready() for child in harness.children), 120, "all are ready")
            watch.watch(harness)
            wait_for(lambda: len(watch.query("up == 1")) == 3, 30, "all three are scraped")
            began = work(Watched(harness, watch, receiver, gateway.url))
            INTO.mkdir(exist_ok=True)
            for board in (board for board in panels.BOARDS if board.name in SHOWN):
                (INTO / f"{board.name}.png").write_bytes(draw(board, watch, began, began + RUN_S))
    finally:
        harness.close()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
