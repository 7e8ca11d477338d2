"""Decode files to text: compression, byte order marks, and encodings by the labels of the Encoding Standard."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import importlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import webencodings

from gleaner.cli.files.rows import RECORD_CHARACTERS, InputError, encoding_fault, find_undecoded

_ERRORS: Final = "gleaner.undecoded"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""UTF-32's before UTF-16's, which has the same first bytes."""
_BINARY_FORMATS: Final = (
    (b"%PDF-", "a PDF; extract its text first"),
    (b"PK\x03\x04", "an archive, as .xlsx, .docx and .zip are; save it as CSV or as text"),
    (b"\xd0\xcf\x11\xe0", "an old Office file, as .xls and .doc are; save it as CSV or as text"),
    (b"PAR1", "Parquet; add --format parquet"),
    (b"SQLite format 3\x00", "an SQLite database; export a table as CSV"),
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A file's text.

    Attributes:
        stream: the decoded text with its line ends; `rows.find_undecoded` finds bytes that could not be decoded.
        marked: the file began with UTF-8's byte order mark, which the stream omits.
    """

    stream: io.TextIOWrapper
    marked: bool


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file, decompressed if it is gzip or Zstandard, whatever its name.

    Raises:
        InputError: it cannot be decompressed.
        OSError: it cannot be opened or read.
    """
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(path.open("rb"))
        head, opened = plain.peek(4), plain
        if head.startswith(_GZIP):
            opened = stack.enter_context(io.BufferedReader(cast("Any", gzip.GzipFile(fileobj=plain))))
        elif head.startswith(_ZSTD):
            opened = stack.enter_context(io.BufferedReader(_open_zstd(plain)))
        try:
            yield opened
        except (EOFError, gzip.BadGzipFile, zlib.error) as failure:
            raise InputError(f"the compressed file is corrupt: {failure}") from None
        except Exception as failure:
            if type(failure).__name__ != "ZstdError":
                raise
            raise InputError(f"the compressed file is corrupt: {failure}") from None


@contextlib.contextmanager
def open_text(path: Path, encoding: str | None) -> Iterator[Opened]:
    """Open a file as text.

    Args:
        path: the file, compressed or not.
        encoding: a label; a byte order mark in the file takes precedence. None is UTF-8.

    Raises:
        InputError: the encoding is unknown, or the file is not text.
        OSError: it cannot be opened or read.
    """
    with open_bytes(path) as file:
        head = file.peek(64)[:64]
        mark, codec = find_mark(head)
        if codec is None:
            refuse_binary(head)
            if encoding is None:
                _refuse_utf16(head)
            codec = "utf-8" if encoding is None else find_codec(encoding)
        file.read(len(mark))
        _register_errors()
        with io.TextIOWrapper(file, encoding=codec, errors=_ERRORS, newline="") as stream:
            yield Opened(stream, marked=bool(mark) and codec == "utf-8")


def read_text(path: Path, encoding: str | None) -> tuple[str, Opened]:
    """Return the text of a file, including line ends, and how it was opened.

    Raises:
        InputError: it is too large for one document, or has another encoding.
        OSError: it cannot be opened or read.
    """
    with open_text(path, encoding) as opened:
        text = opened.stream.read(RECORD_CHARACTERS + 1)
        if len(text) > RECORD_CHARACTERS:
            raise InputError(
                f"larger than {RECORD_CHARACTERS} characters; split it into files, or read it with --format lines"
            )
    if byte := find_undecoded(text):
        raise InputError(encoding_fault(byte, encoding))
    return text, opened


def find_mark(head: bytes) -> tuple[bytes, str | None]:
    """Return the byte order mark that a file begins with and its codec, or b"" and None."""
    return next(((mark, codec) for mark, codec in _BOMS if head.startswith(mark)), (b"", None))


def find_codec(label: str) -> str:
    """Return Python's codec for a label of the Encoding Standard (`latin-1` is windows-1252), else of Python.

    Raises:
        InputError: the label is unknown, or does not name a text encoding.
    """
    standard = webencodings.lookup(label)
    if standard is None:
        try:
            codec = codecs.lookup(label)
            b"A\n".decode(codec.name)
        except (LookupError, ValueError, AssertionError):
            raise InputError(
                f"{label!r} is not an encoding; use one such as utf-8, windows-1252 or shift_jis (--encoding)"
            ) from None
        standard = webencodings.lookup(codec.name)
        if standard is None:
            return codec.name
    if standard.name == "replacement":
        raise InputError(f"{label!r} is an encoding that is not safe to read; convert the file to UTF-8 first")
    # Browsers decode gb2312 and gbk as gb18030, which is a superset.
    decoders = {"gbk": "gb18030", "x-user-defined": "cp1252"}
    return decoders.get(standard.name) or str(standard.codec_info.name)


def decode_bytes(content: bytes, codec: str) -> str:
    """Decode bytes; `rows.find_undecoded` finds those that are invalid in the codec."""
    _register_errors()
    return content.decode(codec, _ERRORS)


def refuse_binary(head: bytes) -> None:
    """Raise if the first bytes are those of a known binary format.

    Raises:
        InputError: they are; the message names the format and says what to do.
    """
    for magic, kind in _BINARY_FORMATS:
        if head.startswith(magic):
            raise InputError(f"not text but {kind}")


def _refuse_utf16(head: bytes) -> None:
    units = head[: len(head) // 2 * 2]
    for first, codec in ((1, "utf-16le"), (0, "utf-16be")):
        if len(units) >= 4 and not any(units[first::2]) and all(units[1 - first :: 2]):
            raise InputError(f"not UTF-8 but UTF-16 without a byte order mark; add --encoding {codec}")


def _register_errors() -> None:
    """Register the error handler `_ERRORS` for bytes that cannot be decoded; may be called repeatedly."""
    codecs.register_error(_ERRORS, _decode_byte)


def _decode_byte(failure: UnicodeError) -> tuple[str, int]:
    if isinstance(failure, UnicodeDecodeError):
        byte = failure.object[failure.start]
        if failure.encoding == "charmap" and 0x80 <= byte <= 0x9F:
            return chr(byte), failure.start + 1  # as the Encoding Standard has it for windows-125x
        if failure.encoding == "gb18030" and byte == 0x80:
            return "€", failure.start + 1
        if byte < 0x80:  # half of a pair in UTF-16, which the handler below does not take
            return chr(0xDC80 + byte), failure.end
    replaced: tuple[str, int] = codecs.lookup_error("surrogateescape")(failure)  # type: ignore[assignment]
    return replaced


def _open_zstd(file: BinaryIO) -> Any:
    for module in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(module).ZstdFile(file)
    raise InputError("reading Zstandard requires backports.zstd: pip install 'gleaner-ner[frame]'")
