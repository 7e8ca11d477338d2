from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

SITE = ROOT / ".cache" / "site" / "html"


def test_the_docs_site_builds_with_every_page_in_its_navigation_and_no_broken_link() -> None:
    """`make site` is strict: a warning of mkdocs (a dead link or anchor, a page left out) ends it with an error."""
    built = subprocess.run(
        (sys.executable, "-m", "docs.site"), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    for page, words in {
        "index.html": "Accepted means finished",
        "reference/http.html": "/v1/webhook-endpoints",
        "reference/client.html": "AsyncClient",
        "reference/cli.html": "gleaner extract",
        "docs/runbooks/GleanerNoWorker.html": "Mitigation",
    }.items():
        assert words in (SITE / page).read_text(encoding="utf-8"), page
