from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.errors import GatewayError
from gateway.http.problems import to_problem
from gateway.label_sets import LabelSet
from gateway.settings import GatewaySettings
from gateway.submission.parsing.job import Head, load_submission, parse_submission
from gateway.submission.parsing.models import TenantModels
from gateway.validation import MAX_ERRORS
from jobs.ledger import ModelFacts
from jobs.schema import Document, DocumentErrorCode, Options, Priority, Redact
from jobs.tasks import Classification, RelationType, Task, Tasks

SETTINGS = GatewaySettings(models=("gleaner-small", "other"), max_document_bytes=1000, keys_file="keys.json")  # type: ignore[arg-type]
DOCUMENT = {"text": "Ada Lovelace lived in London."}
MINIMAL: dict[str, Any] = {"labels": ["person"], "documents": [DOCUMENT]}


class Parsed(NamedTuple):
    """A checked body."""

    head: Head
    documents: tuple[Document, ...]


def submit(
    body: object, facts: Mapping[str, ModelFacts] | None = None, *, max_documents: int = 10, **request: Any
) -> Parsed:
    """Parse a body as POST /v1/jobs would, with these facts of the models."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    models = TenantModels(SETTINGS, facts=facts or {})
    content = load_submission(raw, models, max_documents)
    return Parsed(*parse_submission(content, models, lambda documents, _: tuple(documents), **request))


def refused(body: object, **limits: Any) -> GatewayError:
    """Return the problem that a body is refused with."""
    with pytest.raises(GatewayError) as caught:
        submit(body, **limits)
    return caught.value


def either(body: bytes) -> Parsed | GatewayError:
    """Return the submission or the problem; any other exception fails the test."""
    try:
        return submit(body)
    except GatewayError as error:
        return error


def having(**fields: Any) -> dict[str, Any]:
    """Return a valid body with these fields."""
    return {**MINIMAL, **fields}


def document(**fields: Any) -> dict[str, Any]:
    """Return a valid body whose second document has these fields."""
    return having(documents=[DOCUMENT, {**DOCUMENT, **fields}])


def test_a_minimal_body_gets_the_defaults() -> None:
    """Labels and texts are all that must be said."""
    got = submit(MINIMAL)

    assert (got.head.model, got.head.priority) == ("gleaner-small", Priority.STANDARD)
    assert (got.head.deadline_s, got.head.result_ttl_s) == (86_400, 86_400)
    assert got.head.tasks.labels == {"person": None}
    assert got.head.options == Options()
    assert [(d.index, d.id, d.text) for d in got.documents] == [(0, "0", DOCUMENT["text"])]


def test_everything_that_can_be_said_is_kept() -> None:
    """Nothing the client asked for is dropped on the way."""
    got = submit(
        {
            "model": "other",
            "labels": {"drug": "a medicine", "dose": None, "unit": ""},
            "options": {"threshold": {"drug": 1, "city": 0.2}, "flat": False, "multi_label": True},
            "documents": [
                {"id": "a", "text": "x", "labels": ["city"], "options": {"threshold": {"city": 0.1}}},
                {"text": "y"},
            ],
            "priority": "interactive",
            "deadline_s": 60.5,
            "result_ttl_s": 3600,
            "metadata": {"batch": "42"},
        }
    )

    assert got.head.model == "other"
    assert got.head.tasks.labels == {"drug": "a medicine", "dose": None, "unit": None}
    assert got.head.options.threshold == {"drug": 1.0, "city": 0.2}
    assert (got.head.options.flat, got.head.options.multi_label) == (False, True)
    assert (got.head.priority, got.head.deadline_s, got.head.result_ttl_s) == (Priority.INTERACTIVE, 60.5, 3600)
    assert got.head.metadata == {"batch": "42"}
    first, second = got.documents
    assert (first.id, first.labels, first.options) == ("a", {"city": None}, {"threshold": {"city": 0.1}})
    assert (second.id, second.labels, second.options) == ("1", None, None)


def test_tokens_may_be_asked_for_where_there_is_a_key() -> None:
    """And a document that redacts may be in a job whose texts are returned, if it says that its own is not."""
    settings = SETTINGS.model_copy(update={"redact_key": SecretStr("k" * 32)})
    options = {"redact": {"mode": "hash", "labels": ["person"]}, "return_text": False}
    body = having(options={"return_text": True}, documents=[{**DOCUMENT, "options": options}])

    _, [document] = parse_submission(body, TenantModels(settings), lambda documents, _: tuple(documents))
    redaction = Options(return_text=True).with_overrides(document.options).redaction
    assert redaction == Redact(mode="hash", labels=["person"])


def test_relations_and_classifications_are_kept() -> None:
    """Those of a document replace the job's, an empty list too; all that it does not name is the job's."""
    relations = {"works for": {"head": ["person"], "tail": ["city"], "threshold": 0.3}}
    got = submit(
        {
            "labels": ["person", "city"],
            "relations": relations,
            "classifications": {"topic": ["sport", "politics"]},
            "options": {"relation_threshold": 0.2, "class_aggregation": "max"},
            "documents": [
                DOCUMENT,
                {
                    **DOCUMENT,
                    "relations": [],
                    "classifications": {"tone": {"labels": ["calm"], "multi_label": True}},
                },
            ],
        }
    )
    job = got.head.tasks
    assert job.relations == {"works for": RelationType(head=("person",), tail=("city",), threshold=0.3)}
    assert (got.head.options.relation_threshold, got.head.options.class_aggregation) == (0.2, "max")
    first, second = got.documents
    assert first.choose_tasks(job) is job
    tone = {"tone": Classification(labels={"calm": None}, multi_label=True)}
    assert second.choose_tasks(job) == Tasks({"person": None, "city": None}, {}, tone)


def test_labels_may_be_left_out_where_only_classifications_are_asked() -> None:
    """By the job or by each document."""
    classified = {**DOCUMENT, "classifications": {"topic": ["sport"]}}
    assert submit({"documents": [classified]}).head.tasks == Tasks()
    job = {"classifications": {"topic": ["sport"]}}
    assert submit({**job, "documents": [DOCUMENT]}).head.tasks.labels == {}
    problem = refused({**job, "documents": [{**DOCUMENT, "classifications": {}}]})
    assert problem.violations == (("/labels", "is required, because document 0 has no labels"),)


def test_a_task_that_the_model_cannot_do_has_its_own_code() -> None:
    """All of them are listed, the documents' among them, once nothing else is wrong."""
    body = having(classifications={"a": ["b"]}, documents=[DOCUMENT, {**DOCUMENT, "relations": ["c"]}])
    assert submit(body).documents  # no worker has announced anything
    problem = refused(body, facts={"gleaner-small": ModelFacts(), "other": ModelFacts(tasks=tuple(Task))})
    assert (problem.code, problem.detail) == ("unsupported_task", "the model gleaner-small can only do entities")
    assert [at for at, _ in problem.violations] == ["/classifications", "/documents/1/relations"]
    assert refused({**body, "priority": 1}, facts={"gleaner-small": ModelFacts()}).code == "validation_failed"
    many = having(documents=[{**DOCUMENT, "relations": ["c"]}] * 1000)
    problem = refused(many, facts={"gleaner-small": ModelFacts()}, max_documents=1000)
    assert len(problem.violations) == MAX_ERRORS


