"""Opens each page of the console with something on it: for checks of every page, and for the pictures in docs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LABELS = ("person", "organization", "location", "date")


@contextmanager
def chromium(playwright: Playwright, executable: Path) -> Iterator[Browser]:
    """Run a headless Chromium until the block ends."""
    browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
    yield browser
    browser.close()


def sign_in(page: Page, url: str, key: str) -> None:
    """Open the console by a key's link, and say yes to it."""
    page.goto(f"{url}/#key={key}")
    page.get_by_role("button", name="Sign in as").click()
    page.get_by_role("button", name="Sign out").wait_for()


def extract(page: Page, text: str, labels: tuple[str, ...] = LABELS, split: str = "blocks") -> str:
    """Submit texts on the page Extract and wait until the entities are shown; return the job's id."""
    page.get_by_role("link", name="Extract").click()
    page.get_by_label("Texts", exact=True).fill(text)
    page.get_by_label("Read as").select_option(split)
    for label in labels:
        page.get_by_label("Labels", exact=True).fill(label)
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Extract", exact=False).and_(page.locator("[type=submit]")).click()
    page.locator(".output .pill.is-succeeded, .output .pill.is-partially_succeeded").wait_for()
    page.locator(".documents article").first.wait_for()  # results are fetched once the job has ended
    return page.locator(".output a.mono").inner_text()


def show_example(page: Page) -> str:
    """Run the example that the page offers; its job's id."""
    page.goto("/#/extract")
    page.get_by_role("button", name="Try: news").click()
    page.get_by_role("button", name="Extract from 4 documents").click()
    page.locator(".output .pill.is-succeeded").wait_for()
    page.locator(".documents article").nth(3).wait_for()
    return page.locator(".output a.mono").inner_text()


def pages(job_id: str) -> dict[str, Callable[[Page], None]]:
    """Return functions that open each page, by name; the page Extract as the example left it."""

    def opened(hash_: str, seen: str) -> Callable[[Page], None]:
        def go(page: Page) -> None:
            page.goto(f"/#/{hash_}")
            page.locator(seen).first.wait_for()

        return go

    return {
        "extract": opened("extract", ".document mark"),
        "jobs": opened("jobs", "table.jobs tbody tr"),
        "job": opened(f"jobs/{job_id}", ".document mark"),
        "webhooks": opened("webhooks", "section.panel"),
        "queue": opened("queue", ".chart .dot"),
    }
