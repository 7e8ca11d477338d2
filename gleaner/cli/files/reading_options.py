"""Options that say how files are read -> `Reads`; the same ones for every command that reads documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.inputs import OnBadLine
from gleaner.cli.files.opening import find_codec
from gleaner.cli.files.readers import Format
from gleaner.cli.files.rows import Columns, InputError, OffsetUnit, Quotes, Reading

TextField = Annotated[str, typer.Option("--text-column", help="Column or JSON field of the text.")]
IdField = Annotated[
    str | None,
    typer.Option("--id-column", help="Column or JSON field of the id. [default: id, where rows have one]"),
]
Kind = Annotated[
    Format | None,
    typer.Option("--format", help="What the files are; `lines` is a document per line. [default: by their names]"),
]
Delimiter = Annotated[
    str | None,
    typer.Option(help="What parts the cells of a table, or `tab`. [default: by the header in .csv; a tab in .tsv]"),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        help="As windows-1252, shift_jis, utf-16le. [default: a byte order mark's, an HTML page's own, UTF-8]"
    ),
]
QuotesOption = Annotated[
    Quotes | None,
    typer.Option("--quotes", help="Quotes in tables: doubled inside quoted cells, or characters like others."),
]
BadLine = Annotated[
    OnBadLine,
    typer.Option(
        help="What a line, row or file that is no document does: stop everything before anything is submitted, be "
        "left out, or fail as a document."
    ),
]
Ignored = Annotated[
    list[str] | None,
    typer.Option("--ignore-columns", help="Fields of JSON lines that are not Gleaner's: labels, options, or both."),
]
Split = Annotated[
    bool,
    typer.Option("--split", help="Cut texts over 1 MB between paragraphs into documents; offsets are the text's."),
]

_OWN: Final = ("labels", "options")


@dataclass(frozen=True, slots=True)
class Reads:
    """How a command reads its files."""

    kind: Format | None
    reading: Reading
    on_bad_line: OnBadLine

    @classmethod
    def of(
        cls,
        kind: Format | None,
        text_column: str,
        id_column: str | None = None,
        *,
        delimiter: str | None = None,
        encoding: str | None = None,
        quotes: Quotes | None = None,
        ignored: Sequence[str] | None = None,
        unit: OffsetUnit | None = None,
        split: bool = False,
        on_bad_line: OnBadLine = OnBadLine.reject,
    ) -> Reads:
        """Return what the options say.

        Raises:
            CommandError: one has a value that cannot be.
        """
        if encoding is not None:
            try:
                find_codec(encoding)
            except InputError as failure:
                raise CommandError(f"--encoding: {failure}") from None
        names = frozenset(name.strip() for each in ignored or () for name in each.split(","))
        if strange := names.difference(_OWN):
            raise CommandError(
                f"--ignore-columns {', '.join(sorted(strange))}: only labels and options are read at all"
            )
        reading = Reading(
            Columns(text_column, id_column),
            _delimiter(delimiter),
            encoding,
            quotes or Quotes.doubled,
            names,
            unit or "codepoint",
            split,
        )
        return cls(kind, reading, on_bad_line)


def _delimiter(given: str | None) -> str | None:
    delimiter = "\t" if given in ("tab", "\\t", "t") else given
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise CommandError(f"--delimiter {given!r}: one character, or `tab`")
    return delimiter
