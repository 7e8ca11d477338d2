"""/docs and /redoc from local files: no CDN, and no inline script, so that the content policy stays strict."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

_ASSETS = "/docs/assets"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src blob:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
_SWAGGER = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Gleaner API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body></html>
"""
_START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true,
  validatorUrl: null, persistAuthorization: false});
"""
_REDOC = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Gleaner API</title></head>
<body><redoc spec-url="openapi.json"></redoc>
<script src="docs/assets/redoc.standalone.js"></script></body></html>
"""


def install_docs_pages(app: FastAPI) -> None:
    """Serve the pages in addition to the API."""
    folder = Path(str(resources.files("fastapi_offline"))) / "static"

    async def serve_swagger(_: Request) -> Response:
        return _html_response(_SWAGGER)

    async def serve_redoc(_: Request) -> Response:
        return _html_response(_REDOC)

    async def serve_start_script(_: Request) -> Response:
        return Response(_START, media_type="text/javascript")

    app.add_route("/docs", serve_swagger, include_in_schema=False)
    app.add_route("/docs/start.js", serve_start_script, include_in_schema=False)
    app.add_route("/redoc", serve_redoc, include_in_schema=False)
    app.mount(_ASSETS, StaticFiles(directory=folder), name="docs-assets")


def _html_response(html: str) -> Response:
    return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY})
