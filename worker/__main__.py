"""Entry point of `python -m worker`."""

import sys

from worker.app import load_engine, run
from worker.settings import WorkerSettings

sys.exit(run(WorkerSettings(), load_engine))
