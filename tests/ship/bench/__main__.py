"""`python -m tests.ship.bench [--run]`: prints what was checked in every rendering, and what was found.

With `--run` each rendering is installed, tried and scaled to zero, too.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.conftest import TOOLS
from tests.ship.bench.cases import CASES, list_pools, render
from tests.ship.bench.checks import CHECKS
from tests.ship.bench.runs import run_case


def find_tool(name: str) -> Path:
    """Return a program that `make tools` brings, or one of the system."""
    return Path(shutil.which(name, path=f"{TOOLS}:/usr/bin:/bin") or TOOLS / name)


def main() -> int:
    """Print the table; return 1 if anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", action="store_true", help="install each rendering, too")
    parser.add_argument("--case", choices=CASES, action="append", help="only this one; may be given again")
    options = parser.parse_args()
    names = [check.name for check in CHECKS]
    print("|".join(["", " rendering ", *(f" {name} " for name in names), *[" run "] * options.run, ""]))
    print("|---" * (1 + len(names) + options.run) + "|")
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(options.case or CASES):
            cells, documents, pools = [], render(case), list_pools(case)
            for check in CHECKS:
                problems_found = list(check.find(documents, pools))
                problems += [f"{case}: {problem}" for problem in problems_found]
                cells.append(f" {len(problems_found)} problems " if problems_found else " ok ")
            if options.run:
                try:
                    cells.append(f" {run_case(find_tool, Path(folder) / str(number), case)} ")
                except (AssertionError, ValueError) as error:
                    problems.append(f"{case}: {error}")
                    cells.append(" failed ")
            print("|".join(["", f" {case} ", *cells, ""]), flush=True)
    print("\n".join(problems))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
