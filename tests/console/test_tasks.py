"""Relations and classifications in the console: requested, shown, filtered and downloaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import serious_findings, watched
from tests.console.tour import sign_in
from tests.support.processes.harness import ServiceHarness
from tests.support.processes.local_stack import RunningStack

pytestmark = pytest.mark.timeout(120)

SHOW = """async ({ results, texts, labels = [] }) => {
    const { Results } = await import('/console/parts/results.js');
    const textOf = (result) => texts[result.index];
    const shown = new Results({ name: 'job', labels, floor: null, threshold: 0, textOf });
    document.getElementById('main').replaceChildren(shown.element);
    shown.add(results);
}"""
"""Shows results on the page as a job's page does."""
STORY = "Maren Albers met Björn Ångström of Siemens in Hamburg, near the Norderlicht."
LATIN = "Maren Albers works for Norderlicht in Hamburg."
HEBREW = "אנגלה מרקל נפגשה עם מנהלי Siemens במינכן."
LONG = "Lorem ipsum. " * 900 + "Björn Ångström works for Siemens."


def entity(text: str, words: str, label: str, score: float = 0.9) -> dict[str, object]:
    """Return the entity of the first occurrence of some words."""
    start = text.index(words)
    return {"start": start, "end": start + len(words), "text": words, "label": label, "score": score}


def result(index: int, entities: list[dict[str, object]], **answers: object) -> dict[str, object]:
    """Return a succeeded document's result as the API serves it."""
    return {
        "index": index,
        "id": str(index),
        "status": "succeeded",
        "entities": entities,
        "windows": 1,
        "truncated": False,
        "warnings": [],
        "attempts": 1,
        "error": None,
        **answers,
    }


def relation(label: str, head: int, tail: int, score: float) -> dict[str, object]:
    """Return a relation between two entities, by their indexes."""
    return {"label": label, "head": head, "tail": tail, "score": score}


LATIN_ENTITIES = [entity(LATIN, "Maren Albers", "person", 0.6), entity(LATIN, "Norderlicht", "firm")]
LATIN_ENTITIES.append(entity(LATIN, "Hamburg", "city"))
HEBREW_ENTITIES = [entity(HEBREW, "אנגלה מרקל", "person"), entity(HEBREW, "Siemens", "firm")]
LONG_ENTITIES = [entity(LONG, "Björn Ångström", "person"), entity(LONG, "Siemens", "firm")]
CLASSES = [{"label": f"class {number}", "score": 0.9 if number == 1 else 0.01} for number in range(1, 9)]
RESULTS = [
    result(
        0,
        LATIN_ENTITIES,
        relations=[relation("works for", 0, 1, 0.9), relation("is in", 1, 2, 0.4)],
        classifications={"topic": CLASSES, "tone": []},
    ),
    result(1, HEBREW_ENTITIES, relations=[relation("met", 0, 1, 0.8)] * 25),
    result(2, LONG_ENTITIES, relations=[relation("works for", 0, 1, 0.7)]),
]


@pytest.fixture(scope="module")
def console(browser: Browser, stack: RunningStack, console_key: str) -> Iterator[Page]:
    """Return a signed-in tab."""
    context = browser.new_context(viewport={"width": 1280, "height": 850}, base_url=stack.url)
    page = context.new_page()
    page.set_default_timeout(15_000)
    with watched(page):
        sign_in(page, stack.url, console_key)
        yield page
    context.close()


@pytest.fixture(scope="module")
def service(browser: Browser) -> Iterator[Page]:
    """Return a tab on a service without keys whose model can do every task."""
    harness = ServiceHarness()
    try:
        harness.worker().wait_ready()
        gateway = harness.gateway().wait_ready()
        context = browser.new_context(viewport={"width": 1280, "height": 850}, base_url=gateway.url)
        page = context.new_page()
        page.set_default_timeout(15_000)
        with watched(page):
            page.goto("/")
            page.locator("form.composer").wait_for()
            yield page
        context.close()
    finally:
        harness.close()


@pytest.fixture
def shown(console: Page) -> Page:
    """Return the tab with results that have relations and classes."""
    console.evaluate(SHOW, {"results": RESULTS, "texts": [LATIN, HEBREW, LONG]})
    console.locator("article").nth(2).wait_for()
    return console


