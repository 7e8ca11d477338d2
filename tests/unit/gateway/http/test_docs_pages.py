"""The pages of the API's reference: complete, offline, and under a strict policy."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from gateway.http import docs_pages

pytestmark = pytest.mark.anyio


def test_the_pages_load_nothing_from_elsewhere() -> None:
    """No CDN, no inline script: /docs works offline and under a strict policy."""
    for page in (docs_pages._SWAGGER, docs_pages._REDOC):
        assert "http" not in page
        assert "<script>" not in page
    assert "unsafe-inline" not in docs_pages._POLICY.split("style-src")[0]
    folder = Path(str(resources.files("fastapi_offline"))) / "static"
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js"):
        assert (folder / name).is_file()


@pytest.mark.parametrize(
    ("path", "media_type", "has_policy"),
    [
        ("/docs", "text/html; charset=utf-8", True),
        ("/redoc", "text/html; charset=utf-8", True),
        ("/docs/start.js", "text/javascript; charset=utf-8", False),
    ],
)
async def test_each_page_is_served_as_often_as_it_is_requested(
    path: str, media_type: str, has_policy: bool
) -> None:
    """Other methods are refused, and the document of the API does not list the pages."""
    app = FastAPI(docs_url=None, redoc_url=None)
    docs_pages.install_docs_pages(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        responses = [await client.get(path) for _ in range(2)]
        refused = await client.post(path)
    for response in responses:
        assert (response.status_code, response.headers["content-type"]) == (200, media_type)
        assert ("content-security-policy" in response.headers) is has_policy
        assert response.content
    assert refused.status_code == 405
    assert app.openapi()["paths"] == {}
