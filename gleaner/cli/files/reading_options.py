"""Options of reading files, the same for every command that reads documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.files.decoding import find_codec
from gleaner.cli.files.rows import Format, InputError, OffsetUnit, OnBadLine, Quotes, Reading
from gleaner.client.calls import TASK_OPTIONS

IdColumn = Annotated[
    str | None,
    typer.Option("--id-column", help="Column or JSON field of the id. [default: id, where rows have one]"),
]
_IGNORABLE: Final = ("labels", *TASK_OPTIONS, "options")


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """Options that say how a command reads its files."""

    text_column: Annotated[str, typer.Option(help="Column or JSON field of the text.")] = "text"
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format", help="Format of the files; `lines` is one document per line. [default: by their names]"
        ),
    ] = None
    delimiter: Annotated[
        str | None,
        typer.Option(
            help="Delimiter of a table's cells, or `tab`. [default: by the header in .csv; a tab in .tsv]"
        ),
    ] = None
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Such as windows-1252, shift_jis, utf-16le. "
            "[default: by byte order mark or HTML charset, or UTF-8]"
        ),
    ] = None
    quotes: Annotated[
        Quotes | None,
        typer.Option(help="Quotes in tables: doubled inside quoted cells, or literal characters."),
    ] = None
    ignore_columns: Annotated[
        list[str] | None,
        typer.Option(help="Fields of JSON lines to ignore: labels, relations, classifications, options."),
    ] = None
    split: Annotated[
        bool,
        typer.Option("--split", help="Split texts over 1 MB between paragraphs; offsets refer to the whole text."),
    ] = False
    on_bad_line: Annotated[
        OnBadLine,
        typer.Option(
            help="How to handle lines, rows and files that are not valid documents: reject everything before "
            "anything is submitted, skip them, or write failed documents."
        ),
    ] = OnBadLine.REJECT

    def make_reading(self, id_column: str | None = None, unit: OffsetUnit = "codepoint") -> Reading:
        """Check and convert the options: a delimiter may be `tab`, ignored fields may be separated by commas.

        Raises:
            CommandError: an option has an invalid value.
        """
        if self.encoding is not None:
            try:
                find_codec(self.encoding)
            except InputError as failure:
                raise CommandError(f"--encoding: {failure}") from None
        ignored = frozenset(name.strip() for item in self.ignore_columns or () for name in item.split(","))
        if unknown := ignored.difference(_IGNORABLE):
            raise CommandError(
                f"--ignore-columns {', '.join(sorted(unknown))}: only {', '.join(_IGNORABLE)} can be ignored; "
                "other fields are never read"
            )
        return Reading(
            text_column=self.text_column,
            id_column=id_column,
            delimiter=_parse_delimiter(self.delimiter),
            encoding=self.encoding,
            quotes=self.quotes or Quotes.DOUBLED,
            ignored=ignored,
            unit=unit,
            split=self.split,
            kind=self.kind,
            on_bad_line=self.on_bad_line,
        )


def _parse_delimiter(option: str | None) -> str | None:
    delimiter = "\t" if option in ("tab", "\\t", "t") else option
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise CommandError(f"--delimiter {option!r}: use one character, or `tab`")
    return delimiter
