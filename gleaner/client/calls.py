"""Requests built and answers read, without sending anything: arguments -> `Call` -> (somebody's I/O) -> values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote

import httpx

from gleaner.client.json_values import encode_json
from gleaner.models import JobInfo, Limits, Model, Result

T = TypeVar("T")

Document = str | Mapping[str, Any]
"""A text, or a mapping with `text` and, if wanted, `id`, `labels` and `options` of its own."""

Labels = Sequence[str] | Mapping[str, str | None]
"""Labels, or label -> description of what it means."""


class SubmitOptions(TypedDict, total=False):
    """What can be asked of a job besides its documents and labels; the gateway has the defaults.

    Attributes:
        model: name of a model the gateway lists; its first one otherwise.
        threshold: score (0..1) from which an entity counts, for all labels or label by label.
        flat: no entity inside another.
        multi_label: one span may have several labels.
        long_text: what happens to a text longer than the model's window.
        offset_unit: what `Entity.start` and `.end` count.
        return_text: have each result carry its text.
        redact: have each result carry its text without the entities, `True` or as the API's `options.redact` says.
        explain: have each entity say why it was found.
        merge_adjacent: make one entity of adjacent ones of a label; by default as the model needs it.
        priority: which of the two queues.
        deadline_s: seconds after which unfinished documents expire.
        result_ttl_s: seconds results are kept.
        metadata: your own words, handed back with the job.
        webhook: whom to call when the job ends.
        idempotency_key: yours instead of a random one, to make a submission safe to repeat from elsewhere.
    """

    model: str
    threshold: float | Mapping[str, float]
    flat: bool
    multi_label: bool
    long_text: Literal["window", "truncate", "reject"]
    offset_unit: Literal["codepoint", "utf16", "byte"]
    return_text: bool
    redact: bool | Mapping[str, Any]
    explain: bool
    merge_adjacent: bool
    priority: Literal["interactive", "standard"]
    deadline_s: float
    result_ttl_s: float
    metadata: Mapping[str, str]
    webhook: Mapping[str, Any]
    idempotency_key: str


JSON_DOCUMENTS = 10_000
JSON_CHARACTERS = 8_000_000
"""A larger job goes as lines, of which a gateway takes ten times as many. A character has up to four bytes, and
a gateway's default for JSON is 32 MiB."""
_PIECE_BYTES = 64 * 1024

_MODEL_OPTIONS = (
    "threshold",
    "flat",
    "multi_label",
    "long_text",
    "offset_unit",
    "return_text",
    "redact",
    "explain",
    "merge_adjacent",
)
_JOB_OPTIONS = ("model", "priority", "deadline_s", "result_ttl_s", "metadata", "webhook")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its answer is read.

    Attributes:
        parse: turns a 2xx answer into the value; may raise KeyError, TypeError or ValueError on nonsense.
        content: the body; a large one in pieces, made again by every call, so that it can be sent again.
        patience_s: how long beyond the client's timeout the gateway may think, because it was asked to wait.
        repeatable: False where twice is not the same as once: a lost answer is then not met by another try.
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
class Page:
    """A stretch of a job's results; `complete` once no more can follow `next_cursor`'s absence."""

    results: tuple[Result, ...]
    next_cursor: str | None
    complete: bool


@dataclass(frozen=True, slots=True)
class Extracted:
    """Answer of /v1/extract: the results, or None where the job goes on past the call."""

    job: JobInfo
    results: tuple[Result, ...] | None


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A stretch of a list; another follows where there is a cursor."""

    items: tuple[T, ...]
    next_cursor: str | None


def submit(documents: Sequence[Document], labels: Labels | None, options: SubmitOptions, key: str) -> Call[JobInfo]:
    """POST /v1/jobs under an Idempotency-Key: as JSON, or as a stream of lines where it is too much for that."""

    def parse(response: httpx.Response) -> JobInfo:
        return JobInfo.from_json(response.json())

    if not _is_much(documents):
        return Call("POST", "/v1/jobs", parse, headers=_posted(key), content=_body(documents, labels, options))
    head = encode_json(_head(labels, options), "the job")
    return Call(
        "POST",
        "/v1/jobs",
        parse,
        headers=_posted(key, "application/x-ndjson"),
        content=lambda: _lines(head, documents),
    )


def extract(
    documents: Iterable[Document], labels: Labels | None, options: SubmitOptions, key: str
) -> Call[Extracted]:
    """POST /v1/extract under an Idempotency-Key."""
    return Call(
        "POST",
        "/v1/extract",
        _extracted,
        headers=_posted(key),
        content=_body(documents, labels, options),
        patience_s=30.0,
    )


def job(job_id: str, wait_s: int = 0) -> Call[JobInfo]:
    """GET one job, answered when it is terminal or `wait_s` (0..60) is over."""
    return Call(
        "GET",
        _job_path(job_id),
        lambda response: JobInfo.from_json(response.json()),
        params={"wait": wait_s} if wait_s else {},
        patience_s=wait_s,
    )


def jobs(status: str | None, limit: int | None, cursor: str | None) -> Call[Listed[JobInfo]]:
    """GET the tenant's jobs, newest first; a page of at most `limit` of them."""
    params = given(status=status, limit=limit and min(limit, 100), cursor=cursor)
    return Call("GET", "/v1/jobs", listed(JobInfo.from_json), params=params)


