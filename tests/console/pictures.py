"""Takes the pictures of the console in docs/pictures/console: `make screenshots`."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from gleaner import Client
from tests.conftest import ROOT, TOOLS
from tests.console.tour import chromium, pages, show_example, sign_in
from tests.support.processes.local_stack import running_stack
from tests.support.servers.receivers import receiving

PICTURES = ROOT / "docs" / "pictures" / "console"
WIDE, TALL, NARROW = (1280, 860), (1280, 1120), (390, 844)
TEXTS = (
    "Maren Albers, who leads Norderlicht, opened the office in Rotterdam on 14 March 2024.",
    "Björn Ångström of Siemens flew from Munich to Tokyo on Monday.",
    "The European Investment Bank in Luxembourg lends Norderlicht the money.",
)


def main() -> None:
    """Run a stack, use it a little, and take every page in both themes, and two in a narrow window."""
    executable = shutil.which("chromium", path=f"{TOOLS}:/usr/local/bin:/usr/bin")
    if executable is None:
        sys.exit("no chromium here: make tools")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stack(Path(folder) / "home", "--no-flower") as stack,
        receiving() as receiver,
        sync_playwright() as playwright,
        chromium(playwright, Path(executable)) as browser,
    ):
        context = browser.new_context(viewport=_size(WIDE), base_url=stack.url)
        page = context.new_page()
        page.goto("/")
        page.get_by_label("API key").wait_for()
        _both(page, "signin")
        sign_in(page, stack.url, stack.key)
        job_id = _use(Client(stack.url, stack.key), page, receiver.url("/hooks/gleaner"))
        for name, opened in pages(job_id).items():
            page.set_viewport_size(_size(TALL if name == "job" else WIDE))
            opened(page)
            if name == "webhooks":
                page.get_by_text("Deliveries", exact=True).click()
                page.locator("section tbody tr").first.wait_for()
            if name == "queue":
                page.wait_for_timeout(20_000)
            _both(page, name)
        page.set_viewport_size(_size(NARROW))
        for name in ("extract", "jobs"):
            pages(job_id)[name](page)
            if name == "extract":
                page.locator(".documents").scroll_into_view_if_needed()
            _both(page, f"{name}-narrow", themes=("light",))
        context.close()


def _use(client: Client, page: Page, receiver: str) -> str:
    """Submit jobs of all kinds and the example, and register an endpoint; return the job whose page is shown."""
    page.goto("/#/webhooks")
    page.get_by_text("New endpoint").click()
    page.get_by_label("URL").fill(receiver)
    page.get_by_label("Description").fill("Tells the newsroom")
    page.get_by_role("button", name="Register endpoint").click()
    page.get_by_role("button", name="I have it").click()
    labels = ["person", "organization", "location", "date"]
    shown = client.submit([*TEXTS, " "], labels, metadata={"name": "Morning news"}, return_text=True)
    shown.wait(timeout=60)
    client.submit(list(TEXTS) * 40, labels, metadata={"name": "Archive, March"}).wait(timeout=120)
    stopped = client.submit(list(TEXTS) * 2000, labels, metadata={"name": "Archive, all"})
    stopped.cancel()
    stopped.wait(timeout=120)
    show_example(page)
    client.submit(list(TEXTS) * 2500, labels, metadata={"name": "Archive, second try"})
    return shown.id


def _both(page: Page, name: str, themes: tuple[str, ...] = ("light", "dark")) -> None:
    for theme in themes:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        _save(page, f"{name}-{theme}" if len(themes) > 1 else name)


def _save(page: Page, name: str) -> None:
    """Save the non-empty part of the window in 256 colours: half the size, without a visible difference."""
    bottom = page.evaluate(
        "Math.max(...[...document.getElementById('main').children].map(e => e.getBoundingClientRect().bottom))"
    )
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    taken = taken.crop((0, 0, taken.width, min(taken.height, int(bottom) + 24)))
    taken.quantize(256).save(PICTURES / f"{name}.png", optimize=True)


def _size(of: tuple[int, int]) -> dict[str, int]:
    return {"width": of[0], "height": of[1]}


if __name__ == "__main__":
    main()
