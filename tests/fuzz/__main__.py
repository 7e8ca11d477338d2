"""`python -m tests.fuzz [NAME...]`: fuzz all targets, or these, for FUZZ_S seconds in all; FUZZ_SEED=n."""

from __future__ import annotations

import os
import sys
import traceback

from tests.fuzz.harness import fuzz
from tests.fuzz.targets import make_targets


def main(names: list[str]) -> int:
    """Fuzz one target after the other; 1 if one failed."""
    targets = make_targets()
    chosen = names or list(targets)
    each_s = float(os.environ.get("FUZZ_S", "60")) / len(chosen)
    failed = 0
    for name in chosen:
        try:
            count = fuzz(targets[name], each_s, int(os.environ.get("FUZZ_SEED", "0")), shrink=True)
        except BaseException:  # noqa: BLE001  # any is a finding; the other targets go on
            failed = 1
            sys.stdout.write(f"{name}: failed\n{traceback.format_exc()}\n")
        else:
            sys.stdout.write(f"{name}: {count} inputs\n")
        sys.stdout.flush()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
