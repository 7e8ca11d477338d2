from __future__ import annotations

import pytest

from tests.conftest import REQUIRE_TOOLS, Tool

ABSENT = "no-such-program"


def test_a_missing_tool_skips_with_its_name(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a developer's machine a test without its tool is skipped, and says which one."""
    monkeypatch.delenv(REQUIRE_TOOLS, raising=False)
    with pytest.raises(pytest.skip.Exception, match=ABSENT):
        tool(ABSENT)


def test_a_missing_tool_fails_in_the_pipeline(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all tools are required, a test without its tool fails."""
    monkeypatch.setenv(REQUIRE_TOOLS, "1")
    with pytest.raises(pytest.fail.Exception, match=ABSENT):
        tool(ABSENT)