def test_a_model_may_announce_how_many_labels_it_takes() -> None:
    """Also in its documents, and in options that name them; 2,001 are one too many for 2,000."""
    facts = {"gleaner-small": ModelFacts(max_labels=2000)}
    names = [f"l{n}" for n in range(2000)]
    body = {"labels": names, "options": {"threshold": dict.fromkeys(names, 0.3)}, "documents": [DOCUMENT]}
    assert len(submit(body, facts=facts).head.tasks.labels) == 2000
    problem = refused({"documents": [{**DOCUMENT, "labels": [*names, "one more"]}]}, facts=facts)
    assert problem.violations == (("/documents/0/labels", "must have 1 to 2000 labels, not 2001"),)


def test_null_means_absent() -> None:
    """Clients that send every field with null get the defaults."""
    nulls = dict.fromkeys(
        (
            "model",
            "relations",
            "classifications",
            "options",
            "priority",
            "deadline_s",
            "result_ttl_s",
            "metadata",
            "webhook",
        )
    )

    assert submit({**MINIMAL, **nulls}) == submit(MINIMAL)
    assert submit(
        having(documents=[{**DOCUMENT, "id": None, "labels": None, "relations": None, "options": None}])
    ) == submit(MINIMAL)


def test_labels_may_be_left_out_where_every_document_has_its_own() -> None:
    """A job-wide list that nobody uses is not asked for."""
    labelled = {**DOCUMENT, "labels": ["city"]}

    assert submit({"documents": [labelled]}).head.tasks.labels == {}
    assert refused({"documents": [labelled, DOCUMENT]}).violations == (
        ("/labels", "is required, because document 1 has no labels"),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,]",
        b"\xff\xfe",
        b"{'labels': 1}",
        b'{"documents": NaN}',
        b'{"documents": Infinity}',
        b'{"documents": -Infinity}',
        b'{"labels": ["a"], "labels": ["b"]}',
        b'{"documents": [{"text": "a", "text": "b"}]}',
        b'{"deadline_s": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ],
    ids=[
        "empty", "unfinished", "comma", "not utf-8", "quotes", "nan", "infinity", "minus infinity", "name twice",
        "name twice inside", "digits", "deep list", "deep object",
    ],
)  # fmt: skip
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    """400, without a guess at the intended JSON."""
    assert refused(body).code == "malformed_json"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ("text", ""),
        (None, ""),
        ({}, "/documents"),
        ({"labels": ["a"]}, "/documents"),
        (having(documents=None), "/documents"),
        (having(documents=[]), "/documents"),
        (having(documents={}), "/documents"),
        (having(surprise=1), "/surprise"),
        (having(**{"a/b~c": 1}), "/a~1b~0c"),
        (having(webhook="https://example.com"), "/webhook"),
        (having(webhook={"url": "https://example.com", "uri": "x"}), "/webhook/uri"),
        (having(webhook={"url": 7}), "/webhook/url"),
        (having(webhook={"endpoint_id": 7}), "/webhook/endpoint_id"),
        (having(webhook={"endpoint_id": "ep\ud800"}), "/webhook/endpoint_id"),
        (having(webhook={"url": "https://example.com/\ud800"}), "/webhook/url"),
        (having(labels=[]), "/labels"),
        (having(labels={}), "/labels"),
        (having(labels="person"), "/labels"),
        (having(labels=[f"l{n}" for n in range(101)]), "/labels"),
        (having(labels=["a", "b", "a"]), "/labels/2"),
        (having(labels=["a", ""]), "/labels/1"),
        (having(labels=["a", " \t"]), "/labels/1"),
        (having(labels=["a", 7]), "/labels/1"),
        (having(labels=["a", None]), "/labels/1"),
        (having(labels=["x" * 129]), "/labels/0"),
        (having(labels=["a\x00b"]), "/labels/0"),
        (having(labels=["a\ud800b"]), "/labels/0"),
        (having(labels=["person", "\u200b"]), "/labels/1"),
        (having(labels=["a\nb"]), "/labels/0"),
        (having(labels=["caf\u00e9", "cafe\u0301"]), "/labels/1"),
        (having(labels=["a", " a"]), "/labels/1"),
        (having(labels={"a": None, "a\u200b": None}), "/labels/a\u200b"),
        (having(labels={"a": "\u2060"}), "/labels/a"),
        (having(labels={"a": "x\x1b"}), "/labels/a"),
        (having(labels={"a": 7}), "/labels/a"),
        (having(labels={"a": "x" * 1025}), "/labels/a"),
        (having(labels={"a": "x\x00"}), "/labels/a"),
        (having(labels={"": "x"}), "/labels/"),
        (having(relations=["a", "a"]), "/relations/1"),
        (having(relations={"a": {"head": ["city"]}}), "/relations/a/head/0"),
        (having(relations={"a": {"head": ["person"], "tail": ["person", "city"]}}), "/relations/a/tail/1"),
        (having(relations=[f"r{n}" for n in range(51)]), "/relations"),
        (having(classifications={"a": []}), "/classifications/a"),
        (having(classifications={"a": [f"l{n}" for n in range(101)]}), "/classifications/a"),
        ({"classifications": {"a": []}, "documents": [DOCUMENT]}, "/classifications/a"),
        ({"relations": ["a"], "documents": [DOCUMENT]}, "/labels"),
        ({"relations": ["a"], "classifications": {"b": ["c"]}, "documents": [DOCUMENT]}, "/labels"),
        ({"relations": [], "classifications": {}, "documents": [DOCUMENT]}, "/labels"),
        (document(relations={"a": {"tail": ["city"]}}), "/documents/1/relations/a/tail/0"),
        (document(labels=["city"], relations={"a": {"tail": ["person"]}}), "/documents/1/relations/a/tail/0"),
        (document(classifications={"a": {"labels": ["b"], "threshold": 0.5}}),
            "/documents/1/classifications/a/threshold"),
        (having(options={"relation_threshold": 2}), "/options/relation_threshold"),
        (having(options={"class_aggregation": "median"}), "/options/class_aggregation"),
        (having(options=[]), "/options"),
        (having(options={"threshold": 1.1}), "/options/threshold"),
        (having(options={"threshold": -0.1}), "/options/threshold"),
        (b'{"labels":["a"],"documents":[{"text":"x"}],"options":{"threshold":1e999}}', "/options/threshold"),
        (having(options={"threshold": "0.5"}), "/options/threshold"),
        (having(options={"threshold": True}), "/options/threshold"),
        (having(options={"threshold": 10**400}), "/options/threshold"),
        (b'{"labels":["a"],"documents":[{"text":"x"}],"options":{"threshold":-1e400}}', "/options/threshold"),
        (having(options={"threshold": {"person": 10**400}}), "/options/threshold/person"),
        (having(options={"threshold": {"person": False}}), "/options/threshold/person"),
        (having(options={"threshold": {f"l{n}": 0.5 for n in range(1001)}}), "/options/threshold"),
        (having(options={"redact": {"labels": ["person"] * 1001}}), "/options/redact/labels"),
        (having(options={"redact": {"mode": "hash", "length": 10**400}}), "/options/redact/length"),
        (having(options={"redact": {"mode": "hash", "length": True}}), "/options/redact/length"),
        (having(options={"threshold": None}), "/options/threshold"),
        (having(options={"threshold": {"person": 2}}), "/options/threshold/person"),
        (having(options={"threshold": {"person": None}}), "/options/threshold/person"),
        (having(options={"threshold": {"perso": 0.5}}), "/options/threshold/perso"),
        (having(options={"redact": "mask"}), "/options/redact"),
        (having(options={"redact": {"mode": "hide"}}), "/options/redact/mode"),
        (having(options={"redact": {"mode": "hash"}}), "/options/redact/mode"),  # the service has no key
        (having(options={"redact": {"labels": []}}), "/options/redact/labels"),
        (having(options={"redact": {"labels": ["person", "city"]}}), "/options/redact/labels/1"),
        (having(options={"redact": {"length": 8}}), "/options/redact"),
        (having(options={"redact": {"mode": "mask", "character": " "}}), "/options/redact"),
        (having(options={"redact": {"mode": "mask", "numbered": True}}), "/options/redact"),
        (having(options={"redact": True, "return_text": True}), "/options"),
        (having(options={"explain": 1}), "/options/explain"),
        (having(options={"flat": 1}), "/options/flat"),
        (having(options={"multi_label": "no"}), "/options/multi_label"),
        (having(options={"long_text": "cut"}), "/options/long_text"),
        (having(options={"offset_unit": "char"}), "/options/offset_unit"),
        (having(options={"treshold": 0.5}), "/options/treshold"),
        (having(priority="urgent"), "/priority"),
        (having(priority=["interactive"]), "/priority"),
        (having(deadline_s=0), "/deadline_s"),
        (having(deadline_s=86_401), "/deadline_s"),
        (having(deadline_s="60"), "/deadline_s"),
        (having(deadline_s=True), "/deadline_s"),
        (having(deadline_s=10**400), "/deadline_s"),
        (having(deadline_s=-(10**400)), "/deadline_s"),
        (having(result_ttl_s=False), "/result_ttl_s"),
        (having(result_ttl_s=10**400), "/result_ttl_s"),
        (b'{"labels":["a"],"documents":[{"text":"x"}],"deadline_s":1e999}', "/deadline_s"),
        (having(result_ttl_s=-5), "/result_ttl_s"),
        (having(model=7), "/model"),
        (having(metadata=[]), "/metadata"),
        (having(metadata={f"k{n}": "v" for n in range(17)}), "/metadata"),
        (having(metadata={"k": 1}), "/metadata/k"),
        (having(metadata={"k": "v" * 513}), "/metadata/k"),
        (having(metadata={"k" * 65: "v"}), "/metadata/" + "k" * 65),
        (having(metadata={"": "v"}), "/metadata/"),
        (having(metadata={"k": "\x00"}), "/metadata/k"),
        (having(metadata={"k\r\n": "v"}), "/metadata/k\r\n"),
        (having(metadata={"k": "\udc00"}), "/metadata/k"),
        (having(documents=[DOCUMENT, "text"]), "/documents/1"),
        (having(documents=[DOCUMENT, None]), "/documents/1"),
        (having(documents=[DOCUMENT, {}]), "/documents/1/text"),
        (document(text=None), "/documents/1/text"),
        (document(text=7), "/documents/1/text"),
        (document(title="x"), "/documents/1/title"),
        (document(id=7), "/documents/1/id"),
        (document(id=""), "/documents/1/id"),
        (document(id="x" * 257), "/documents/1/id"),
        (document(id="a\x00"), "/documents/1/id"),
        (document(id="a\ud800"), "/documents/1/id"),
        (document(id="a\r\nb"), "/documents/1/id"),
        (document(id="a\x85b"), "/documents/1/id"),
        (document(id="\u2028"), "/documents/1/id"),
        (document(id=True), "/documents/1/id"),
        (document(id="0"), "/documents/1/id"),
        (having(documents=[{**DOCUMENT, "id": "1"}, DOCUMENT]), "/documents/0/id"),
        (having(documents=[{**DOCUMENT, "id": "a"}, {**DOCUMENT, "id": "a"}]), "/documents/1/id"),
        (document(labels=[]), "/documents/1/labels"),
        (document(labels="city"), "/documents/1/labels"),
        (document(labels=["a", "a"]), "/documents/1/labels/1"),
        (document(labels=[["a"]]), "/documents/1/labels/0"),
        (document(labels=[" "]), "/documents/1/labels/0"),
        (document(labels=["\ufe0f"]), "/documents/1/labels/0"),
        (document(labels=["a", "a\u00ad"]), "/documents/1/labels/1"),
        (document(options={"threshold": 3}), "/documents/1/options/threshold"),
        (document(options={"threshold": {"city": 0.5}}), "/documents/1/options/threshold/city"),
        (document(options={"redact": {"labels": ["city"]}}), "/documents/1/options/redact/labels/0"),
        (document(options={"redact": {"mode": "hash"}}), "/documents/1/options/redact/mode"),
        (
            having(
                options={"return_text": True}, documents=[DOCUMENT, {**DOCUMENT, "options": {"redact": True}}]
            ),
            "/documents/1/options",
        ),
        (document(options=7), "/documents/1/options"),
        (document(options={"colour": "red"}), "/documents/1/options/colour"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_pointed_at(body: object, pointer: str) -> None:
    """422 with the one place that is wrong, and nothing else."""
    problem = refused(body)

    assert problem.code == "validation_failed"
    assert [at for at, _ in problem.violations] == [pointer]
    assert to_problem(problem).to_response("id").body


def test_a_byte_order_mark_is_skipped() -> None:
    """Files and clients from Windows begin with one."""
    assert submit(b"\xef\xbb\xbf" + json.dumps(MINIMAL).encode()) == submit(MINIMAL)


def test_a_long_body_is_read_as_a_short_one() -> None:
    """Also where its faults are: the head's and the documents' at once, with their places."""
    documents = [{"id": f"d{n}", "text": "x" * 900} for n in range(200)]
    body = having(documents=documents, options={"threshold": {"perso": 0.5}})

    assert [d.id for d in submit(having(documents=documents), max_documents=200).documents] == [
        f"d{n}" for n in range(200)
    ]
    documents[150]["id"] = "d7"
    problem = refused(body, max_documents=200)
    assert [at for at, _ in problem.violations] == ["/documents/150/id", "/options/threshold/perso"]


def test_all_faults_are_told_at_once() -> None:
    """Head and documents are both looked at, so that one round of corrections will do."""
    problem = refused({"labels": ["a", "a"], "documents": [{}, {"text": 1}], "priority": "x"})

    pointers = [at for at, _ in problem.violations]
    assert pointers == [
        "/labels/1",
        "/priority",
        "/documents/0/text",
        "/documents/1/text",
    ]


def test_the_same_fault_in_every_document_is_told_a_few_times() -> None:
    """A client with 10,000 documents of the same mistake gets a short answer."""
    problem = refused(having(documents=[{"txt": "x"}] * 1000), max_documents=1000)

    assert len(problem.violations) == MAX_ERRORS
    assert problem.detail.startswith("at least 20 fields")


def test_too_many_documents_have_their_own_code() -> None:
    """413, before any document is looked at."""
    problem = refused(having(documents=[{}] * 11))

    assert problem.code == "too_many_documents"
    assert "more than 10 documents" in problem.detail


def test_an_unknown_model_has_its_own_code() -> None:
    """422 that says which models there are."""
    problem = refused(having(model="gleaner-huge"))

    assert (problem.code, problem.violations[0][0]) == ("unknown_model", "/model")
    assert "gleaner-small, other" in problem.detail


def test_an_extraction_is_interactive_and_cannot_be_standard() -> None:
    """The queue of /v1/extract is not a choice."""
    assert submit(MINIMAL, extract=True).head.priority is Priority.INTERACTIVE
    assert submit(having(priority="interactive"), extract=True).head.priority is Priority.INTERACTIVE
    assert refused(having(priority="standard"), extract=True).violations[0][0] == "/priority"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", DocumentErrorCode.EMPTY_TEXT),
        (" \n\t\u00a0\u2003", DocumentErrorCode.EMPTY_TEXT),
        ("a\ud800b", DocumentErrorCode.INVALID_TEXT),
        ("\udfff\ud800", DocumentErrorCode.INVALID_TEXT),
        ("x" * 1001, DocumentErrorCode.DOCUMENT_TOO_LARGE),
        ("ä" * 501, DocumentErrorCode.DOCUMENT_TOO_LARGE),
        ("😀" * 251, DocumentErrorCode.DOCUMENT_TOO_LARGE),
        ("x" * 1_000_000, DocumentErrorCode.DOCUMENT_TOO_LARGE),
    ],
)
def test_a_text_that_cannot_be_read_fails_alone(text: str, code: DocumentErrorCode) -> None:
    """The job is accepted, the document carries its error, and the text is not kept."""
    bad, good = submit(having(documents=[{"text": text}, DOCUMENT])).documents

    assert bad.error is not None
    assert (bad.error.code, bad.text) == (code, "")
    assert text[:10].strip() == "" or text[:10] not in bad.error.detail
    assert (good.error, good.text) == (None, DOCUMENT["text"])


