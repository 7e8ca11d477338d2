"""/docs and /redoc from local files: no CDN, and no inline script, so that the content policy stays strict."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
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

    policy = {"Content-Security-Policy": _POLICY}
    pages = {
        "/docs": HTMLResponse(_SWAGGER, headers=policy),
        "/docs/start.js": Response(_START, media_type="text/javascript"),
        "/redoc": HTMLResponse(_REDOC, headers=policy),
    }
    for path, page in pages.items():
        app.router.routes.append(Route(path, page, methods=["GET"], include_in_schema=False))
    app.mount(_ASSETS, StaticFiles(directory=folder), name="docs-assets")
