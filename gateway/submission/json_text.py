"""Reads JSON from clients: bounded before it is built, and the documents of a job one at a time. Pure.

Python's parser makes objects of a hundred bytes from two bytes of input, and strings of four bytes a character from
one emoji. So the end of every document is found in the bytes first, where its values are counted as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.http.problems import Problem, pointer

MAX_HEAD_BYTES = 1 << 20
"""Largest JSON of a job without its documents; labels and metadata at their limits need 0.8 MB."""
HEAD_COST = 200_000
"""What looking through a job's JSON without its documents may cost (see `document_cost`)."""
TOO_MANY_VALUES = "has more values, or more white space, than a valid one can have"
_UNCOUNTED_BYTES = 64 * 1024
"""Text of this size makes no more than some megabytes of objects, whatever it says."""

_BOM = b"\xef\xbb\xbf"
_START = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]{0,65536}+\{")
_DOCUMENTS = re.compile(rb'[ \t\r\n]{0,65536}+"documents"[ \t\r\n]{0,65536}+:[ \t\r\n]{0,65536}+\[')
_MARK = re.compile(rb'["\[\]{},]')
_STRING_PART = re.compile(rb'(?:[^"\\]++|\\.){0,16384}+', re.DOTALL)
"""A stretch of a string; bounded, because a match holds the interpreter's lock."""
_RUN = re.compile(
    rb"(?:[ \t\r\n]{0,4096}+[,:]?+[ \t\r\n]{0,4096}+"
    rb'(?:"(?:[^"\\]{1,16}+|\\.){0,4096}+"|[-+.0-9A-Za-z]{1,32}+)){1,64}+',
    re.DOTALL,
)
"""Short strings, numbers and words with what separates them: passed at once, as most values are such."""
_QUOTE, _COMMA = ord('"'), ord(",")
_DEPTH = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, _COMMA: 0}
_ESCAPED = 6
"""A character of one byte may come as six (`\\u0041`)."""
_MAX_DEPTH = 100
_TOO_DEEP = "the body is nested too deeply"
_MAX_GAP = 1 << 20
"""Most white space, or digits of a number, in one place (bytes)."""
_STRING_COST, _BRACKET_COST, _RUN_COST = 8, 64, 128
_WIDE = re.compile(rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff|[^\x00]\x00\x00\x00|\x00\x00\x00[^\x00]")
_HALF_WIDE = re.compile(rb"\xff\xfe|\xfe\xff|[^\x00]\x00|\x00[^\x00]")

Text = bytes | bytearray
Span = tuple[int, int]
"""Start and end (bytes) of a part of a text."""


class TooManyValuesError(Exception):
    """A JSON value holds more values than any valid one of its kind."""


class _RefusedError(ValueError):
    """JSON that Python reads and this API does not."""


@dataclass(frozen=True, slots=True)
class Items:
    """The documents of a job, decoded one at a time.

    Attributes:
        body: JSON text.
        spans: the parts of it that are the elements of `documents`.
        longest: bytes (UTF-8) that a text may have. A string that is certainly longer is not built: another that is
            too long takes its place.
    """

    body: Text
    spans: tuple[Span, ...]
    longest: int

    def __len__(self) -> int:
        """Return the number of elements."""
        return len(self.spans)

    def __iter__(self) -> Iterator[Any]:
        """Decode the elements in order.

        Raises:
            Problem: malformed_json.
        """
        for start, end in self.spans:
            if end - start <= _ESCAPED * self.longest:
                yield _decode(self.body, (start, end))
            else:
                yield load_json(_without_long_strings(self.body[start:end], self.longest))


def load_json(text: Text) -> Any:
    """Decode one JSON value; strings may hold lone surrogates.

    Raises:
        Problem: malformed_json.
    """
    return _decode(text, (0, len(text)))


def load_object(text: Text) -> dict[str, Any]:
    """Decode one JSON object.

    Raises:
        Problem: malformed_json; or validation_failed, for another value.
    """
    return _as_object(load_json(text))


def load_job(body: Text, most_documents: int, most_cost: int, longest: int) -> dict[str, Any]:
    """Decode a job's JSON object; in a long one `documents`, where they are a list, become `Items`.

    Args:
        body: JSON text.
        most_documents: documents that a job may have.
        most_cost: what looking through one document may cost (`document_cost`).
        longest: bytes that a text may have.

    Raises:
        Problem: malformed_json, too_many_documents, payload_too_large or validation_failed.
    """
    if len(body) <= _UNCOUNTED_BYTES:
        return load_object(body)
    spans = _find_documents(body, most_documents, most_cost)
    if not spans:
        _check_head(len(body))
        return load_object(body)
    inside = spans[0][0], spans[-1][1]
    if inside[1] == len(body):
        _decode(body, spans[-1])  # which says best what is unfinished
    _check_head(len(body) - (inside[1] - inside[0]))
    content = _as_object(_decode(body, (0, len(body)), inside))
    empty = len(spans) == 1 and not body[slice(*inside)].strip()
    content["documents"] = [] if empty else Items(body, spans, longest)
    return content


def too_many_documents(most: int) -> Problem:
    """Return the problem of a job with more documents than `most`."""
    return Problem("too_many_documents", f"more than the {most} documents that are allowed in one request")


def document_cost(most_labels: int) -> int:
    """Return what looking through a document may cost: far more than any valid one does."""
    return 4096 + _BRACKET_COST * most_labels


def check_values(text: Text, most_cost: int) -> None:
    """Check that a JSON text has no more values than a valid one can have; short texts are not looked through.

    Raises:
        TooManyValuesError: it has more.
        Problem: malformed_json, for a text that is nested too deeply.
    """
    if len(text) > _UNCOUNTED_BYTES:
        scanner = _Scanner(text, 0, most_cost)
        while scanner.at < len(text):
            scanner.skip_value()
            scanner.at += 1


class _Scanner:
    """Finds the ends of values in JSON text without building them.

    It trusts nothing but brackets, commas and quotes; whether the text is JSON is the parser's to say.

    Args:
        text: JSON text.
        at: the place (bytes) where a value begins.
        left: what the search may cost; every value costs at least 1, a bracket much, since no valid body has many.
    """

    def __init__(self, text: Text, at: int, left: int) -> None:
        self.at = at
        self.left = left
        self._text = text

    def next_is(self, mark: bytes) -> bool:
        """Return whether this byte comes next."""
        return self._text[self.at : self.at + 1] == mark

    def skip_value(self) -> None:
        """Go to the comma or bracket behind the value, or to the end of the text.

        Raises:
            TooManyValuesError: the search costs more than what is left.
            Problem: malformed_json, for a value that is nested too deeply.
        """
        text, at, left, depth = self._text, self.at, self.left, 0
        while (mark := _MARK.search(text, at, at + _MAX_GAP)) is not None:
            at, byte = mark.end(), text[mark.start()]
            if byte == _QUOTE:
                at, left = _end_of_string(text, at), left - _STRING_COST
            elif byte == _COMMA and depth == 0:
                break
            else:
                depth += _DEPTH[byte]
                if depth < 0:
                    break
                if depth > _MAX_DEPTH:
                    raise _malformed(_TOO_DEEP)
                left -= _BRACKET_COST
            if depth and (run := _RUN.match(text, at)) is not None:
                left -= min(_RUN_COST, (run.end() - at) // 2 + 1)
                at = run.end()
            if left < 0:
                raise TooManyValuesError
        if mark is None and at + _MAX_GAP < len(text):
            raise TooManyValuesError
        self.at, self.left = len(text) if mark is None else mark.start(), left


def _end_of_string(text: Text, at: int) -> int:
    """Return the place behind the quote that ends the string, or the end of the text."""
    while True:
        part = _STRING_PART.match(text, at)
        end = at if part is None else part.end()
        if end >= len(text):
            return len(text)
        if text[end] == _QUOTE:
            return end + 1
        if end == at:  # a backslash is the last byte
            return len(text)
        at = end


def _without_long_strings(text: Text, longest: int) -> bytes:
    parts: list[Text] = []
    copied = at = 0
    while (begin := text.find(b'"', at)) >= 0:
        at = _end_of_string(text, begin + 1)
        if at - begin > _ESCAPED * longest:
            parts += text[copied:begin], b'"%b"' % (b"x" * (longest + 1))
            copied = at
    return b"".join((*parts, text[copied:]))


def _find_documents(body: Text, most_documents: int, most_cost: int) -> tuple[Span, ...]:
    """Find each element of the list `documents`; none where the body is no object with such a list."""
    start = _START.match(body)
    scanner = _Scanner(body, len(body) if start is None else start.end(), HEAD_COST)
    spans: tuple[Span, ...] = ()
    while scanner.at < len(body):
        if not spans and (begin := _DOCUMENTS.match(body, scanner.at)) is not None:
            spans = _elements(body, begin.end(), most_documents, most_cost)
            scanner.at = spans[-1][1] + 1
        try:
            scanner.skip_value()
        except TooManyValuesError:
            raise Problem(
                "validation_failed", "the job has too many values outside of its documents", [("", TOO_MANY_VALUES)]
            ) from None
        if not scanner.next_is(b","):
            break
        scanner.at += 1
    return spans


def _elements(body: Text, at: int, most: int, most_cost: int) -> tuple[Span, ...]:
    spans: list[Span] = []
    scanner = _Scanner(body, at, most_cost)
    while True:
        begin, scanner.left = scanner.at, most_cost
        if len(spans) == most:
            raise too_many_documents(most)
        try:
            scanner.skip_value()
        except TooManyValuesError:
            place = pointer("documents", len(spans))
            raise Problem("validation_failed", f"{place} {TOO_MANY_VALUES}", [(place, TOO_MANY_VALUES)]) from None
        spans.append((begin, scanner.at))
        if not scanner.next_is(b","):
            return tuple(spans)
        scanner.at += 1


def _check_head(size: int) -> None:
    if size > MAX_HEAD_BYTES:
        raise Problem("payload_too_large", f"the job without its documents is larger than {MAX_HEAD_BYTES} bytes")


def _as_object(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise Problem("validation_failed", "the body must be a JSON object", [("", "must be a JSON object")])
    return content


def _decode(body: Text, span: Span, without: Span | None = None) -> Any:
    """Decode the value in a span of a text, a part of it left out.

    Raises:
        Problem: malformed_json, with the place in the whole text.
    """
    start, end = span
    if body.startswith(_BOM, start):
        start += len(_BOM)
    gap = without or (end, end)
    raw = body[start:end] if without is None else body[start : gap[0]] + body[gap[1] : end]

    def place(at: int) -> int:
        return at + start + (gap[1] - gap[0] if at + start >= gap[0] else 0)

    try:
        return _JSON.decode(raw.decode())
    except UnicodeDecodeError as error:
        raise _malformed(_not_utf8(body, place(error.start))) from None
    except json.JSONDecodeError as error:
        at = place(len(error.doc[: error.pos].encode("utf-8", "surrogatepass")))
        raise _malformed(_syntax(body, at, error.msg)) from None
    except RecursionError:
        raise _malformed(_TOO_DEEP) from None
    except ValueError as error:
        refused = isinstance(error, _RefusedError)
        raise _malformed(str(error) if refused else "a number has too many digits") from None


def _syntax(body: Text, at: int, message: str) -> str:
    wide = _wide(body)
    if wide:
        return wide
    begin = body.rfind(b"\n", 0, at) + 1
    column = len(body[begin:at].removeprefix(_BOM).decode("utf-8", "replace")) + 1
    line = body.count(b"\n", 0, at) + 1
    detail = f"line {line} column {column}: {message}"
    if message.startswith("Extra data") and body[at : at + 1] in (b"{", b"["):
        detail += "; JSON lines are sent as application/x-ndjson"
    return detail


def _not_utf8(body: Text, at: int) -> str:
    return _wide(body) or f"the body is not UTF-8 (byte {at})"


def _wide(body: Text) -> str | None:
    """Return a message that names the encoding of a text that by its first bytes is not UTF-8, or None."""
    first = bytes(body[:4])
    name = "UTF-32" if _WIDE.match(first) else "UTF-16" if _HALF_WIDE.match(first) else None
    return name and f"the body is {name}; send UTF-8"


def _refuse_constant(name: str) -> None:
    raise _RefusedError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        # Python would keep the last and drop the others without a word.
        raise _RefusedError("an object says the same name twice")
    return content


_JSON = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)


def _malformed(detail: str) -> Problem:
    return Problem("malformed_json", detail)
