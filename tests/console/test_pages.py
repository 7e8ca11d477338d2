from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import serious_findings, watched
from tests.console.tour import pages, show_example, sign_in
from tests.support.processes.local_stack import RunningStack

pytestmark = pytest.mark.timeout(120)

NARROW = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def toured(browser: Browser, stack: RunningStack, console_key: str) -> Iterator[tuple[Page, str]]:
    """Return a signed-in tab that has run the example, and its job; one endpoint is registered."""
    context = browser.new_context(viewport={"width": 1280, "height": 850}, base_url=stack.url)
    page = context.new_page()
    page.set_default_timeout(15_000)
    with watched(page):
        sign_in(page, stack.url, console_key)
        job_id = show_example(page)
        page.goto("/#/webhooks")
        page.get_by_text("New endpoint").click()
        page.get_by_label("URL").fill("http://127.0.0.1:9999/hook")
        page.get_by_role("button", name="Register endpoint").click()
        page.locator("#secret").wait_for()
        yield page, job_id
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["extract", "jobs", "job", "webhooks", "queue"])
def test_every_page_is_accessible_in_both_themes(toured: tuple[Page, str], name: str, theme: str) -> None:
    """Axe finds nothing serious or critical, contrast included, and no page is wider than its window."""
    page, job_id = toured
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    pages(job_id)[name](page)
    assert serious_findings(page) == []
    assert _overflow(page) <= 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_pages_unfold_is_accessible_too(toured: tuple[Page, str], theme: str) -> None:
    """Options, thresholds, the table of entities, and a question before something is removed."""
    page, job_id = toured
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    pages(job_id)["extract"](page)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    page.get_by_role("button", name="Table").click()
    assert serious_findings(page) == []
    page.get_by_role("button", name="Text", exact=True).click()
    pages(job_id)["jobs"](page)
    page.get_by_role("button", name="Purge").first.click()
    assert serious_findings(page) == []
    page.get_by_role("button", name="Keep").click()


@pytest.mark.parametrize("name", ["extract", "jobs", "job", "webhooks", "queue"])
def test_every_page_fits_a_telephone(toured: tuple[Page, str], name: str) -> None:
    """At 390 pixels nothing is cut off at the right."""
    page, job_id = toured
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    pages(job_id)[name](page)
    assert _overflow(page) <= 0
    page.set_viewport_size({"width": 1280, "height": 850})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_way_in_is_accessible(browser: Browser, stack: RunningStack, theme: str) -> None:
    """The same for the page that asks for the key."""
    context = browser.new_context(base_url=stack.url, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    with watched(page):
        page.goto("/")
        page.get_by_label("API key").wait_for()
        assert serious_findings(page) == []
    context.close()


def test_the_switch_goes_before_the_system_s_theme(toured: tuple[Page, str]) -> None:
    """System, light, dark, and system again; it is kept."""
    page, _ = toured
    page.emulate_media(color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(background) != light
    page.get_by_role("button", name="Theme: dark").click()
    assert page.evaluate(background) == light


def _overflow(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