def test_a_relation_marks_its_ends_in_the_text_by_keyboard_and_pointer(shown: Page) -> None:
    """Focus or pointer marks head and tail, with their names and an arrow; a press keeps them marked."""
    first = shown.locator("article").first
    button = first.get_by_role("button", name="works for")
    button.focus()
    expect(first.locator("mark.is-head")).to_have_text("Maren Albers")
    expect(first.locator("mark.is-tail")).to_have_text("Norderlicht")
    assert first.locator("mark[data-end]").evaluate_all("marks => marks.map(mark => mark.dataset.end)") == [
        "head",
        "tail",
    ]
    expect(first.locator(".arrows .point")).to_have_count(1)
    first.locator("tbody tr").nth(1).hover()
    expect(first.locator("mark.is-tail")).to_have_text("Hamburg")
    button.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    shown.locator("h1, h3").first.hover()
    button.blur()
    expect(first.locator("mark.is-tail")).to_have_text("Norderlicht")
    button.press("Enter")
    button.blur()
    expect(first.locator("mark.is-tail, .arrows")).to_have_count(0)


def test_right_to_left_and_long_texts_show_their_relations(shown: Page) -> None:
    """An arrow in Hebrew points leftwards; a hidden end of a long text is shown; tables have bounded lengths."""
    hebrew, long = shown.locator("article").nth(1), shown.locator("article").nth(2)
    expect(hebrew.locator("tbody tr")).to_have_count(20)
    expect(hebrew).to_contain_text("5 more are in the view Relations")
    hebrew.get_by_role("button", name="met").first.focus()
    numbers = re.findall(r"-?[\d.]+", hebrew.locator(".arrows .shaft").get_attribute("d") or "")
    assert float(numbers[-2]) < float(numbers[0])
    expect(long.locator("mark")).to_have_count(0)
    long.get_by_role("button", name="works for").press("Enter")
    expect(long.locator("mark.is-head")).to_be_in_viewport()
    expect(long.locator("mark.is-tail")).to_have_text("Siemens")


def test_relations_and_classes_are_filtered_listed_and_downloaded(shown: Page) -> None:
    """A slider and a legend filter relations; each view has its rows; downloads refer to the shown entities."""
    expect(shown.locator(".summary")).to_have_text("7 entities and 28 relations in 3 documents")
    shown.get_by_label("Threshold of relations").fill("0.5")
    shown.get_by_role("list", name="Relations").get_by_role("button", name="met").click()
    shown.get_by_label("Threshold").first.fill("0.7")
    expect(shown.locator(".summary")).to_have_text("6 entities and 1 relation in 3 documents")
    shown.get_by_role("button", name="Relations", exact=True).click()
    expect(shown.locator("tbody td")).to_have_text(["2", "Björn Ångström", "→ works for →", "Siemens", "0.700"])
    shown.get_by_role("button", name="Classes", exact=True).click()
    expect(shown.locator("tbody tr")).to_have_count(len(CLASSES))
    with shown.expect_download() as caught:
        shown.get_by_role("button", name="JSONL").click()
    lines = [json.loads(line) for line in Path(caught.value.path()).read_text().splitlines()]
    assert [line["relations"] for line in lines] == [[], [], [relation("works for", 0, 1, 0.7)]]
    assert lines[0]["classifications"] == {"topic": CLASSES, "tone": []}


def test_relations_and_classes_are_accessible(shown: Page) -> None:
    """Axe finds nothing serious in texts and tables, in both themes; a narrow window cuts nothing off."""
    shown.locator("article").first.get_by_role("button", name="works for").press("Enter")
    shown.get_by_text("3 more classes").click()
    scores = [".90" if label["label"] == "class 1" else ".01" for label in CLASSES]
    expect(shown.locator(".bars .count")).to_have_text(scores)
    shown.set_viewport_size({"width": 390, "height": 844})
    assert shown.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    shown.set_viewport_size({"width": 1280, "height": 850})
    for view, theme in (("Text", "light"), ("Text", "dark"), ("Relations", "dark"), ("Classes", "light")):
        shown.get_by_role("button", name=view, exact=True).click()
        shown.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        assert serious_findings(shown) == []


def test_of_thousands_of_labels_those_that_were_found_are_listed(console: Page) -> None:
    """Their hues are those that all have; each can be hidden."""
    labels = [f"label {number}" for number in range(2_000)]
    entities = [entity(LATIN, "Hamburg", labels[-1])]
    console.evaluate(SHOW, {"results": [result(0, entities)], "texts": [LATIN], "labels": labels})
    expect(console.locator(".legend button")).to_have_text(["label 19991"])
    expect(console.locator(".legend button")).to_have_attribute("data-hue", "7")
    expect(console.locator(".own > *")).to_have_count(1)
    console.locator(".legend button").click()
    expect(console.locator("mark")).to_have_count(0)


