"""Decodes clients' JSON: bounded before objects are built, and the documents of a job one at a time. Pure.

Python's parser builds objects of a hundred bytes from two bytes of input, and strings of four bytes per character
because of one emoji. So the end of every document is found in the bytes first, and its values are counted there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.errors import GatewayError
from gateway.validation import json_pointer

MAX_HEAD_BYTES = 1 << 20
"""Largest JSON of a job without its documents; labels and metadata at their limits need 0.8 MB."""
_HEAD_COST = 200_000
"""Cost of scanning a job's JSON without its documents, in addition to that of a document (`document_cost`)."""
TOO_MANY_VALUES = "has more values, or more white space, than a valid one can have"
_UNCOUNTED_BYTES = 64 * 1024
"""JSON up to this size becomes at most a few megabytes of objects, whatever it contains."""

_BOM = b"\xef\xbb\xbf"
_START = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]{0,65536}+\{")
_DOCUMENTS = re.compile(rb'[ \t\r\n]{0,65536}+"documents"[ \t\r\n]{0,65536}+:[ \t\r\n]{0,65536}+\[')
_MARK = re.compile(rb'["\[\]{},]')
_STRING_PART = re.compile(rb'(?:[^"\\]++|\\.){0,16384}+', re.DOTALL)
"""A part of a string; bounded, because a match holds the interpreter's lock."""
_RUN = re.compile(
    rb"(?:[ \t\r\n]{0,4096}+[,:]?+[ \t\r\n]{0,4096}+"
    rb'(?:"(?:[^"\\]{1,16}+|\\.){0,4096}+"|[-+.0-9A-Za-z]{1,32}+)){1,64}+',
    re.DOTALL,
)
"""Short strings, numbers and words with their separators, skipped at once: most values are such."""
_QUOTE, _COMMA = ord('"'), ord(",")
_DEPTH = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, _COMMA: 0}
ESCAPED = 6
"""A character of one byte may be sent as six (`\\u0041`)."""
_MAX_DEPTH = 100
_TOO_DEEP = "the body is nested too deeply"
_MAX_GAP = 1 << 20
"""Longest white space or number (bytes)."""
_STRING_COST, _BRACKET_COST, _RUN_COST = 8, 64, 128
_TASK_COST, _NAME_COST = 1536, 8
"""Bounds of the cost of a relation or classification, and of each label that it names."""
_WIDE = re.compile(rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff|[^\x00]\x00\x00\x00|\x00\x00\x00[^\x00]")
_HALF_WIDE = re.compile(rb"\xff\xfe|\xfe\xff|[^\x00]\x00|\x00[^\x00]")

Text = bytes | bytearray
Span = tuple[int, int]
"""Start and end of a part of a text (bytes)."""


class TooManyValuesError(Exception):
    """A JSON value holds more values than any valid one of its kind."""


class _RefusedError(ValueError):
    """JSON that Python accepts and this API does not."""


@dataclass(frozen=True, slots=True)
class Items:
    """The documents of a job, decoded one at a time.

    Attributes:
        body: JSON text.
        spans: the parts of it that are the elements of `documents`.
        max_text_bytes: longest text (UTF-8). A string that is certainly longer is not built: a shorter string above
            the limit replaces it.
    """

    body: Text
    spans: tuple[Span, ...]
    max_text_bytes: int

    def __len__(self) -> int:
        """Return the number of elements."""
        return len(self.spans)

    def __iter__(self) -> Iterator[Any]:
        """Decode the elements in order.

        Raises:
            GatewayError: malformed_json.
        """
        for start, end in self.spans:
            if end - start <= ESCAPED * self.max_text_bytes:
                yield _decode(self.body, (start, end))
            else:
                yield load_json(_shorten_long_strings(self.body[start:end], self.max_text_bytes))


def load_json(text: Text) -> Any:
    """Decode one JSON value; strings may hold lone surrogates.

    Raises:
        GatewayError: malformed_json.
    """
    return _decode(text, (0, len(text)))


def load_object(text: Text) -> dict[str, Any]:
    """Decode one JSON object.

    Raises:
        GatewayError: malformed_json; or validation_failed, for another value.
    """
    return _as_object(load_json(text))


def load_job(body: Text, max_documents: int, max_cost: int, max_text_bytes: int) -> dict[str, Any]:
    """Decode a job's JSON object; in a long one a list of `documents` becomes `Items`.

    Args:
        body: JSON text.
        max_documents: most documents of a job.
        max_cost: largest cost of scanning one document (`document_cost`).
        max_text_bytes: longest text (UTF-8).

    Raises:
        GatewayError: malformed_json, too_many_documents, payload_too_large or validation_failed.
    """
    if len(body) <= _UNCOUNTED_BYTES:
        return load_object(body)
    spans = _find_documents(body, max_documents, max_cost)
    if not spans:
        _check_head(len(body))
        return load_object(body)
    inside = spans[0][0], spans[-1][1]
    if inside[1] == len(body):
        _decode(body, spans[-1])  # raises the most precise error about the unfinished element
    _check_head(len(body) - (inside[1] - inside[0]))
    content = _as_object(_decode(body, (0, len(body)), inside))
    empty = len(spans) == 1 and not body[slice(*inside)].strip()
    content["documents"] = [] if empty else Items(body, spans, max_text_bytes)
    return content


def too_many_documents(limit: int) -> GatewayError:
    """Return the error of a job with more than `limit` documents."""
    return GatewayError(
        "too_many_documents", f"the request has more than {limit} documents; split it into several jobs"
    )


def document_cost(max_labels: int, max_tasks: int, max_names: int) -> int:
    """Return the largest cost of scanning a document: far more than that of any valid one.

    Args:
        max_labels: most labels of a document.
        max_tasks: most relations and classifications of a document.
        max_names: most classes of a classification, or labels of a relation's head or tail.
    """
    return 4096 + _BRACKET_COST * max_labels + max_tasks * (_TASK_COST + _NAME_COST * max_names)


def head_cost(max_document_cost: int) -> int:
    """Return the largest cost of scanning a job's JSON without its documents."""
    return _HEAD_COST + max_document_cost


def check_values(text: Text, max_cost: int) -> None:
    """Check that JSON has no more values than a valid request can have; short JSON is not scanned.

    Raises:
        TooManyValuesError: it has more.
        GatewayError: malformed_json, if it is nested too deeply.
    """
    if len(text) > _UNCOUNTED_BYTES:
        scanner = _Scanner(text, 0, max_cost)
        while scanner.at < len(text):
            scanner.skip_value()
            scanner.at += 1


class _Scanner:
    """Finds the ends of values in JSON without building them.

    It looks at brackets, commas and quotes only; the parser decides whether the text is JSON.

    Args:
        text: JSON text.
        at: offset where a value begins (bytes).
        budget: largest cost of the scan; a value costs at least 1, a bracket more, as no valid body has many.
    """

    def __init__(self, text: Text, at: int, budget: int) -> None:
        self.at = at
        self.budget = budget
        self._text = text

    def next_is(self, mark: bytes) -> bool:
        """Return whether this byte is next."""
        return self._text[self.at : self.at + 1] == mark

    def skip_value(self) -> None:
        """Advance to the comma or bracket after the value, or to the end of the text.

        Raises:
            TooManyValuesError: the scan costs more than the budget.
            GatewayError: malformed_json, if the value is nested too deeply.
        """
        text, at, budget, depth = self._text, self.at, self.budget, 0
        while (mark := _MARK.search(text, at, at + _MAX_GAP)) is not None:
            at, byte = mark.end(), text[mark.start()]
            if byte == _QUOTE:
                at, budget = _find_string_end(text, at), budget - _STRING_COST
            elif byte == _COMMA and depth == 0:
                break
            else:
                depth += _DEPTH[byte]
                if depth < 0:
                    break
                if depth > _MAX_DEPTH:
                    raise _malformed(_TOO_DEEP)
                budget -= _BRACKET_COST
            if depth and (run := _RUN.match(text, at)) is not None:
                budget -= min(_RUN_COST, (run.end() - at) // 2 + 1)
                at = run.end()
            if budget < 0:
                raise TooManyValuesError
        if mark is None and at + _MAX_GAP < len(text):
            raise TooManyValuesError
        self.at, self.budget = len(text) if mark is None else mark.start(), budget


def _find_string_end(text: Text, at: int) -> int:
    """Return the offset after the quote that ends the string, or the end of the text."""
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


def _shorten_long_strings(text: Text, max_bytes: int) -> bytes:
    parts: list[Text] = []
    copied = at = 0
    while (begin := text.find(b'"', at)) >= 0:
        at = _find_string_end(text, begin + 1)
        if at - begin > ESCAPED * max_bytes:
            parts += text[copied:begin], b'"%b"' % (b"x" * (max_bytes + 1))
            copied = at
    return b"".join((*parts, text[copied:]))


def _find_documents(body: Text, max_documents: int, max_cost: int) -> tuple[Span, ...]:
    """Return the span of each element of the list `documents`; none if the body has no such list."""
    start = _START.match(body)
    scanner = _Scanner(body, len(body) if start is None else start.end(), head_cost(max_cost))
    spans: tuple[Span, ...] = ()
    while scanner.at < len(body):
        if not spans and (begin := _DOCUMENTS.match(body, scanner.at)) is not None:
            spans = _find_elements(body, begin.end(), max_documents, max_cost)
            scanner.at = spans[-1][1] + 1
        try:
            scanner.skip_value()
        except TooManyValuesError:
            raise GatewayError(
                "validation_failed", "the job has too many values outside its documents", [("", TOO_MANY_VALUES)]
            ) from None
        if not scanner.next_is(b","):
            break
        scanner.at += 1
    return spans


def _find_elements(body: Text, at: int, limit: int, max_cost: int) -> tuple[Span, ...]:
    spans: list[Span] = []
    scanner = _Scanner(body, at, max_cost)
    while True:
        begin, scanner.budget = scanner.at, max_cost
        if len(spans) == limit:
            raise too_many_documents(limit)
        try:
            scanner.skip_value()
        except TooManyValuesError:
            path = json_pointer("documents", len(spans))
            raise GatewayError(
                "validation_failed", f"{path} {TOO_MANY_VALUES}", [(path, TOO_MANY_VALUES)]
            ) from None
        spans.append((begin, scanner.at))
        if not scanner.next_is(b","):
            return tuple(spans)
        scanner.at += 1


def _check_head(size: int) -> None:
    if size > MAX_HEAD_BYTES:
        raise GatewayError(
            "payload_too_large", f"the job without its documents is larger than {MAX_HEAD_BYTES} bytes"
        )


def _as_object(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise GatewayError("validation_failed", "the body must be a JSON object", [("", "must be a JSON object")])
    return content


def _decode(body: Text, span: Span, without: Span | None = None) -> Any:
    """Decode the value in a span of a text, omitting the part `without`.

    Raises:
        GatewayError: malformed_json, with the position in the whole text.
    """
    start, end = span
    if body.startswith(_BOM, start):
        start += len(_BOM)
    gap = without or (end, end)
    raw = body[start:end] if without is None else body[start : gap[0]] + body[gap[1] : end]

    def whole_offset(at: int) -> int:
        return at + start + (gap[1] - gap[0] if at + start >= gap[0] else 0)

    try:
        return _JSON.decode(raw.decode())
    except UnicodeDecodeError as error:
        raise _malformed(_describe_decode_error(body, whole_offset(error.start))) from None
    except json.JSONDecodeError as error:
        at = whole_offset(len(error.doc[: error.pos].encode("utf-8", "surrogatepass")))
        raise _malformed(_describe_syntax_error(body, at, error.msg)) from None
    except RecursionError:
        raise _malformed(_TOO_DEEP) from None
    except ValueError as error:
        refused = isinstance(error, _RefusedError)
        raise _malformed(str(error) if refused else "a number has too many digits") from None


def _describe_syntax_error(body: Text, at: int, message: str) -> str:
    wide = _describe_wide_encoding(body)
    if wide:
        return wide
    begin = body.rfind(b"\n", 0, at) + 1
    column = len(body[begin:at].removeprefix(_BOM).decode("utf-8", "replace")) + 1
    line = body.count(b"\n", 0, at) + 1
    detail = f"line {line} column {column}: {message}"
    if message.startswith("Extra data") and body[at : at + 1] in (b"{", b"["):
        detail += "; send NDJSON with the Content-Type application/x-ndjson"
    return detail


def _describe_decode_error(body: Text, at: int) -> str:
    return _describe_wide_encoding(body) or f"the body is not UTF-8 (byte {at})"


def _describe_wide_encoding(body: Text) -> str | None:
    """Return a message with the encoding if the first bytes are UTF-16 or UTF-32, else None."""
    first = bytes(body[:4])
    name = "UTF-32" if _WIDE.match(first) else "UTF-16" if _HALF_WIDE.match(first) else None
    return name and f"the body is {name}; send UTF-8"


def _refuse_constant(name: str) -> None:
    raise _RefusedError(f"{name} is not JSON")


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        # Python would silently keep the last one.
        raise _RefusedError("an object has the same name twice")
    return content


_JSON = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_build_object)


def _malformed(detail: str) -> GatewayError:
    return GatewayError("malformed_json", detail)
