"""`python -m gateway.courier`: reads the settings and runs a courier."""

from __future__ import annotations

import sys

from gateway.courier.app import CourierSettings, run

if __name__ == "__main__":
    sys.exit(run(CourierSettings()))