@pytest.mark.parametrize("text", ["x" * 1000, "ä" * 500, "😀" * 250, "\U0010ffff", "\u200b", "a\x1fb"])
def test_a_text_within_the_limits_is_kept_as_it_is(text: str) -> None:
    """Sizes count UTF-8 bytes and the limit itself is allowed; odd characters are the client's business."""
    (document,) = submit(having(documents=[{"text": text}])).documents

    assert (document.text, document.error) == (text, None)


def test_an_escaped_pair_of_surrogates_is_one_character() -> None:
    """JSON's own way to write an emoji is not taken for broken text."""
    (document,) = submit(b'{"labels":["a"],"documents":[{"text":"\\ud83d\\ude00"}]}').documents

    assert (document.text, document.error) == ("😀", None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
fields = st.sampled_from(
    [
        "labels",
        "relations",
        "classifications",
        "options",
        "documents",
        "priority",
        "deadline_s",
        "result_ttl_s",
        "metadata",
        "model",
        "webhook",
    ]
)


@given(st.dictionaries(fields | st.text(max_size=3), json_values, max_size=6))
def test_no_json_value_anywhere_is_an_internal_error(body: dict[str, Any]) -> None:
    """Whatever JSON is sent, the answer is a submission or a problem that can be written down."""
    got = either(json.dumps({**MINIMAL, **body}).encode())

    if isinstance(got, GatewayError):
        assert to_problem(got).to_response("id").status_code in (400, 413, 422)
    else:
        assert got.documents


@given(st.binary(max_size=200))
def test_no_bytes_are_an_internal_error(body: bytes) -> None:
    """Whatever bytes are sent, they are JSON of something else or malformed."""
    got = either(body)

    assert isinstance(got, GatewayError)
    assert got.code in ("malformed_json", "validation_failed")


def test_control_characters_of_a_text_are_read() -> None:
    """PDFs have them, and a model reads past them."""
    [read, _] = submit(having(documents=[{"text": "a\x00b\x1fc"}, DOCUMENT])).documents
    assert (read.text, read.error) == ("a\x00b\x1fc", None)


def label_set(labels: object) -> LabelSet:
    """Return the third version of the label set `drugs`."""
    return LabelSet("drugs", 3, range(1, 4), json.dumps(labels).encode(), 1_000)


def test_a_label_set_gives_the_labels_of_a_job() -> None:
    """Its options may name them, and a document may still have its own."""
    labels = {"drug": "a medicine", "dose": None}
    body = {
        "label_set": "drugs",
        "options": {"threshold": {"dose": 0.3}},
        "documents": [DOCUMENT, {**DOCUMENT, "labels": ["city"]}],
    }
    head, [first, second] = submit(body, label_set=label_set(labels))
    assert (head.tasks.labels, head.label_set) == (labels, "drugs@3")
    assert (first.labels, second.labels) == (None, {"city": None})


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"label_set": "drugs", "labels": ["a"]}, "/label_set"),
        ({"label_set": 7}, "/label_set"),
        ({"label_set": "drugs@0"}, "/label_set"),
        ({"label_set": "../drugs"}, "/label_set"),
        ({"label_set": "drugs"}, "/label_set"),
        ({"labels": ["a"], "documents": [{**DOCUMENT, "label_set": "drugs"}]}, "/documents/0/label_set"),
    ],
)
def test_a_label_set_is_named_by_the_job_and_instead_of_labels(fields: dict[str, Any], at: str) -> None:
    """Neither form is sent on to Redis; a document cannot name one."""
    assert [where for where, _ in refused({"documents": [DOCUMENT], **fields}).violations] == [at]


def test_a_label_set_may_be_larger_than_a_job_may_use() -> None:
    """The limit of the job is the one that counts."""
    labels = [f"label {number}" for number in range(2000)]
    problem = refused({"label_set": "drugs", "documents": [DOCUMENT]}, label_set=label_set(labels))
    assert problem.violations == (("/label_set", "must have 1 to 100 labels, not 2000"),)
