"""The console as people use it: in a real browser, on the real stack with the real model."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, expect

from gleaner import Client
from jobs.api_keys import Role
from tests.console.conftest import Opened, usable_key
from tests.console.tour import LABELS, extract, sign_in
from tests.support.processes.local_stack import RunningStack
from tests.support.servers.receivers import receiving

pytestmark = pytest.mark.timeout(120)

STORY = (
    "Maren Albers leads Norderlicht in Hamburg. On 14 March 2024 she met Björn Ångström 👋🏽 of Siemens in Tokyo."
)
MARKUP = '<img src=x onerror=alert(1)> <script>alert(2)</script> Maren Albers & "Co" in <b>Hamburg</b>'
LONG_JOB = 3_000

NESTED = """async () => {
    const { markedText } = await import('/console/parts/marked.js');
    const text = 'the Bank of New York';
    const entity = (words, label) => {
        const start = text.indexOf(words);
        return { start, end: start + words.length, text: words, label, score: 0.9 };
    };
    const found = [entity('Bank of New York', 'org'), entity('New York', 'city')];
    const box = markedText(text, found, (label) => ['org', 'city'].indexOf(label));
    return [...box.querySelectorAll('mark, .tag')].map((each) => [each.className, each.textContent]);
}"""
MANY = """async () => {
    const { Results } = await import('/console/parts/results.js');
    const text = 'Anna Berg saw Rome, ', score = Math.random;
    const entity = (start, end, label) => ({ start, end, text: text.slice(start, end), label, score: score() });
    const results = Array.from({ length: 10000 }, (_, index) => ({
        index, id: String(index), status: 'succeeded', windows: 1, truncated: false, warnings: [], error: null,
        entities: [entity(0, 9, 'person'), entity(14, 18, 'city')],
    }));
    const textOf = (result) => text + result.index;
    const shown = new Results({ name: 'x', labels: ['person'], floor: 0, threshold: 0.5, textOf });
    document.body.append(shown.element);
    const began = performance.now();
    shown.add(results);
    for (const threshold of [0.1, 0.9, 0.5]) { shown._filter.threshold = threshold; shown.redraw(); }
    const seconds = (performance.now() - began) / 1000;
    const elements = shown.element.querySelectorAll('*').length;
    shown.element.remove();
    return [seconds, elements];
}"""


@pytest.fixture
def client(stack: RunningStack, console_key: str) -> Iterator[Client]:
    """Return an API client of the page's user."""
    with Client(stack.url, console_key) as client:
        yield client


def test_a_job_from_paste_to_download(page: Page, client: Client) -> None:
    """Pasted texts run, entities are marked, the slider filters, and downloaded files hold the shown entities."""
    job_id = extract(page, f"{STORY}\n\nNothing is here.")

    entities = [entity for result in client.job(job_id).results() for entity in result.entities]
    seen = [entity for entity in entities if entity.score >= 0.5]
    assert len(seen) >= 4
    marks = page.locator("mark").all_inner_texts()
    assert marks == [entity.text for entity in seen]
    pieces = "text => [...text.childNodes].filter(node => !node.matches?.('.tag')).map(node => node.textContent)"
    assert "".join(page.locator("article .text").first.evaluate(pieces)) == STORY
    assert page.locator(".legend li").count() == len(LABELS)

    slider = page.get_by_label("Threshold", exact=False).first
    slider.fill("0.1")
    expect(page.locator(".summary")).to_contain_text(f"{len(entities)} entities in 2 documents")
    slider.fill("1")
    expect(page.locator("mark")).to_have_count(0)
    [expected] = client.extract([STORY], list(LABELS), threshold=0.8)
    slider.fill("0.8")
    expect(page.locator("mark")).to_have_text([entity.text for entity in expected.entities])
    slider.fill("0.5")
    expect(page.locator("mark")).to_have_count(len(seen))

    page.locator(".legend button", has_text="person").click()
    page.get_by_role("button", name="Table").click()
    filtered = [entity for entity in seen if entity.label != "person"]
    expect(page.locator(".results tbody tr")).to_have_count(len(filtered))
    with page.expect_download() as caught:
        page.get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(caught.value.path()).read_text())))
    assert [row["text"] for row in rows if row["label"]] == [entity.text for entity in filtered]
    with page.expect_download() as caught:
        page.get_by_role("button", name="JSONL").click()
    first, second = map(json.loads, Path(caught.value.path()).read_text().splitlines())
    assert [entity["text"] for entity in first["entities"]] == [entity.text for entity in filtered]
    assert second["entities"] == []


