"""An error code explained: to programs as JSON, to people as a page."""

from __future__ import annotations

import orjson
import pytest

from gateway.errors import GatewayError
from gateway.http.problems import REGISTRY
from gateway.routes.problems import get_problem
from tests.support.fakes.routes import make_http_request

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("code", REGISTRY)
async def test_every_code_is_explained_with_an_example(code: str) -> None:
    """The example is a response as this service sends it."""
    body = orjson.loads((await get_problem(make_http_request(), code)).body)
    assert (body["code"], body["status"]) == (code, REGISTRY[code].status)
    assert body["example"]["type"] == f"/problems/{code}"
    assert body["example"]["status"] == body["status"]


async def test_browsers_get_a_page() -> None:
    """Nothing in it is taken for markup."""
    request = make_http_request(headers={"Accept": "text/html,*/*"})
    page = (await get_problem(request, "unauthenticated")).body.decode()
    assert page.startswith("<!doctype html>")
    assert "Bearer gl_…" in page
    assert "&quot;code&quot;: &quot;unauthenticated&quot;" in page


async def test_a_code_that_is_none_is_not_found() -> None:
    """Links to it lead nowhere."""
    with pytest.raises(GatewayError, match="not_found"):
        await get_problem(make_http_request(), "no_such_code")
