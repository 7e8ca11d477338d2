"""Every measurement of this house in one run: the same texts, the same cores, turn about, medians of rounds.

`python -m benchmarks [--quick] [--only SECTION …] [--commit]`. Prints tables beside the committed figures and
says what became slower; writes .cache/figures.json (not with --quick), with --commit this machine's file in
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
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look, in under two minutes")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--commit", action="store_true", help="write the figures and the plot that are committed")
    parser.add_argument("--install-serve", action="store_true", help="make gliner.serve's environment first")
    arguments = parser.parse_args()
    if arguments.quick and arguments.commit:
        parser.error("a quick look is nothing to commit")
    if arguments.install_serve:
        peers.GlinerServe.install()
    now = Figures.new()
    committed = Figures.read(figures.committed(now.machine))
    if len(arguments.only) < len(SECTIONS):  # the other sections are those of this machine's run before
        last = Figures.read(OUTPUT)
        before = last if last.machine == now.machine else copy.deepcopy(committed)
        now.speeds, now.values = before.speeds, before.values
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # children end with their blocks
    warnings.simplefilter("ignore")  # gliner's and torch's own
    for name in arguments.only:
        began = time.monotonic()
        SECTIONS[name](now, QUICK if arguments.quick else Size())
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        if not arguments.quick:
            now.write(OUTPUT)
    print(f"\n{now.machine}, {now.taken}")
    print("\n".join(figures.tables(now, committed)))
    for line in figures.regressions(now, committed):
        print(f"SLOWER than committed: {line}")
    if arguments.commit:
        figures.publish(now)


if __name__ == "__main__":
    main()