def test_a_label_s_own_threshold_goes_before_the_common_one(page: Page) -> None:
    """A label can be strict while the others stay."""
    extract(page, STORY)
    before = page.locator("mark").count()
    page.get_by_text("A threshold for each label").click()
    page.get_by_label("person", exact=True).fill("1")
    expect(page.locator(".legend li", has_text="person").locator(".count")).to_have_text("0")
    assert 0 < page.locator("mark").count() < before
    page.get_by_role("button", name="person: as all").click()
    expect(page.locator("mark")).to_have_count(before)


def test_what_was_found_is_explained_and_redacted_where_asked(page: Page) -> None:
    """Redacted texts hold no value that was found; the table has the labels that came next."""
    page.get_by_text("Options").click()
    page.get_by_label("Redact texts").select_option("label")
    page.get_by_text("Explain entities").click()
    extract(page, STORY)
    expect(page.locator("mark").first).to_have_text("[PERSON]")
    assert "Maren" not in page.locator(".documents").inner_text()
    page.get_by_role("button", name="Table").click()
    expect(page.locator(".results th").last).to_have_text("Next best")
    assert re.search(r"\b(organization|location|date) \.\d\d", page.locator(".results tbody").inner_text())


def test_nested_entities_are_drawn_one_below_the_other(page: Page) -> None:
    """Overlapping entities are each marked, and the text stays whole."""
    page.goto("/#/extract")
    drawn = page.evaluate(NESTED)
    assert drawn == [
        ["deep-1", "Bank of "],
        ["deep-1", "New York"],
        ["tag", "city.90"],
        ["tag", "org.90"],
    ]


def test_files_are_read_followed_and_paged(page: Page, client: Client) -> None:
    """A file of JSON lines with ids; twenty documents a page, which are still there after a look elsewhere."""
    lines = [
        json.dumps({"id": f"n{number}", "text": f"Anna Berg of Siemens saw Rome, {number}."})
        for number in range(60)
    ]
    page.get_by_label("Choose files").set_input_files(
        {"name": "notes.jsonl", "mimeType": "application/json", "buffer": "\n".join(lines).encode()}
    )
    page.get_by_role("button", name="General").click()
    page.get_by_role("button", name="Extract from 60 documents").click()
    page.locator(".output .pill.is-succeeded").wait_for()
    expect(page.locator(".pages span")).to_have_text(re.compile("documents 1.20 of 60"))
    page.get_by_role("button", name="Last page").click()
    expect(page.locator("article h3").last).to_have_text("n59")

    page.get_by_role("link", name="Jobs").click()
    page.locator("table.jobs a.mono").first.click()
    expect(page.locator("h1")).to_have_text(re.compile("job_"))
    expect(page.locator("article mark").first).to_be_visible()
    page.go_back()
    page.get_by_role("link", name="Extract").click()
    expect(page.locator("article h3").last).to_have_text("n59")


def test_ten_thousand_documents_do_not_freeze_the_page(page: Page) -> None:
    """A file of them is read, and as many results are filtered and shown, each in a blink and with few elements."""
    rows = "\n".join(json.dumps({"text": f"Anna Berg saw Rome, {number}."}) for number in range(10_000))
    page.get_by_label("Choose files").set_input_files(
        {"name": "many.jsonl", "mimeType": "application/json", "buffer": rows.encode()}
    )
    expect(page.locator(".file")).to_contain_text("10,000 documents")
    seconds, elements = page.evaluate(MANY)
    assert seconds < 2
    assert elements < 1000


def test_markup_stays_text(page: Page, client: Client) -> None:
    """Texts, ids, labels and metadata that look like HTML are shown as they are, everywhere."""
    job = client.submit(
        [{"id": "<b>bold</b>", "text": MARKUP}],
        ["<i>person</i>", "city"],
        metadata={"name": MARKUP[:60]},
        threshold=0.0,
        return_text=True,
    ).wait(timeout=60)
    for path in ("/#/jobs", f"/#/jobs/{job.id}"):
        page.goto(path)
        page.get_by_text("onerror", exact=False).first.wait_for()
        assert page.locator("main img, main script, main b, main i").count() == 0
    expect(page.locator("article h3")).to_have_text("<b>bold</b>")
    assert extract(page, MARKUP, ("<u>place</u>", "person"))
    assert page.locator("main img, main script, main b, main u").count() == 0
    expect(page.locator(".chips .chip").first).to_contain_text("<u>place</u>")


