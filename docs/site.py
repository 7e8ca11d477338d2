"""Builds the docs site: the repository's pages, and references generated from the code.

Pages are staged in the layout of the repository, so relative links work here and on a forge. Linked files that
are not pages (a manifest, a picture) are copied, too.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mkdocs.commands import build
from mkdocs.config import load_config

import gleaner
from gateway.app import create_app
from gateway.settings import GatewaySettings

ROOT = Path(__file__).parent.parent
PAGES = ROOT / ".cache" / "site" / "pages"
SOURCES = ("*.md", "docs/**/*.md", "keda/*.md", "models/*/*.md", "charts/gleaner/README.md", "deploy/**/*.md")
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)|src=\"([^\"]+)\"")

CLIENT = """\
# Python client

`pip install gleaner-ner` installs `gleaner`, which depends only on httpx, rich and typer.
[The guide](../docs/how-to/client.md) has examples. `gleaner` exports every name on this page.

"""
HTTP = """\
# HTTP API reference

Generated from the OpenAPI document that a gateway serves at `/openapi.json`.
[The guide](../docs/reference/api.md) has examples.

[OAD(./openapi.json)]
"""


def stage_pages() -> None:
    """Copy every page and its linked files, and write the references, into one folder."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for page in sorted({page for pattern in SOURCES for page in ROOT.glob(pattern)}):
        _copy_file(page)
        for target in (match[1] or match[2] for match in LINK.finditer(page.read_text(encoding="utf-8"))):
            linked = (page.parent / target).resolve()
            if linked.is_file() and linked.suffix != ".md":
                _copy_file(linked)
    references = PAGES / "reference"
    references.mkdir()
    (references / "client.md").write_text(render_client(), encoding="utf-8")
    (references / "cli.md").write_text(render_cli(), encoding="utf-8")
    (references / "http.md").write_text(HTTP, encoding="utf-8")
    api = create_app(GatewaySettings(auth="off"))
    (references / "openapi.json").write_text(json.dumps(api.openapi()), encoding="utf-8")


def _copy_file(file: Path) -> None:
    target = PAGES / file.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def render_client() -> str:
    """Return a page with a placeholder of mkdocstrings for each name that `gleaner` exports."""
    return CLIENT + "".join(f"::: gleaner.{name}\n\n" for name in gleaner.__all__)


def render_cli() -> str:
    """Return the page of all commands and options, as typer writes it."""
    command = (sys.executable, "-m", "typer", "gleaner.cli.app", "utils", "docs", "--name", "gleaner")
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Build the site; fail on a broken link and on a page missing in the navigation."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    stage_pages()
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build.build(config)


if __name__ == "__main__":
    main()