def results(job_id: str, cursor: str | None, limit: int | None, status: str | None) -> Call[Page]:
    """GET a page of finished documents in input order."""

    def parse(response: httpx.Response) -> Page:
        body = response.json()
        return Page(
            tuple(Result.from_json(item) for item in body["data"]),
            body.get("next_cursor"),
            bool(body.get("complete", True)),
        )

    params = given(cursor=cursor, limit=limit, status=status)
    return Call("GET", f"{_job_path(job_id)}/results", parse, params=params)


def cancel(job_id: str) -> Call[JobInfo]:
    """POST cancel; what finished is kept."""
    return Call("POST", f"{_job_path(job_id)}/cancel", lambda response: JobInfo.from_json(response.json()))


def retry(job_id: str, key: str) -> Call[JobInfo]:
    """POST retry under an Idempotency-Key: the new job."""
    return Call(
        "POST",
        f"{_job_path(job_id)}/retry",
        lambda response: JobInfo.from_json(response.json()),
        headers={"Idempotency-Key": key},
    )


def delete(job_id: str) -> Call[None]:
    """DELETE a finished job's input and results."""
    return Call("DELETE", _job_path(job_id), lambda _response: None)


def models() -> Call[tuple[Model, ...]]:
    """GET the models that jobs may name."""
    return Call(
        "GET",
        "/v1/models",
        lambda response: tuple(Model.from_json(item) for item in response.json()["data"]),
    )


def limits() -> Call[Limits]:
    """GET what the caller may do."""
    return Call("GET", "/v1/limits", lambda response: Limits.from_json(response.json()))


def _is_much(documents: Sequence[Document]) -> bool:
    """Whether a JSON body could be above what a gateway takes."""
    if len(documents) > JSON_DOCUMENTS:
        return True
    return sum(map(characters, documents)) > JSON_CHARACTERS


def characters(item: Document) -> int:
    """Those of a document's text; a text that is null is the gateway's to refuse."""
    return len(item if isinstance(item, str) else item.get("text") or "")


def _body(documents: Iterable[Document], labels: Labels | None, options: SubmitOptions) -> bytes:
    head = _head(labels, options)
    return encode_json({"documents": [_document(item) for item in documents], **head}, "the request")


def _lines(head: bytes, documents: Iterable[Document]) -> Iterator[bytes]:
    piece = bytearray(head)
    for index, item in enumerate(documents):
        piece += b"\n" + encode_json(_document(item), f"document {index}")
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _document(item: Document) -> dict[str, Any]:
    return {"text": item} if isinstance(item, str) else dict(item)


def _head(labels: Labels | None, options: SubmitOptions) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if labels is not None:
        body["labels"] = dict(labels) if isinstance(labels, Mapping) else list(labels)
    unknown = options.keys() - {*_MODEL_OPTIONS, *_JOB_OPTIONS, "idempotency_key"}
    if unknown:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    given: Mapping[str, Any] = options
    body |= {name: given[name] for name in _JOB_OPTIONS if name in given}
    model_options = {name: given[name] for name in _MODEL_OPTIONS if name in given}
    if model_options:
        body["options"] = model_options
    return body


def _extracted(response: httpx.Response) -> Extracted:
    body = response.json()
    found = body.get("results")
    return Extracted(
        job=JobInfo.from_json(body.get("job", body)),
        results=None if found is None else tuple(Result.from_json(item) for item in found),
    )


def _posted(key: str, media_type: str = "application/json") -> dict[str, str]:
    return {"Content-Type": media_type, "Idempotency-Key": key}


def _job_path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def given(**params: str | int | None) -> dict[str, str | int]:
    """Those parameters that were given."""
    return {name: value for name, value in params.items() if value is not None}


def listed(item: Callable[[Mapping[str, Any]], T]) -> Callable[[httpx.Response], Listed[T]]:
    """Reads an answer that lists such items."""

    def parse(response: httpx.Response) -> Listed[T]:
        body = response.json()
        return Listed(tuple(item(each) for each in body["data"]), body.get("next_cursor"))

    return parse