def test_a_bad_document_fails_alone_and_says_why(page: Page) -> None:
    """The others have their entities; the job's page counts the code; a retry of it is offered."""
    lines = "\n".join(json.dumps({"text": text}) for text in (" ", STORY))
    file: FilePayload = {"name": "two.jsonl", "mimeType": "application/json", "buffer": lines.encode()}
    page.get_by_label("Choose files").set_input_files(file)
    page.get_by_role("button", name="General").click()
    page.get_by_role("button", name="Extract from 2 documents").click()
    page.locator(".output .pill.is-partially_succeeded").wait_for()
    expect(page.locator("article .fault")).to_contain_text("empty_text")
    page.locator(".output a.mono").click()
    expect(page.locator(".facts table")).to_contain_text("empty_text")
    page.get_by_role("button", name="Not succeeded").click()
    expect(page.locator("article")).to_have_count(1)


def test_a_job_is_cancelled_retried_found_and_purged(page: Page, client: Client) -> None:
    """Each action works from the list or the job's page; irreversible ones ask for confirmation."""
    stories = [f"{STORY} It was visit {number}." for number in range(LONG_JOB)]  # of equal ones only one is read
    job = client.submit(stories, list(LABELS), metadata={"batch": "spring"})
    page.goto("/#/jobs")
    row = page.locator("tr", has_text=job.id)
    row.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Keep").click()
    row.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(row.locator(".pill")).to_have_text("cancelled", timeout=30_000)

    page.get_by_label("Search").fill("spring")
    expect(page.locator("table.jobs tbody tr")).to_have_count(1)
    page.get_by_label("Search").fill("no such thing")
    expect(page.get_by_text("No job fits")).to_be_visible()
    page.get_by_label("Search").fill("")

    row.locator("a.mono").click()
    expect(page.locator("table.jobs")).to_have_count(0)  # whose other jobs can be retried, too
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("Retry of")).to_be_visible()
    page.get_by_role("button", name="Cancel job").click()
    page.get_by_role("button", name="Cancel the job").click()
    # Workers hear of it within 5 s; its webhooks would else reach the endpoints of the next test.
    expect(page.locator(".pill").first).to_have_text("cancelled", timeout=30_000)

    page.goto("/#/jobs")
    page.get_by_label("Status").select_option(label="Cancelled or expired")
    row.get_by_role("button", name="Purge").click()
    page.get_by_role("dialog").get_by_role("button", name="Purge").click()
    expect(row).to_have_count(0)


def test_webhooks_are_registered_tested_delivered_and_sent_again(page: Page, client: Client) -> None:
    """The secret is shown once; every attempt can be seen; a delivery can be sent again."""
    with receiving() as receiver:
        page.goto("/#/webhooks")
        page.get_by_text("New endpoint").click()
        page.get_by_label("URL").fill(receiver.url("/hook"))
        page.get_by_label("Description").fill("our <b>receiver</b>")
        page.get_by_role("button", name="Register endpoint").click()
        secret = page.locator("#secret").inner_text()
        assert secret.startswith("whsec_")
        page.get_by_role("button", name="I have it").click()
        expect(page.locator("#secret")).to_have_count(0)

        page.get_by_role("button", name="Send a test").click()
        expect(page.get_by_text("Delivered: HTTP 200")).to_be_visible()
        client.submit([STORY], ["person"]).wait(timeout=60)
        receiver.wait("/hook", 2)
        page.get_by_text("Deliveries", exact=True).click()
        expect(page.locator("section tbody tr")).to_have_count(1)
        page.get_by_role("button", name="again", exact=False).last.click()
        receiver.wait("/hook", 3)
        page.get_by_role("button", name="Refresh").click()
        page.get_by_text("2 attempts").click()
        expect(page.locator(".attempts li")).to_have_count(2)

        page.get_by_role("button", name="Rotate secret").click()
        page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
        expect(page.locator("#secret")).to_contain_text("whsec_")
        assert page.locator("#secret").inner_text() != secret
        page.get_by_role("button", name="Disable").click()
        expect(page.get_by_text("disabled: by owner")).to_be_visible()
        page.get_by_role("button", name="Remove").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(page.get_by_text("No endpoint yet")).to_be_visible()


