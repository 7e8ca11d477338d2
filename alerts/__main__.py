"""`python -m alerts`: writes rules, their tests, and dashboards; `--managed` those of a cloud's Prometheus."""

from __future__ import annotations

import argparse
from pathlib import Path

from alerts.generate import render_files, replace_links
from alerts.managed import FORMATS


def main() -> None:
    """Write every generated file."""
    parser = argparse.ArgumentParser(prog="python -m alerts", description=main.__doc__)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent, help="folder to write into")
    parser.add_argument("--runbooks", default=None, help="base URL of docs/runbooks")
    parser.add_argument("--grafana", default=None, help="base URL of dashboards, up to /d")
    parser.add_argument("--managed", choices=FORMATS, help="only the rules, in the format of a cloud's Prometheus")
    options = parser.parse_args()
    files = FORMATS[options.managed]() if options.managed else render_files()
    for name, content in replace_links(files, options.runbooks, options.grafana).items():
        path = options.into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
