"""Files of every kind dropped on the console: it submits their texts, or names the part that it cannot read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from gleaner import Client
from tests.support.processes.local_stack import RunningStack

Submitted = Callable[[], list[str | None]]


@pytest.fixture
def submitted(page: Page, stack: RunningStack, console_key: str) -> Submitted:
    """Submit the page's content; return the texts that the service read."""

    def submit() -> list[str | None]:
        page.get_by_role("button", name="General").click()
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Keep texts with the results").check()
        page.locator(".primary").click()
        page.locator(".output .pill.is-succeeded").wait_for()
        with Client(stack.url, console_key) as client:
            return [result.text for result in client.job(page.locator(".output a.mono").inner_text()).results()]

    return submit


def give(page: Page, name: str, content: bytes) -> None:
    """Choose a file of this name and content."""
    page.get_by_label("Choose files").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )


def test_a_row_that_cannot_be_read_stops_the_submission_until_it_is_left_out(
    page: Page, submitted: Submitted
) -> None:
    """A comma that nobody quoted: the row is named with its line, and never submitted cut."""
    give(page, "a.csv", b"id,text\n1,Ada Lovelace lived in London, near Grace Hopper\n2,Rome\n")
    expect(page.locator(".file .fault")).to_contain_text("line 2 has 3 cells, the header 2")
    page.get_by_role("button", name="General").click()
    expect(page.locator(".primary")).to_be_disabled()
    expect(page.locator("#submit-hint")).to_contain_text("a.csv has 1 row that cannot be read")
    page.get_by_label("Leave out rows that cannot be read").check()
    assert submitted() == ["Rome"]


def test_a_file_that_is_not_utf_8_is_read_once_its_encoding_is_chosen(page: Page, submitted: Submitted) -> None:
    """No letter becomes U+FFFD."""
    give(page, "latin.txt", "Zoë Müller lives in Köln.".encode("latin-1"))
    expect(page.locator(".file .fault")).to_contain_text("is not UTF-8")
    expect(page.locator(".primary")).to_be_disabled()
    page.get_by_label("Encoding").select_option("windows-1252")
    assert submitted() == ["Zoë Müller lives in Köln."]


def test_files_that_cannot_be_read_are_named(page: Page) -> None:
    """An open quote, an Office file, a header that names a column twice."""
    give(page, "open.csv", b'id,text\n1,"Ada\n2,Rome\n')
    expect(page.locator(".file .fault")).to_contain_text("the quote that opens in line 2 is never closed")
    page.get_by_role("button", name="Remove open.csv").click()
    give(page, "sheet.csv", b"PK\x03\x04rest")
    expect(page.locator(".drop > .fault")).to_contain_text("sheet.csv is a ZIP or Office file")
    give(page, "twice.csv", b"text,text\na,b\n")
    expect(page.locator(".file .fault")).to_contain_text("the header names")


def test_an_array_of_json_and_labels_of_rows_are_used(page: Page, submitted: Submitted) -> None:
    """All items of a .json file are submitted; a row whose labels mean something else is named."""
    give(
        page,
        "all.json",
        b'[{"text": "Ada"}, {"text": "Rome", "labels": ["city"]}, {"text": "x", "labels": [[0, 1, "P"]]}]',
    )
    expect(page.locator(".file .fault")).to_contain_text("item 3: its labels are not a list of strings")
    page.get_by_label("Use the labels, relations, classifications and options of its rows").uncheck()
    expect(page.locator(".file .fault")).to_have_count(0)
    assert submitted() == ["Ada", "Rome", "x"]


def test_a_description_may_have_commas(page: Page) -> None:
    """The example of the command's page is one label; lines that are pasted are several."""
    field = page.locator("#label-input")
    field.press_sequentially("city: a town or village, not a country")
    field.press("Enter")
    expect(page.locator(".chips .chip")).to_have_count(1)
    expect(page.locator(".chips .chip")).to_have_attribute("title", "a town or village, not a country")
    field.evaluate(
        """(input) => {
          const data = new DataTransfer();
          data.setData("text", "person\\ncompany: a firm, not a shop");
          input.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, cancelable: true }));
        }"""
    )
    expect(page.locator(".chips .chip bdi")).to_have_text(["city", "person", "company"])
