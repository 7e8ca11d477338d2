from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from gateway.submission.parsing.job import load_submission, parse_submission
from gateway.submission.parsing.models import TenantModels
from gateway.submission.parsing.ndjson import LineSplitter, NdjsonReader, OnBadLine
from jobs.ledger import ModelFacts
from jobs.schema import Document, DocumentErrorCode

SETTINGS = GatewaySettings(max_document_bytes=100, max_ndjson_documents=50)
HEAD = b'{"labels":["person"]}\n'


def read(*pieces: bytes, on_bad_line: OnBadLine = "reject") -> list[Document]:
    """Return the documents of a body that arrives in these chunks."""
    reader = NdjsonReader(TenantModels(SETTINGS), on_bad_line)
    documents = [document for piece in pieces for document in reader.feed(piece)]
    return [*documents, *reader.finish()]


def refusal(*pieces: bytes) -> GatewayError:
    """Return the problem that this body is rejected with."""
    with pytest.raises(GatewayError) as caught:
        read(*pieces)
    return caught.value


def test_a_body_is_a_head_and_documents() -> None:
    """However it is cut; blank lines and carriage returns do not matter, nor does a missing last line feed."""
    body = HEAD + b'{"text":"a"}\r\n\n{"id":"x","text":"b","labels":["city"]}'

    for size in (1, 7, 1000):
        documents = read(*(body[at : at + size] for at in range(0, len(body), size)))
        assert [(d.index, d.id, d.text, d.labels) for d in documents] == [
            (0, "0", "a", None),
            (1, "x", "b", {"city": None}),
        ]


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (b"", "malformed_json", None),
        (b"\n \n", "malformed_json", None),
        (b"{\n", "malformed_json", "line:1"),
        (b"[]\n", "validation_failed", "line:1"),
        (b'{"labels":[]}\n', "validation_failed", "line:1/labels"),
        (b'{"labels":["a"],"documents":[]}\n', "validation_failed", "line:1/documents"),
        (b'{"labels":["a"],"model":"x"}\n', "unknown_model", "/model"),
        (b'{"relations":["a","a"]}\n', "validation_failed", "line:1/relations/1"),
        (b'{"classifications":{"a":[]}}\n', "validation_failed", "line:1/classifications/a"),
        (b'{"relations":["a"]}\n{"text":"x"}\n', "validation_failed", "line:2/labels"),
        (HEAD + b'{"text":"a","relations":{"b":{"head":["x"]}}}', "validation_failed", "line:2/relations/b/head/0"),
        (
            b'{"labels":["a"],"relations":{"b":{"head":["x"]}}}\n{"text":"a"}',
            "validation_failed",
            "line:1/relations/b/head/0",
        ),
        (HEAD, "validation_failed", None),
        (HEAD + b'{"text":"a"}\n{"text":\n', "malformed_json", "line:3"),
        (HEAD + b'\n\n{"text":"\xff"}\n', "malformed_json", "line:4"),
        (HEAD + b'{"text":1}\n', "validation_failed", "line:2/text"),
        (HEAD + b'{"txt":"a"}\n', "validation_failed", "line:2/txt"),
        (HEAD + b'{"text":"a","labels":[""]}\n', "validation_failed", "line:2/labels/0"),
        (HEAD + b'{"id":"x","text":"a"}\n{"id":"x","text":"a"}\n', "validation_failed", "line:3/id"),
        (HEAD + b'{"id":"1","text":"a"}\n{"text":"a"}\n', "validation_failed", "line:3/id"),
        (b'{}\n{"text":"a"}\n', "validation_failed", "line:2/labels"),
        (HEAD + b'{"text":NaN}\n', "malformed_json", "line:2"),
        (HEAD + b'{"id":"a\\r\\nb","text":"x"}\n', "validation_failed", "line:2/id"),
        (HEAD + b'{"text":"x","labels":["\xe2\x80\x8b"]}\n', "validation_failed", "line:2/labels/0"),
        (HEAD + b'{"text":"x","x":[' + b"{}," * 50_000 + b"{}]}\n", "validation_failed", "line:2"),
        (b'{"labels":["a"],"options":[' + b"{}," * 50_000 + b"{}]}\n", "validation_failed", "line:1"),
        (b'{"labels":["a"]' + b" " * 1_100_000 + b"}\n", "validation_failed", "line:1"),
        (HEAD + b'{"text":"a"}\n' + b" \r\n" * 1002, "validation_failed", None),
        (HEAD + b'{"text":"a","text":"b"}\n', "malformed_json", "line:2"),
        (HEAD + b"[" * 100_000 + b"\n", "malformed_json", "line:2"),
        (
            b'{"labels":["a"],"options":{"threshold":{"b":0.5}}}\n{"text":"x"}\n',
            "validation_failed",
            "line:1/options/threshold/b",
        ),
        (
            b'{"labels":["a"],"options":{"redact":{"labels":["a","b"]}}}\n{"text":"x"}\n',
            "validation_failed",
            "line:1/options/redact/labels/1",
        ),
        (
            b'{"labels":["a"],"options":{"redact":true}}\n{"text":"x","options":{"return_text":true}}\n',
            "validation_failed",
            "line:2/options",
        ),
        (HEAD + b'{"text":"a"}\n' * 51, "too_many_documents", None),
    ],
)
def test_a_broken_line_is_told_by_its_number(body: bytes, code: str, pointer: str | None) -> None:
    """And the place in it, wherever there is one."""
    problem = refusal(body)

    assert problem.code == code
    assert pointer is None or pointer in [path for path, _ in problem.violations]


