"""Build requests and parse responses, without I/O: arguments -> `Call` -> (a driver sends it) -> values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Required, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from gleaner.client.json_values import encode_json
from gleaner.models import JobInfo, Limits, Model, Result

T = TypeVar("T")

Document = str | Mapping[str, Any]
"""A text, or a mapping with `text` and optionally `id`, and `labels`, `relations`, `classifications` and `options`,
which override the job's."""

Labels = Sequence[str] | Mapping[str, str | None]
"""Labels, or label -> description of what it means."""


class RelationOptions(TypedDict, total=False):
    """Details of a relation.

    Attributes:
        description: read by the model instead of the name.
        head: labels that the head may have; any by default.
        tail: labels that the tail may have; any by default.
        threshold: minimum score (0..1).
    """

    description: str
    head: Sequence[str]
    tail: Sequence[str]
    threshold: float


class ClassificationOptions(TypedDict, total=False):
    """Details of a classification.

    Attributes:
        labels: the classes, or class -> description of what it means.
        multi_label: any number of classes may be right, each with a separate score; by default exactly one is.
        threshold: minimum score (0..1) of a class; only with `multi_label`.
    """

    labels: Required[Labels]
    multi_label: bool
    threshold: float


Relations = Sequence[str] | Mapping[str, RelationOptions | str | None]
"""Relations between entities, or relation -> its description or details."""

Classifications = Mapping[str, Sequence[str] | ClassificationOptions]
"""Questions about the whole text: name -> the classes, or details."""


class SubmitOptions(TypedDict, total=False):
    """Options of a job in addition to its documents and labels; the gateway has the defaults.

    Attributes:
        relations: relations to find between the entities, in documents that do not define their own.
        classifications: questions about the whole text, likewise.
        model: name of a model the gateway lists; its first one by default.
        label_set: instead of labels, a stored label set (`Client.label_sets`): `name`, or `name@version`.
        threshold: minimum score (0..1) of an entity, for all labels or per label.
        flat: no entity inside another.
        multi_label: one span may have several labels.
        long_text: how to handle a text longer than the model's window.
        offset_unit: unit of `Entity.start` and `.end`.
        return_text: include the text in each result.
        redact: include the text without its entities in each result: `True`, or the API's `options.redact`.
        explain: include in each entity the reason why it was found.
        merge_adjacent: merge adjacent entities of one label; by default as the model requires.
        relation_threshold: minimum score (0..1) of relations without a threshold.
        class_aggregation: how the scores of a class in a long text's windows become one.
        priority: which of the two queues.
        deadline_s: seconds after which unfinished documents expire.
        result_ttl_s: seconds until the results are deleted.
        metadata: your own key-value pairs, returned with the job.
        webhook: receiver to call when the job ends.
        idempotency_key: your key instead of a random one, to repeat a submission safely from another process.
    """

    relations: Relations
    classifications: Classifications
    model: str
    label_set: str
    threshold: float | Mapping[str, float]
    flat: bool
    multi_label: bool
    long_text: Literal["window", "truncate", "reject"]
    offset_unit: Literal["codepoint", "utf16", "byte"]
    return_text: bool
    redact: bool | Mapping[str, Any]
    explain: bool
    merge_adjacent: bool
    relation_threshold: float
    class_aggregation: Literal["mean", "max"]
    priority: Literal["interactive", "standard"]
    deadline_s: float
    result_ttl_s: float
    metadata: Mapping[str, str]
    webhook: Mapping[str, Any]
    idempotency_key: str


JSON_DOCUMENTS = 10_000
JSON_CHARACTERS = 8_000_000
"""A larger job is sent as JSON lines, of which a gateway accepts ten times as many. A character has up to four
bytes, and a gateway's default limit for JSON is 32 MiB."""
_CHUNK_BYTES = 64 * 1024

TASK_OPTIONS = ("relations", "classifications")
_JOB_OPTIONS = (
    *TASK_OPTIONS,
    "model",
    "label_set",
    "priority",
    "deadline_s",
    "result_ttl_s",
    "metadata",
    "webhook",
)
_MODEL_OPTIONS = tuple(
    name for name in SubmitOptions.__annotations__ if name not in (*_JOB_OPTIONS, "idempotency_key")
)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and the function that parses its response.

    Attributes:
        parse: converts a 2xx response to the value; may raise KeyError, TypeError or ValueError on unexpected JSON.
        content: the body; a large one is a function that yields chunks, so that a retry can send it again.
        patience_s: seconds added to the client's timeout, because the gateway was asked to wait that long.
        repeatable: False for a request that is not idempotent: it is not retried after a lost response.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Callable[[], Iterator[bytes]] | None = None
    patience_s: float = 0.0
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class ResultsPage:
    """A page of a job's results; `complete` is True if no results can follow once `next_cursor` is None."""

    results: tuple[Result, ...]
    next_cursor: str | None
    complete: bool


@dataclass(frozen=True, slots=True)
class ExtractAnswer:
    """Response of /v1/extract: the results, or None if the job is still running."""

    job: JobInfo
    results: tuple[Result, ...] | None


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T]):
    """A page of a list; another follows if there is a cursor."""

    items: tuple[T, ...]
    next_cursor: str | None


def submit_job(
    documents: Sequence[Document], labels: Labels | None, options: SubmitOptions, key: str
) -> Call[JobInfo]:
    """POST /v1/jobs with an Idempotency-Key: as JSON, or as a stream of JSON lines if it is too large for that."""
    content: bytes | Callable[[], Iterator[bytes]]
    if _needs_lines(documents):
        head = encode_json(_build_head(labels, options), "the job")
        media_type, content = "application/x-ndjson", lambda: _encode_lines(head, documents)
    else:
        media_type, content = "application/json", _encode_body(documents, labels, options)
    return Call("POST", "/v1/jobs", _parse_job, headers=_post_headers(key, media_type), content=content)


