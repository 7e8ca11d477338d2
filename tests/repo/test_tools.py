from __future__ import annotations

import re

import pytest

from tests.conftest import REQUIRE_TOOLS, ROOT, Tool

ABSENT = "no-such-program"


def test_a_missing_tool_skips_with_its_name(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a developer's machine a test without its tool is skipped, and says which one."""
    monkeypatch.delenv(REQUIRE_TOOLS, raising=False)
    with pytest.raises(pytest.skip.Exception, match=ABSENT):
        tool(ABSENT)


def test_a_missing_tool_fails_in_the_pipeline(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all tools required, a test without its tool fails."""
    monkeypatch.setenv(REQUIRE_TOOLS, "1")
    with pytest.raises(pytest.fail.Exception, match=ABSENT):
        tool(ABSENT)


def test_the_tools_that_tests_ask_for_are_the_ones_make_brings() -> None:
    """`make tools` brings every program that a test needs, and none that no test needs."""
    [listed] = re.findall(r"^TOOLS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    brought = {pair.partition("=")[0] for pair in listed.split()}
    requested = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        if path.parent.name != "repo"
        for name in re.findall(r"\btool\(\"([^\"]+)\"\)", path.read_text())
    }
    assert requested == brought