def test_a_body_without_a_head_is_told_what_is_missing() -> None:
    """The most common mistake: documents from the first line on."""
    assert "the job's labels, as" in refusal(b'{"text":"a"}\n{"text":"b"}\n').detail
    assert "the job's labels, as" in refusal(b'{"id":"1","text":"a","labels":["x"]}\n').detail


def test_byte_order_marks_are_skipped() -> None:
    """At the beginning, and where files were joined."""
    bom = b"\xef\xbb\xbf"
    documents = read(bom + HEAD + bom + b'{"text":"a"}\n' + bom + b'{"text":"b"}')

    assert [d.text for d in documents] == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(encoding: str) -> None:
    """Windows calls UTF-16 Unicode."""
    assert (
        f"it is {encoding[:6].upper()}; send UTF-8"
        in refusal('{"labels":["a"]}\n{"text":"x"}'.encode(encoding)).detail
    )


def test_a_few_blank_lines_are_skipped() -> None:
    """The limit is a thousand, and one more per document, however the body is split."""
    body = HEAD + b'{"text":"a"}\n\n \r\n' * 10 + b"\n" * 900

    for size in (1, 3, 10_000):
        documents = read(*(body[at : at + size] for at in range(0, len(body), size)))
        assert len(documents) == 10
    assert [line.number for line in LineSplitter(100).feed(b"\n\n \na\n\nb\n")] == [4, 6]


def test_a_bad_id_or_label_may_fail_as_a_document() -> None:
    """By its index: the id cannot be used."""
    body = HEAD + b'{"id":"a\\nb","text":"x"}\n{"id":"c","text":"x","labels":["\xef\xb8\x8f"]}\n{"text":"y"}\n'
    documents = read(body, on_bad_line="fail_document")

    assert [(d.id, d.error and d.error.code.value) for d in documents] == [
        ("0", "invalid_document"),
        ("c", "invalid_document"),
        ("2", None),
    ]


def test_a_bad_line_may_fail_as_a_document() -> None:
    """By its own id where that can be read; its neighbours are documents like any other."""
    body = HEAD + b'{"text":"a"}\nnonsense\n{"id":"x","text":7}\n{"id":"x","text":"b"}\n{"id":"x","text":"c"}\n'
    documents = read(body, on_bad_line="fail_document")

    assert [(d.id, d.error and d.error.code.value) for d in documents] == [
        ("0", None),
        ("1", "invalid_document"),
        ("x", "invalid_document"),
        ("3", "invalid_document"),
        ("4", "invalid_document"),
    ]
    assert documents[1].error is not None
    assert documents[1].error.detail.startswith("line 3: column 1:")
    assert documents[2].error is not None
    assert documents[2].error.detail == "line 4: /text must be a string"


def test_a_threshold_of_a_label_that_only_documents_have_is_fine() -> None:
    """The rule is the same for a JSON body."""
    head = b'{"labels":["a"],"options":{"threshold":{"b":0.5},"redact":{"labels":["b"]}}}\n'

    assert len(read(head + b'{"text":"x","labels":["b"]}\n{"text":"y"}\n')) == 2


def test_a_text_too_large_fails_alone() -> None:
    """Both for a line that fits in the buffer and for a longer one."""
    lines = [json.dumps({"id": "big", "text": "x" * size}).encode() + b"\n" for size in (200, 2_000_000)]
    documents = read(HEAD, *lines, b'{"text":"ok"}\n')

    assert [(d.id, d.error and d.error.code.value) for d in documents] == [
        ("big", "document_too_large"),
        ("1", "document_too_large"),
        ("2", None),
    ]


