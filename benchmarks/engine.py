"""How fast the engine is by itself: documents a second and tokens a second, one by one and in micro-batches.

`python benchmarks/engine.py [--precision bf16] [--documents 200]` prints a table; nothing but the model runs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random

from jobs.schema import Document, Labels, Options
from tests.support.texts import LABEL_SETS, passage
from worker.contract import Engine, ShardRef
from worker.engine import cpu_count, load
from worker.microbatch import MicroBatcher
from worker.models import resolve
from worker.windows import Plan, cut, merge

SHIPPED = Path(__file__).parents[1] / "models" / "gleaner-small"


class Tokens:
    """Sums what the micro-batcher reports."""

    def __init__(self) -> None:
        self.batches = self.windows = self.real = self.padded = 0
        self.seconds: dict[str, float] = {}

    def microbatch(self, windows: int, jobs: int, real: int, padded: int) -> None:
        """One micro-batch."""
        self.batches += 1
        self.windows += windows
        self.real += real
        self.padded += padded

    def stage(self, stage: str, seconds: float) -> None:
        """One stage of one micro-batch."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def out_of_memory(self, action: str) -> None:
        """Not expected here."""


def run(engine: Engine, texts: list[str], labels: Labels, budget: int) -> None:
    """Time all texts through one micro-batcher and print a line."""
    tokens = Tokens()
    start = time.perf_counter()
    plans: list[Plan] = [
        cut(Document(i, str(i), text), labels, Options(), engine, ShardRef(f"job{i}", 0))
        for i, text in enumerate(texts)
    ]
    cutting = time.perf_counter() - start
    with MicroBatcher(engine, budget, observer=tokens) as batcher:
        futures = [batcher.submit(f"job{i}", plan.windows) for i, plan in enumerate(plans)]
        entities = sum(
            len(merge(plan, future.result(), 1).entities) for plan, future in zip(plans, futures, strict=True)
        )
    seconds = time.perf_counter() - start
    stages = " ".join(f"{name} {spent:.2f}" for name, spent in {"cut": cutting, **tokens.seconds}.items())
    real = tokens.real / tokens.padded
    print(
        f"{budget:>7} {len(texts) / seconds:>8.1f} {tokens.real / seconds:>9.0f} {real:>6.0%} "
        f"{tokens.windows / tokens.batches:>7.1f} {entities:>9} {seconds:>7.2f}   {stages}"
    )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(SHIPPED))
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--words", type=int, default=0, help="of every document; 0: mixed lengths")
    args = parser.parse_args()
    random = Random(1)
    texts = [passage(random, args.words or random.choice((5, 10, 20, 40, 80, 160))) for _ in range(args.documents)]
    start = time.perf_counter()
    engine = load(
        resolve(args.model, None, Path("~/.cache/gleaner/models").expanduser()), args.device, args.precision
    )
    loaded = time.perf_counter()
    budget = engine.warm_up()
    print(
        f"{cpu_count()} cores; load {loaded - start:.1f} s, warm-up {time.perf_counter() - loaded:.1f} s, "
        f"budget {budget} padded tokens"
    )
    print(" budget   docs/s  tokens/s   real windows/b entities seconds   stage seconds")
    for size in (1, 1024, 2048, 4096, budget):
        run(engine, texts, LABEL_SETS[1], size)


if __name__ == "__main__":
    main()
