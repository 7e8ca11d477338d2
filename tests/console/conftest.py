"""A Chromium that drives the console of the stack, and that lets nothing bad pass unseen."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, sync_playwright

from jobs import api_keys
from jobs.api_keys import Role
from tests.conftest import Tool
from tests.console.tour import chromium, sign_in
from tests.support.processes.local_stack import RunningStack

_REFUSED = re.compile(r"status of (401|403|404|409|410|422)")
"""What Chromium says by itself of an answer that is no success; the page shows it to the user."""


@pytest.fixture(scope="module")
def browser(tool: Tool) -> Iterator[Browser]:
    """Run one Chromium per file: Playwright's loop must not run next to those of other tests."""
    executable = tool("chromium")
    with sync_playwright() as playwright, chromium(playwright, executable) as browser:
        yield browser


@dataclass(frozen=True)
class Opened:
    """A tab, and who is to sign in there."""

    page: Page
    url: str
    key: str


@pytest.fixture(scope="session")
def console_key(stack: RunningStack) -> str:
    """Return the key of an admin of a tenant that only these tests use."""
    return usable_key(stack, Role.ADMIN)


def usable_key(stack: RunningStack, role: Role) -> str:
    """Create a key of that tenant; return it once the gateway has seen it. Polls slowly: bad keys are delayed."""
    key = api_keys.create_key(stack.directory / "keys.json", tenant="console", role=role).key
    for _ in range(20):
        if httpx.get(f"{stack.url}/v1/limits", headers={"X-API-Key": key}).status_code == 200:
            return key
        time.sleep(0.3)
    raise AssertionError("the gateway does not know the new key")


@contextmanager
def watched(page: Page) -> Iterator[None]:
    """Fail at the end of the block for any error in the page, breach of its policy, or request to elsewhere."""
    bad: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _REFUSED.search(message.text):
            bad.append(f"{message.type}: {message.text}")

    def check_request(request: Request) -> None:
        here = page.url.split("/")[2] if page.url.startswith("http") else ""
        if here and not request.url.startswith("blob:") and request.url.split("/")[2] != here:
            bad.append(f"elsewhere: {request.url}")

    def opened(dialog: Dialog) -> None:
        bad.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("pageerror", lambda error: bad.append(f"error: {error}"))
    page.on("console", said)
    page.on("request", check_request)
    page.on("dialog", opened)
    yield
    assert bad == []


def serious_findings(page: Page) -> list[str]:
    """Return what axe finds on the page of serious or critical impact, contrast included."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:160]} {node.get('failureSummary', '')}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.fixture
def tab(browser: Browser, stack: RunningStack, console_key: str) -> Iterator[Opened]:
    """Open a new watched tab, not signed in."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 850}, base_url=stack.url, accept_downloads=True
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    with watched(page):
        yield Opened(page, stack.url, console_key)
    context.close()


@pytest.fixture
def page(tab: Opened) -> Page:
    """Return a signed-in tab."""
    sign_in(tab.page, tab.url, tab.key)
    return tab.page
