"""The console at `/`: static files of `gateway/console` that call the API from the browser with the user's key.

There is no build step, and nothing from another host. The policy allows no inline script or style, and no text as
HTML (Trusted Types).
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Set here, because the machine's own table may be wrong, and browsers run no module with a wrong type."""


def install_console(app: FastAPI) -> None:
    """Serve the page at `/` and its files below `/console`."""
    files = _Files(directory=Path(str(resources.files("gateway"))) / "console")

    async def serve_page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    app.add_route("/", serve_page, include_in_schema=False)
    app.mount("/console", files, name="console")


class _Files(StaticFiles):
    """Files that browsers cache but revalidate by ETag, so that a new version is used at once."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        # On a 304 too: browsers take over its headers.
        response.headers["Content-Security-Policy"] = POLICY
        if response.status_code != 304:
            response.headers["Content-Type"] = _TYPES[Path(full_path).suffix]
        return response