def test_the_queue_is_drawn_from_what_is_seen(page: Page) -> None:
    """Workers and backlog as numbers, and as plots that grow with every look."""
    page.goto("/#/queue")
    expect(page.locator(".chart")).to_have_count(4)
    expect(page.locator(".tile", has_text="Workers").locator("strong")).to_have_text("1")
    line = page.locator(".chart .line").first
    first_path = line.get_attribute("d")
    expect(line).not_to_have_attribute("d", first_path or "", timeout=10_000)


def test_the_key_stays_in_the_tab(tab: Opened, stack: RunningStack) -> None:
    """From a link it leaves the address at once; it is in no storage that outlives the tab, and in no log."""
    page = tab.page
    sign_in(page, tab.url, tab.key)
    assert page.url == f"{tab.url}/#/extract"
    assert tab.key not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
    assert page.evaluate("sessionStorage.length") == 1
    page.reload()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").wait_for()
    assert page.evaluate("sessionStorage.length") == 0
    sign_in(page, tab.url, tab.key)  # in the same tab: only the fragment changes
    assert page.url == f"{tab.url}/#/extract"
    for log in (stack.directory / "logs").iterdir():
        assert tab.key not in log.read_text(), log.name


def test_signing_in_by_keyboard_alone(tab: Opened) -> None:
    """A bad key is refused in words; a good one opens the page; the whole way goes without a mouse."""
    page = tab.page
    page.goto("/")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type("gl_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("request ")
    page.get_by_label("API key").fill(tab.key)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Sign out").wait_for()

    page.get_by_label("Texts", exact=True).focus()
    page.keyboard.type("Anna Berg lives in Rome.")
    for _ in range(4):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "label-input":
            break
    page.keyboard.type("person")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    expect(page.locator("mark").first).to_have_text("Anna Berg")


def test_a_job_is_submitted_once_and_followed_no_further_than_its_owner_stays(page: Page) -> None:
    """Pressing twice makes one job; signing out ends its stream, and no request about it follows."""
    lines = "\n".join([json.dumps(STORY)] * LONG_JOB)
    file: FilePayload = {"name": "long.jsonl", "mimeType": "application/json", "buffer": lines.encode()}
    page.get_by_label("Choose files").set_input_files(file)
    page.get_by_role("button", name="General").click()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(f"{request.method} {request.url.partition('/v1/')[2]}"))
    page.locator("form.composer").evaluate("form => { form.requestSubmit(); form.requestSubmit(); }")
    job_id = page.locator(".output a.mono").inner_text()
    assert [line for line in requests if line.startswith("POST")] == ["POST jobs"]
    expect(page.locator(".output .pill")).to_have_text("running")
    with page.expect_event("requestfailed", lambda request: request.url.endswith(f"{job_id}/events")):
        page.get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").wait_for()


def test_a_viewer_is_offered_only_what_it_may_do(tab: Opened, stack: RunningStack) -> None:
    """No submitting, cancelling or queue; the reason is there in words."""
    page = tab.page
    sign_in(page, tab.url, usable_key(stack, Role.VIEWER))
    expect(page.locator("[type=submit]")).to_be_disabled()
    expect(page.locator("#submit-hint")).to_contain_text("submitter")
    assert page.get_by_role("link", name="Queue").count() == 0
    page.goto("/#/queue")
    expect(page.get_by_text("For admins")).to_be_visible()
    page.goto("/#/jobs")
    page.locator("h1").wait_for()
    assert page.get_by_role("button", name="Purge").count() == 0


def test_a_refusal_is_shown_in_words(page: Page) -> None:
    """The API's complaint is shown with the request's id; the typed text is not lost."""
    page.get_by_label("Texts", exact=True).fill(STORY)
    page.get_by_label("Labels", exact=True).fill("x" * 300)
    page.keyboard.press("Enter")
    page.locator("[type=submit]").click()
    problem = page.get_by_role("alert").filter(has_text="request ")
    expect(problem).to_contain_text("labels")
    assert page.get_by_label("Texts", exact=True).input_value() == STORY
