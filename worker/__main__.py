"""`python -m worker`: read the settings, be a worker."""

import sys

from worker.app import load_engine, run
from worker.settings import WorkerSettings

sys.exit(run(WorkerSettings(), load_engine))