def extract_documents(
    documents: Iterable[Document], labels: Labels | None, options: SubmitOptions, key: str
) -> Call[ExtractAnswer]:
    """POST /v1/extract with an Idempotency-Key."""
    return Call(
        "POST",
        "/v1/extract",
        _parse_extract_answer,
        headers=_post_headers(key),
        content=_encode_body(documents, labels, options),
        patience_s=30.0,
    )


def get_job(job_id: str, wait_s: int = 0) -> Call[JobInfo]:
    """GET a job; the gateway responds when it is terminal, at the latest after `wait_s` (0..60) seconds."""
    return Call("GET", _job_path(job_id), _parse_job, params={"wait": wait_s} if wait_s else {}, patience_s=wait_s)


def list_jobs(status: str | None, limit: int | None, cursor: str | None) -> Call[ListPage[JobInfo]]:
    """GET a page of the tenant's jobs, newest first, at most `limit`."""
    params = drop_missing(status=status, limit=limit and min(limit, 100), cursor=cursor)
    return Call("GET", "/v1/jobs", parse_list(JobInfo.from_json), params=params)


def list_results(job_id: str, cursor: str | None, limit: int | None, status: str | None) -> Call[ResultsPage]:
    """GET a page of finished documents in input order."""
    params = drop_missing(cursor=cursor, limit=limit, status=status)
    return Call("GET", f"{_job_path(job_id)}/results", _parse_results, params=params)


def cancel_job(job_id: str) -> Call[JobInfo]:
    """POST cancel; results of finished documents are kept."""
    return Call("POST", f"{_job_path(job_id)}/cancel", _parse_job)


def retry_job(job_id: str, key: str) -> Call[JobInfo]:
    """POST retry with an Idempotency-Key; the value is the new job."""
    return Call("POST", f"{_job_path(job_id)}/retry", _parse_job, headers={"Idempotency-Key": key})


def delete_job(job_id: str) -> Call[None]:
    """DELETE a finished job's input and results."""
    return Call("DELETE", _job_path(job_id), lambda _response: None)


def list_models() -> Call[tuple[Model, ...]]:
    """GET the models that jobs may name."""
    return Call(
        "GET", "/v1/models", lambda response: tuple(Model.from_json(item) for item in response.json()["data"])
    )


def get_limits() -> Call[Limits]:
    """GET the caller's limits."""
    return Call("GET", "/v1/limits", lambda response: Limits.from_json(response.json()))


def _needs_lines(documents: Sequence[Document]) -> bool:
    """Return True if a JSON body could exceed the gateway's limit."""
    if len(documents) > JSON_DOCUMENTS:
        return True
    return sum(map(count_characters, documents)) > JSON_CHARACTERS


def count_characters(item: Document) -> int:
    """Return the length of a document's text, 0 if it is null (the gateway refuses such a document)."""
    return len(item if isinstance(item, str) else item.get("text") or "")


def _encode_body(documents: Iterable[Document], labels: Labels | None, options: SubmitOptions) -> bytes:
    head = _build_head(labels, options)
    return encode_json({"documents": [_to_mapping(item) for item in documents], **head}, "the request")


def _encode_lines(head: bytes, documents: Iterable[Document]) -> Iterator[bytes]:
    chunk = bytearray(head)
    for index, item in enumerate(documents):
        chunk += b"\n" + encode_json(_to_mapping(item), f"document {index}")
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def _to_mapping(item: Document) -> dict[str, Any]:
    return {"text": item} if isinstance(item, str) else dict(item)


def _build_head(labels: Labels | None, options: SubmitOptions) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if labels is not None:
        body["labels"] = dict(labels) if isinstance(labels, Mapping) else list(labels)
    unknown = options.keys() - {*_MODEL_OPTIONS, *_JOB_OPTIONS, "idempotency_key"}
    if unknown:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    values: Mapping[str, Any] = options
    body |= {name: values[name] for name in _JOB_OPTIONS if name in values}
    model_options = {name: values[name] for name in _MODEL_OPTIONS if name in values}
    if model_options:
        body["options"] = model_options
    return body


def _parse_extract_answer(response: httpx.Response) -> ExtractAnswer:
    body = response.json()
    results = body.get("results")
    return ExtractAnswer(
        job=JobInfo.from_json(body.get("job", body)),
        results=None if results is None else tuple(Result.from_json(item) for item in results),
    )


def _parse_job(response: httpx.Response) -> JobInfo:
    return JobInfo.from_json(response.json())


def _parse_results(response: httpx.Response) -> ResultsPage:
    body = response.json()
    results = tuple(Result.from_json(item) for item in body["data"])
    return ResultsPage(results, body.get("next_cursor"), bool(body.get("complete", True)))


def _post_headers(key: str, media_type: str = "application/json") -> dict[str, str]:
    return {"Content-Type": media_type, "Idempotency-Key": key}


def _job_path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def drop_missing(**params: str | int | None) -> dict[str, str | int]:
    """Return the parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


def parse_list(parse_item: Callable[[Mapping[str, Any]], T]) -> Callable[[httpx.Response], ListPage[T]]:
    """Return a parser of responses that list such items."""

    def parse_page(response: httpx.Response) -> ListPage[T]:
        body = response.json()
        return ListPage(tuple(parse_item(item) for item in body["data"]), body.get("next_cursor"))

    return parse_page
