from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import playwright
import pytest

from tests.conftest import ROOT
from tests.support.api import Api, running_api

CONSOLE = ROOT / "gateway" / "console"
DANGEROUS = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
FILES = sorted(path.relative_to(CONSOLE).as_posix() for path in CONSOLE.rglob("*") if path.is_file())


@pytest.fixture
async def api(ledger_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """Run a gateway, called without a key."""
    async with running_api(ledger_url, broker_url, tmp_path) as running:
        running.client.headers.pop("Authorization")
        yield running


@pytest.mark.anyio
async def test_files_are_typed_guarded_and_kept(api: Api) -> None:
    """Each has its type, a policy without inline code, and an ETag that answers 304 with the same policy."""
    types = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    for path in ("/", *(f"/console/{name}" for name in FILES)):
        answer = await api.client.get(path)
        suffix = Path(path).suffix or ".html"
        response = (answer.status_code, answer.headers["content-type"].split(";")[0])
        assert response == (200, types[suffix]), path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy, path
        assert "unsafe" not in policy, path
        assert answer.headers["cache-control"] == "no-cache", path

        again = await api.client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
        # A browser puts a 304's headers in the place of those that it kept.
        assert again.headers["content-security-policy"] == policy, path
        assert again.headers["cache-control"] == "no-cache", path


@pytest.mark.anyio
async def test_nothing_else_is_served(api: Api) -> None:
    """No folder, no file above, no method but reading."""
    for path in ("/console", "/console/", "/console/pages/", "/console/..%2Fapp.py", "/console/%2e%2e/app.py"):
        assert (await api.client.get(path)).status_code == 404, path
    assert (await api.client.post("/", content=b"")).status_code == 405


def test_no_file_loads_from_elsewhere_or_makes_html_of_data() -> None:
    """No address of another host, no way from text to markup or code, no inline handler or style."""
    for name in FILES:
        text = (CONSOLE / name).read_text()
        hosts = set(re.findall(r"https?://[\w.-]+", text)) - {"http://www.w3.org", "https://example.com"}
        assert hosts == set(), name
        assert DANGEROUS.findall(text) == [], name
        if name.endswith(".html"):
            assert re.findall(r"<script(?![^>]*\bsrc=)|\bon\w+=|\bstyle=|<style", text) == [], name


def test_modules() -> None:
    """The pure modules: segments of overlapping entities, filters, files in and out, events, routes."""
    node = Path(playwright.__file__).parent / "driver" / "node"
    ran = subprocess.run(
        [node, "--test", "--test-reporter=spec", *sorted(Path(__file__).parent.glob("*.test.mjs"))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert re.search(r"pass [1-9]\d", ran.stdout)
