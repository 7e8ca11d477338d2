"""Files of the console: cached, revalidated, and under a strict policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.routes.console import _TYPES, POLICY, _Files

FOLDER = Path("gateway/console").resolve()


def serve(name: str, status: int = 200) -> dict[str, str]:
    """Return the headers of a file's response."""
    path = FOLDER / name
    scope = {"type": "http", "method": "GET", "headers": []}
    return dict(_Files(directory=FOLDER).file_response(path, path.stat(), scope, status).headers)


def test_every_file_has_a_type_that_browsers_accept() -> None:
    """They run no module of a wrong type, whatever the machine's own table says."""
    names = [path.name for path in FOLDER.iterdir() if path.is_file()]
    assert {Path(name).suffix for name in names} <= _TYPES.keys()
    for name in names:
        assert serve(name)["content-type"] == _TYPES[Path(name).suffix]


@pytest.mark.parametrize("status", [200, 304])
def test_a_new_version_is_used_at_once(status: int) -> None:
    """Browsers revalidate by the ETag; a policy comes with the 304 too, whose headers they take over."""
    headers = serve("index.html", status)
    assert headers["cache-control"] == "no-cache"
    assert headers["content-security-policy"] == POLICY
    assert "etag" in headers
    assert "'unsafe" not in POLICY
