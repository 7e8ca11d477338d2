from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.submission.parsing import json_text
from gateway.submission.parsing.json_text import (
    TooManyValuesError,
    check_values,
    document_cost,
    load_job,
    load_object,
)

COST = document_cost(100, 70, 100)
SPACES = st.text(" \t\r\n", max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture
def looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have short texts looked through like long ones."""
    monkeypatch.setattr(json_text, "_UNCOUNTED_BYTES", -1)


def written(value: Any, *, ascii_only: bool = False, indent: int | None = None) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")


def loaded(body: bytes, *, documents: int = 1000, longest: int = 1 << 20) -> dict[str, Any]:
    """Return a job's JSON with its documents built."""
    content = load_job(body, documents, COST, longest)
    if "documents" in content and isinstance(content["documents"], json_text.Items):
        content["documents"] = list(content["documents"])
    return content


def outcome(load: Any, body: bytes) -> Any:
    """Return the content of a body, or the code and detail of a problem."""
    try:
        return load(body)
    except GatewayError as error:
        return error.code, error.detail


def count(value: Any) -> int:
    """Return the number of values that the parser builds, names of members included."""
    match value:
        case list():
            return 1 + sum(map(count, value))
        case dict():
            return 1 + len(value) + sum(map(count, value.values()))
    return 1


@pytest.mark.usefixtures("looked_through")
@given(JSON, st.booleans(), st.sampled_from([None, 0, 2]))
def test_the_count_is_never_too_low(value: Any, ascii_only: bool, indent: int | None) -> None:
    """However a value is written, looking through it costs at least its number of values; outermost ones apart."""
    body = written([value], ascii_only=ascii_only, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_UNCOUNTED_BYTES", -1)
        if count(value) > 1:
            with pytest.raises(TooManyValuesError):
                check_values(body, count(value) - 1)
        check_values(body, 1_000_000)


@given(
    st.dictionaries(st.text(max_size=5), JSON, max_size=3),
    st.lists(JSON, max_size=5),
    st.booleans(),
    st.sampled_from([None, 0, 3]),
    SPACES,
)
def test_a_job_that_is_looked_through_is_what_the_parser_makes_of_it(
    head: dict[str, Any], documents: list[Any], ascii_only: bool, indent: int | None, space: str
) -> None:
    """Wherever `documents` stand, and whatever they are."""
    for content in ({**head, "documents": documents}, {"documents": documents, **head}, head):
        body = space.encode() + written(content, ascii_only=ascii_only, indent=indent) + space.encode()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_text, "_UNCOUNTED_BYTES", -1)
            assert loaded(body) == content


@given(st.data())
def test_a_job_that_is_no_json_is_refused_at_the_same_place(data: st.DataObject) -> None:
    """A byte that is missing, or one too many: the same code either way, and the place in the whole body."""
    content = data.draw(st.fixed_dictionaries({"labels": st.just(["é"]), "documents": st.lists(JSON, max_size=3)}))
    body = written(content, indent=data.draw(st.sampled_from([None, 1])))
    at = data.draw(st.integers(0, len(body) - 1))
    broken = data.draw(st.sampled_from([body[:at] + body[at + 1 :], body[:at], body[:at] + b'",]}x' + body[at:]]))
    expected = outcome(load_object, broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_UNCOUNTED_BYTES", -1)
        got = outcome(loaded, broken)
    if isinstance(expected, tuple):
        assert got[0] == expected[0] == "malformed_json"
    else:
        assert got == expected


@pytest.mark.usefixtures("looked_through")
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"labels":["a"],\n"documents":[{"text":"x"},\n{"text":"\xc3\xa9" "}]}', "line 3 column 13: "),
        (b'{"labels":["a"],\n"documents":[{"text":"x"}\n], "x":tru}', "line 3 column 8: Expecting value"),
        (b'{"documents":[{"text":"x"},{"text":"abc', "line 1 column 36: Unterminated string starting at"),
        (b'{"documents":[{"text":"x"}', "line 1 column 27: "),
        (b'{"documents":[{"text":"x"}}', "line 1 column 27: "),
        (b'{"documents":[{"text":"x"},]}', "line 1 column 28: Expecting value"),
        (b'{"documents":[{"text":"x"} {"text":"y"}]}', "line 1 column 28: "),
        (b'{"documents":[{"text":"\xff"}]}', "the body is not UTF-8 (byte 23)"),
        (b'\xef\xbb\xbf{"documents":[{"text":}]}', "line 1 column 23: Expecting value"),
        (b'{"documents":[{"text":NaN}]}', "NaN is not JSON"),
        (b'{"documents":[{"text":"a","text":"b"}]}', "an object has the same name twice"),
        (b'{"documents":[],"documents":[]}', "an object has the same name twice"),
        (b'{"documents":[],"\\u0064ocuments":[]}', "an object has the same name twice"),
        (b'{"labels":["a"]}\n{"text":"x"}\n', "line 2 column 1: Extra data; send NDJSON with the Content-Type app"),
        ('{"documents":[]}'.encode("utf-16"), "the body is UTF-16; send UTF-8"),
        ('{"documents":[]}'.encode("utf-16-be"), "the body is UTF-16; send UTF-8"),
        ('{"documents":[]}'.encode("utf-16-le"), "the body is UTF-16; send UTF-8"),
        ('{"documents":[]}'.encode("utf-32"), "the body is UTF-32; send UTF-8"),
        ('{"documents":[]}'.encode("utf-32-be"), "the body is UTF-32; send UTF-8"),
        (b'{"documents":[' + b"[" * 5000, "the body is nested too deeply"),
    ],
)
def test_what_is_not_json_is_said_with_its_place(body: bytes, detail: str) -> None:
    """Lines and columns are those of the whole body; the message names the probable mistake."""
    code, message = outcome(loaded, body)

    assert (code, message[: len(detail)]) == ("malformed_json", detail)


@pytest.mark.parametrize(
    "head", [b'{"labels":["p"],"documents":[', b"[", b'{"options":[', b'{"labels":["p"],"documents":[{"text":']
)
@pytest.mark.parametrize("part", [b"[],", b"{},", b"[[[]]],", b'"",', b"1,", b"[", b'{"a":'])
def test_millions_of_values_are_refused_before_they_are_built(head: bytes, part: bytes) -> None:
    """In any place, of any kind; a JSON parser would make a gigabyte of thirty megabytes."""
    got = outcome(loaded, head + part * (8_000_000 // len(part)))

    assert got[0] in ("validation_failed", "too_many_documents", "payload_too_large", "malformed_json")


def test_a_job_without_its_documents_is_small() -> None:
    """A megabyte is more than labels and metadata at their limits need."""
    body = written({"labels": ["x" * 1_100_000], "documents": [{"text": "x"}]})

    assert outcome(loaded, body)[0] == "payload_too_large"
    assert loaded(written({"labels": ["x" * 1_000_000], "documents": [{"text": "x"}]}))


def test_all_that_is_allowed_is_within_the_bounds() -> None:
    """Documents at their limits, written as long as JSON can, in labels, descriptions and thresholds."""
    labels = {f"é{number:03d}" * 32: "ü, " * 340 for number in range(100)}
    options = {"threshold": dict.fromkeys(labels, 0.12345), "redact": {"labels": list(labels)}}
    document = {"id": "é" * 256, "text": "x" * 1000, "labels": labels, "options": options}
    for indent in (None, 8):
        body = written({"documents": [document] * 3}, ascii_only=True, indent=indent)
        assert loaded(body) == {"documents": [document] * 3}


@pytest.mark.usefixtures("looked_through")
def test_a_string_that_is_certainly_too_long_is_not_built() -> None:
    """A shorter string above the limit replaces it; its neighbours are unchanged."""
    documents = [{"id": "a", "text": "é" * 1000}, {"id": 'b"\\', "text": 'y"'}]
    got = loaded(written({"documents": documents}), longest=100)["documents"]

    assert got == [{"id": "a", "text": "x" * 101}, documents[1]]


@pytest.mark.parametrize("text", [b'"', b'"\\', b'"\\"', b'["a\\', b"[", b"{]", b"", b",,", b"]]]]"])
def test_any_bytes_come_to_an_end(text: bytes) -> None:
    """The scanner trusts nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_UNCOUNTED_BYTES", -1)
        check_values(text, COST)
