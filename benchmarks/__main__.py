"""Run all benchmarks: the same texts on the same cores, contestants in turn, medians of rounds.

`python -m benchmarks [--quick] [--only SECTION …] [--commit]`. Prints tables next to the committed figures and
lists slower results; writes .cache/figures.json (not with --quick), with --commit this machine's file in
benchmarks/measured, the tables of docs/reference/performance.md and its plot.
"""

from __future__ import annotations

import argparse
import copy
import signal
import sys
import time
import warnings
from pathlib import Path

from benchmarks import figures, peers
from benchmarks.figures import Figures
from benchmarks.measurements.contests import QUICK, Size
from benchmarks.sections import SECTIONS

OUTPUT = Path(__file__).parents[1] / ".cache" / "figures.json"


def main() -> None:
    """Run the benchmarks, print tables, write figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rough figures, in about three minutes")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--commit", action="store_true", help="update the committed figures and plot")
    parser.add_argument("--install-serve", action="store_true", help="create gliner.serve's environment first")
    arguments = parser.parse_args()
    if arguments.quick and arguments.commit:
        parser.error("--quick figures are too rough to commit; omit one of the two options")
    if arguments.install_serve:
        peers.GlinerServe.install()
    now = Figures.new()
    committed = Figures.read(figures.figures_path(now.machine))
    if len(arguments.only) < len(SECTIONS):  # the other sections are taken from this machine's previous run
        last = Figures.read(OUTPUT)
        before = last if last.machine == now.machine else copy.deepcopy(committed)
        now.speeds, now.values = before.speeds, before.values
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # children end with their context managers
    warnings.simplefilter("ignore")  # from gliner and torch
    for name in arguments.only:
        began = time.monotonic()
        SECTIONS[name](now, QUICK if arguments.quick else Size())
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        if not arguments.quick:
            now.write(OUTPUT)
    print(f"\n{now.machine}, {now.taken}")
    print("\n".join(figures.format_tables(now, committed)))
    for line in figures.find_regressions(now, committed):
        print(f"SLOWER than committed: {line}")
    if arguments.commit:
        figures.publish_figures(now)


if __name__ == "__main__":
    main()
