"""Links that carry a key: nobody is signed in, or made somebody else, without having said yes."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from gleaner import Client
from jobs import api_keys
from jobs.api_keys import KeyRing, Role
from tests.console.conftest import Opened, usable_key
from tests.console.tour import sign_in
from tests.support.processes.local_stack import RunningStack

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="session")
def other_key(stack: RunningStack) -> str:
    """Return the key of a submitter of another tenant, which the gateway knows."""
    key = api_keys.create_key(stack.directory / "keys.json", tenant="mallory", role=Role.SUBMITTER).key
    usable_key(stack, Role.VIEWER)  # made later: once it is good, so is the one before
    return key


def session_key(page: Page) -> str | None:
    """Return the key that the tab keeps."""
    value: str | None = page.evaluate("sessionStorage.getItem('gleaner.key')")
    return value


def test_a_link_signs_nobody_in_unasked(tab: Opened, other_key: str) -> None:
    """The page names tenant and role, and keeps nothing until the answer is yes; no leaves all as it was."""
    page = tab.page
    page.goto(f"/#key={other_key}")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Sign in as tenant mallory?")
    expect(dialog).to_contain_text("role submitter")
    assert page.url == f"{tab.url}/#/extract"
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0
    page.keyboard.press("Enter")  # the focus is on no
    expect(dialog).to_have_count(0)
    assert session_key(page) is None
    expect(page.get_by_label("API key")).to_be_visible()

    sign_in(page, tab.url, other_key)
    expect(page.locator(".who")).to_have_text("mallory · submitter")
    assert session_key(page) == other_key


@pytest.mark.parametrize("way", ["load", "hashchange"])
def test_a_link_replaces_no_session_unasked(page: Page, tab: Opened, other_key: str, way: str) -> None:
    """A signed-in user stays signed in, is warned explicitly, and finds the page unchanged."""
    page.goto("/#/jobs")
    page.locator("h1").wait_for()
    if way == "load":
        page.goto("/docs")
        page.goto(f"/#key={other_key}")
    else:
        page.evaluate("key => { location.hash = `key=${key}`; }", other_key)
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_contain_text("You are signed in already")
    assert other_key not in page.url
    assert session_key(page) == tab.key
    expect(page.locator(".who")).to_contain_text("console")
    dialog.get_by_role("button", name="Stay console").click()
    expect(page.locator(".who")).to_have_text("console · admin")
    assert session_key(page) == tab.key
    assert page.url == f"{tab.url}/#/{'extract' if way == 'load' else 'jobs'}"
    page.reload()
    expect(page.locator(".who")).to_have_text("console · admin")

    sign_in(page, tab.url, other_key)
    expect(page.locator(".who")).to_have_text("mallory · submitter")


def test_only_the_latest_link_is_asked_about(page: Page, tab: Opened, other_key: str) -> None:
    """A second link closes the first one's question; a key that is not good, or none, changes nothing."""
    page.evaluate("key => { location.hash = `key=${key}`; }", other_key)
    page.get_by_role("dialog").wait_for()
    for bad in ("gl_unknown", "%3Cimg%20src=x%3E", "", "x" * 300):
        page.evaluate("key => { location.hash = `key=${key}`; }", bad)
        expect(page.locator(".toast.bad").last).to_contain_text("was not used")
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert page.url == f"{tab.url}/#/extract"
    page.evaluate("key => { location.hash = `key=${key}`; }", tab.key)
    expect(page.locator(".toast", has_text="signed in as console already")).to_be_visible()
    assert session_key(page) == tab.key


def test_a_revoked_key_signs_the_page_out(tab: Opened, stack: RunningStack) -> None:
    """Also while it only listens: the stream of a job's events says why it ends."""
    key = usable_key(stack, Role.SUBMITTER)
    with Client(stack.url, key) as owner, Client(stack.url, tab.key) as admin:
        texts = [f"Anna Berg the {n}th lives in Rome with {n + 1} cats. " * 40 for n in range(3_000)]
        job = owner.submit(texts, ["person"])
        sign_in(tab.page, tab.url, key)
        tab.page.goto(f"/#/jobs/{job.id}")
        tab.page.get_by_text(job.id).first.wait_for()
        record = KeyRing(stack.directory / "keys.json").verify(key)
        assert record is not None
        api_keys.revoke_key(stack.directory / "keys.json", record.key_id)
        expect(tab.page.get_by_text("The key is not good any more.")).to_be_visible(timeout=20_000)
        assert session_key(tab.page) is None
        admin.job(job.id).cancel()