def test_questions_are_asked_answered_and_downloaded_as_the_api_has_them(service: Page) -> None:
    """From the form over the job's request to the tables of its page, with a model that can do every task."""
    page = service
    page.get_by_label("Texts", exact=True).fill(STORY)
    page.get_by_label("Labels", exact=True).fill("person, company, place")
    page.keyboard.press("Enter")
    page.get_by_text("Relations and classifications").click()
    page.get_by_role("button", name="Add a relation").click()
    expect(page.locator("#submit-hint")).to_have_text("Name each relation, or remove it.")
    page.keyboard.type("near: next to")
    page.get_by_text("Tail: any label").click()
    for label in ("person", "place"):
        page.get_by_label(f"Relation 1: tail may be {label}").check()
    page.get_by_role("button", name="Remove label place").click()
    expect(page.get_by_text("Tail: person")).to_be_visible()
    page.get_by_text("Tail: person").click()
    page.get_by_role("button", name="Add a relation").click()
    page.keyboard.type("knows")
    for number, name in ((1, "topic"), (2, "tone")):
        page.get_by_role("button", name="Add a classification").click()
        page.keyboard.type(name)
        page.get_by_label(f"Classification {number}: classes").fill("politics, sport")
        page.keyboard.press("Enter")
    page.get_by_label("Several may be right").last.check()
    assert serious_findings(page) == []
    page.locator("[type=submit]").click()
    page.locator("article tbody tr").first.wait_for()

    page.locator(".output a.mono").click()
    page.locator("h1").wait_for()
    page.reload()
    url = f"{page.url.split('#')[0]}v1/jobs/{page.locator('h1').inner_text()}/results"
    [answer] = httpx.get(url).json()["data"]
    texts = [span["text"] for span in answer["entities"]]
    tails = {(pair["label"], answer["entities"][pair["tail"]]["label"]) for pair in answer["relations"]}
    assert {tail for name, tail in tails if name == "near"} == {"person"}
    assert {name for name, _ in tails} == {"near", "knows"}
    sums = {name: sum(score["score"] for score in classes) for name, classes in answer["classifications"].items()}
    assert (round(sums["topic"], 3), round(sums["tone"], 3)) == (1.0, 1.444)
    page.get_by_role("button", name="Relations", exact=True).click()
    expect(page.locator(".results tbody tr")).to_have_text(
        [f"0{texts[p['head']]}→ {p['label']} →{texts[p['tail']]}{p['score']:.3f}" for p in answer["relations"]]
    )
    for view, table in (("Relations", "relations"), ("Classes", "classifications")):
        page.get_by_role("button", name=view, exact=True).click()
        with page.expect_download() as caught:
            page.get_by_role("button", name=f"CSV of {table}").click()
        csv = httpx.get(url, params={"table": table}, headers={"Accept": "text/csv"}).content
        assert Path(caught.value.path()).read_bytes() == csv


def test_a_text_can_be_classified_without_labels(service: Page) -> None:
    """No label is needed then; the classes are above the text."""
    page = service
    page.goto("/")
    page.get_by_label("Texts", exact=True).fill(STORY)
    expect(page.locator("#submit-hint")).to_have_text("Add at least one label.")
    page.get_by_text("Relations and classifications").click()
    page.get_by_role("button", name="Add a classification").click()
    page.keyboard.type("topic")
    page.get_by_label("Classification 1: classes").fill("politics, sport")
    page.keyboard.press("Enter")
    page.locator("[type=submit]").click()
    expect(page.locator(".classification h4")).to_have_text("topic")
    expect(page.locator(".bars li")).to_have_text(["politics.61", "sport.38"])
    expect(page.locator(".marked .text")).to_have_text(STORY)


def test_a_model_without_relations_offers_none_and_says_why(console: Page) -> None:
    """The shipped model finds entities only."""
    page = console
    page.goto("/#/jobs")
    page.goto("/#/extract")
    page.get_by_text("Relations and classifications").click()
    expect(page.get_by_text("gleaner-small cannot find relations.")).to_be_visible()
    expect(page.get_by_text("gleaner-small cannot classify texts.")).to_be_visible()
    expect(page.get_by_role("button", name="Add a relation")).to_be_hidden()
