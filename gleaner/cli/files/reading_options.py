"""Options of reading files, the same for every command that reads documents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Final

import typer

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.inputs import OnBadLine
from gleaner.cli.files.opening import find_codec
from gleaner.cli.files.readers import Format
from gleaner.cli.files.rows import InputError, Quotes, Reading

TextField = Annotated[str, typer.Option("--text-column", help="Column or JSON field of the text.")]
IdField = Annotated[
    str | None,
    typer.Option("--id-column", help="Column or JSON field of the id. [default: id, where rows have one]"),
]
Kind = Annotated[
    Format | None,
    typer.Option(
        "--format", help="Format of the files; `lines` is one document per line. [default: by their names]"
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(help="Delimiter of a table's cells, or `tab`. [default: by the header in .csv; a tab in .tsv]"),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        help="Such as windows-1252, shift_jis, utf-16le. [default: by byte order mark or HTML charset, or UTF-8]"
    ),
]
QuotesOption = Annotated[
    Quotes | None,
    typer.Option("--quotes", help="Quotes in tables: doubled inside quoted cells, or literal characters."),
]
BadLine = Annotated[
    OnBadLine,
    typer.Option(
        help="How to handle lines, rows and files that are not valid documents: reject everything before "
        "anything is submitted, skip them, or write failed documents."
    ),
]
Ignored = Annotated[
    list[str] | None,
    typer.Option("--ignore-columns", help="Fields of JSON lines to ignore: labels, options, or both."),
]
Split = Annotated[
    bool, typer.Option("--split", help="Split texts over 1 MB between paragraphs; offsets refer to the whole text.")
]

_IGNORABLE: Final = ("labels", "options")


@dataclass(frozen=True, slots=True)
class InputOptions:
    """Options that say how a command reads its files."""

    kind: Format | None
    reading: Reading
    on_bad_line: OnBadLine

    @classmethod
    def parse(cls, kind: Format | None, reading: Reading, on_bad_line: OnBadLine) -> InputOptions:
        """Check and convert options: a delimiter may be `tab`, ignored fields may be separated by commas.

        Raises:
            CommandError: an option has an invalid value.
        """
        if reading.encoding is not None:
            try:
                find_codec(reading.encoding)
            except InputError as failure:
                raise CommandError(f"--encoding: {failure}") from None
        ignored = frozenset(name.strip() for item in reading.ignored for name in item.split(","))
        if unknown := ignored.difference(_IGNORABLE):
            raise CommandError(
                f"--ignore-columns {', '.join(sorted(unknown))}: only `labels` and `options` can be ignored; other "
                "fields are never read"
            )
        return cls(
            kind, replace(reading, delimiter=_parse_delimiter(reading.delimiter), ignored=ignored), on_bad_line
        )


def _parse_delimiter(option: str | None) -> str | None:
    delimiter = "\t" if option in ("tab", "\\t", "t") else option
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise CommandError(f"--delimiter {option!r}: use one character, or `tab`")
    return delimiter
