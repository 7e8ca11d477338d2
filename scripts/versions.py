"""Check that everything that a release publishes has one version: `python -m scripts.versions [VERSION]`.

Prints it. VERSION, such as that of a tag, must be the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATTERNS = {
    "pyproject.toml": r'^version = "([^"]+)"|gleaner-ner-service(?:\[[\w,]+\])?==([^"\']+)',
    "service/pyproject.toml": r'^version = "([^"]+)"',
    "charts/gleaner/Chart.yaml": r"^(?:version|appVersion): \"?([^\"\s]+)",
    "Dockerfile.gateway": r"^ARG VERSION=(\S+)",
    "Dockerfile.worker": r"^ARG VERSION=(\S+)",
}
"""Files that state the version, and where in them."""


def list_versions(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each place that states a version: file with line, and the version."""
    for name, pattern in PATTERNS.items():
        for number, line in enumerate((root / name).read_text().splitlines(), start=1):
            for match in re.finditer(pattern, line):
                yield f"{name}:{number}", next(filter(None, match.groups()))


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Print the version and return 0, or say which places differ and return 1."""
    versions = dict(list_versions(root))
    expected = arguments[0] if arguments else next(iter(versions.values()))
    different = {where: version for where, version in versions.items() if version != expected}
    if different:
        listed = ", ".join(f"{where} says {version}" for where, version in different.items())
        print(f"the release is {expected}, but {listed}", file=sys.stderr)
        return 1
    print(expected)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