def test_a_line_without_end_is_not_kept() -> None:
    """Memory holds one line of bounded length, however much comes."""
    lines = LineSplitter(1000)
    for _ in range(1000):
        assert list(lines.feed(b"x" * 1000)) == []
        assert len(lines.buffer) <= 1000
    ((number, content),) = [(line.number, line.content) for line in lines.feed(b"\nrest")]
    assert (number, content) == (1, None)
    assert [(line.number, line.content) for line in lines.finish()] == [(2, b"rest")]


def split_at(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Split the body at these offsets."""
    offsets = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[start:end] for start, end in itertools.pairwise(offsets)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELD = st.sampled_from(["id", "text", "labels", "options", "x"])
DOCUMENT = st.fixed_dictionaries({"text": st.text(max_size=120)}, optional={"id": st.text(max_size=5)})
LINE = (
    st.one_of(DOCUMENT, st.dictionaries(FIELD, JSON, max_size=3), JSON).map(
        lambda value: json.dumps(value).encode()
    )
    | st.binary(max_size=40)
)  # fmt: skip


@given(st.lists(LINE, max_size=12), st.lists(st.integers(0, 10_000), max_size=6), st.booleans())
def test_whatever_comes_is_read_or_refused(lines: list[bytes], cuts: list[int], reject: bool) -> None:
    """No other error; ids are unique, indexes without gaps; the cuts between pieces change nothing."""
    body = HEAD + b"\n".join(lines)
    mode: OnBadLine = "reject" if reject else "fail_document"

    def outcome(pieces: list[bytes]) -> Any:
        try:
            return read(*pieces, on_bad_line=mode)
        except GatewayError as error:
            return error.code, error.detail, error.violations

    documents = outcome([body])
    assert outcome(split_at(body, cuts)) == documents
    if isinstance(documents, list):
        assert [document.index for document in documents] == list(range(len(documents)))
        assert len({document.id for document in documents}) == len(documents)


@given(st.lists(DOCUMENT, min_size=1, max_size=10))
def test_lines_and_json_say_the_same(documents: list[dict[str, Any]]) -> None:
    """A body of either kind makes the same documents, or is refused with the same code."""
    head = {"labels": ["person"]}
    lines = b"\n".join(json.dumps(item).encode() for item in (head, *documents))
    body = json.dumps({**head, "documents": documents}).encode()

    def outcome(of: Any) -> Any:
        try:
            return of()
        except GatewayError as error:
            return error.code

    def parse_body() -> list[Document]:
        content = load_submission(body, TenantModels(SETTINGS), 50)
        return parse_submission(content, TenantModels(SETTINGS), lambda documents, _: list(documents))[1]

    expected = outcome(parse_body)
    assert outcome(lambda: read(lines)) == expected


def test_a_body_that_ends_before_its_label_set_is_read_has_no_documents() -> None:
    """The first line is the whole body."""
    problem = refusal(b'{"label_set":"drugs"}')
    assert (problem.code, problem.detail) == (
        "validation_failed", "the body has no document after its first line"
    )  # fmt: skip


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    """Any bytes as the whole body."""
    code = "read"
    try:
        read(body)
    except GatewayError as error:
        code = error.code
    assert code in ("read", "malformed_json", "validation_failed", "unknown_model")


def test_a_task_that_the_model_cannot_do_refuses_its_line() -> None:
    """The first line always; a document rejects the job, or fails alone and keeps its id."""
    settings = GatewaySettings()
    models = TenantModels(settings, facts={settings.models.names[0]: ModelFacts()})
    with pytest.raises(GatewayError, match="unsupported_task") as refused:
        NdjsonReader(models, "fail_document").feed(b'{"labels":["a"],"relations":["b"]}\n')
    assert refused.value.violations[0][0] == "line:1/relations"
    line = b'{"id":"x","text":"t","classifications":{"c":["d"]}}\n'
    with pytest.raises(GatewayError, match="unsupported_task") as refused:
        NdjsonReader(models).feed(HEAD + line)
    assert refused.value.violations[0][0] == "line:2/classifications"
    failed, good = NdjsonReader(models, "fail_document").feed(HEAD + line + b'{"text":"t"}\n')
    assert failed.error is not None
    assert (failed.id, failed.error.code, failed.classifications) == ("x", DocumentErrorCode.UNSUPPORTED_TASK, None)
    assert good.error is None
