"""Options of reading become a `Reading`."""

from __future__ import annotations

from typing import Any

import pytest

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.reading_options import ReadingOptions
from gleaner.cli.files.rows import Format, OnBadLine, Quotes, Reading


def test_without_options_everything_is_detected() -> None:
    """The same as a `Reading` without arguments."""
    assert ReadingOptions().make_reading() == Reading()


def test_every_option_arrives() -> None:
    """No option is lost on the way."""
    options = ReadingOptions(
        text_column="body",
        kind=Format.CSV,
        delimiter=";",
        encoding="latin-1",
        quotes=Quotes.LITERAL,
        ignore_columns=["labels, options"],
        split=True,
        on_bad_line=OnBadLine.SKIP,
    )
    assert options.make_reading("key", "byte") == Reading(
        "body", "key", ";", "latin-1", Quotes.LITERAL, frozenset({"labels", "options"}), "byte", True, Format.CSV,
        OnBadLine.SKIP,
    )  # fmt: skip


@pytest.mark.parametrize("option", ["tab", "\\t", "t", "\t"])
def test_a_tab_can_be_written(option: str) -> None:
    """Shells make it hard to type one."""
    assert ReadingOptions(delimiter=option).make_reading().delimiter == "\t"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ""}, "--delimiter ''"),
        ({"delimiter": ";;"}, "use one character"),
        ({"delimiter": '"'}, "use one character"),
        ({"delimiter": "\n"}, "use one character"),
        ({"encoding": "klingon"}, "--encoding: 'klingon' is not an encoding"),
        ({"encoding": "hex"}, "--encoding: 'hex' is not an encoding"),
        (
            {"ignore_columns": ["labels,text"]},
            "--ignore-columns text: only labels, relations, classifications, options",
        ),
    ],
)
def test_a_wrong_value_is_refused(options: dict[str, Any], message: str) -> None:
    """With the option's name."""
    with pytest.raises(CommandError, match=message):
        ReadingOptions(**options).make_reading()
