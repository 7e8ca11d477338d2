"""The bodies of the API's answers, as models: what is sent, and what OpenAPI shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.schema import (
    DEFAULT_THRESHOLD,
    DocumentErrorCode,
    DocumentStatus,
    JobStatus,
    LongText,
    OffsetUnit,
    Priority,
    RedactMode,
    Threshold,
)

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-03-01T09:30:00.000Z"])]


def drop_default(schema: dict[str, Any]) -> None:
    """Leave out the default of a field that depends on the model."""
    schema.pop("default", None)


class Body(BaseModel):
    """Base of every body: frozen."""

    model_config = ConfigDict(frozen=True)


class CountsBody(Body):
    """Documents of a job by state; the six after `total` sum to it at every read."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int


class UsageBody(Body):
    """What a job's documents cost so far."""

    characters: int
    windows: int
    windowed_documents: int
    truncated_documents: int


class ErrorCount(Body):
    """How many documents failed with one code."""

    code: DocumentErrorCode
    count: int


class JobUrls(Body):
    """Where to go on with a job."""

    self: str
    results: str
    cancel: str
    events: str


class JobWebhook(Body):
    """Whom the job's end is told."""

    endpoint_id: str
    secret: str | None = Field(description="The secret made for an inline webhook; null where you gave one.")


class JobBody(Body):
    """A job."""

    id: str = Field(examples=["job_01kb4t7w3vq9x2m5n8r6c1d0fz"])
    object: Literal["job"] = "job"
    status: JobStatus
    status_reason: str | None = Field(description="Why the job does not move, or null.")
    counts: CountsBody
    progress: float = Field(ge=0, le=1, description="Finished documents as a fraction of all.")
    eta_s: float | None = Field(description="Seconds the rest is expected to take; null where it is not known.")
    queue_position: int | None = Field(description="Place among the jobs that wait, from 1; null once it runs.")
    usage: UsageBody
    model: str
    model_revision: str | None
    default_threshold: float | None = Field(
        description="Score from which an entity counts where neither the job nor the document names one: that of "
        "the worker that began it. Null before."
    )
    priority: Priority
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    deadline_at: Timestamp
    results_expire_at: Timestamp | None
    error_summary: list[ErrorCount]
    warnings: list[str]
    urls: JobUrls
    metadata: dict[str, str]
    retry_of: str | None = Field(description="The job whose unfinished documents these are.")
    retried_by: str | None = Field(description="The job that retries this one.")
    webhook: JobWebhook | None = Field(None, description="In the answer to the submission only; null later.")


class JobsPage(Body):
    """Jobs of your tenant, newest first."""

    data: list[JobBody]
    next_cursor: str | None = Field(description="Where to go on; null at the end.")


class RunnerUp(Body):
    """A label that was not chosen."""

    label: str
    score: float


class Range(Body):
    """A part of a text, in the chosen offset unit."""

    start: int
    end: int


class ExplanationBody(Body):
    """Why an entity was found."""

    runners_up: list[RunnerUp] = Field(
        description="The labels that scored next best on the same words, at most three, best first."
    )
    window: Range = Field(description="What of the text the model saw at once.")
    confidence: float | None = Field(
        description="How often entities of this score are right, by the model's own calibration; null where the "
        "model has none."
    )


class EntityBody(Body):
    """A span of a document: `text[start:end]` in the chosen offset unit equals `text`, unless it was redacted."""

    start: int
    end: int
    text: str = Field(description="With `options.redact`: what stands there in `redacted_text`.")
    label: str
    score: float
    redacted_start: int | None = Field(
        None, description="Its place in `redacted_text`, with `options.redact`; else absent."
    )
    redacted_end: int | None = Field(None, description="As `redacted_start`.")
    explain: ExplanationBody | None = Field(None, description="With `options.explain`; else absent.")


class DocumentErrorBody(Body):
    """Why one document failed."""

    code: DocumentErrorCode
    detail: str
    retryable: bool


class ResultBody(Body):
    """The outcome of one document."""

    index: int
    id: str
    status: DocumentStatus
    entities: list[EntityBody]
    windows: int
    truncated: bool
    warnings: list[str]
    attempts: int
    error: DocumentErrorBody | None
    text: str | None = Field(None, description="The text, where `options.return_text` asked for it; else absent.")
    redacted_text: str | None = Field(
        None, description="The text without what `options.redact` hides, where the document succeeded; else absent."
    )


class ResultsPage(Body):
    """Finished documents in input order."""

    data: list[ResultBody]
    next_cursor: str | None = Field(description="Where to go on; null once every result of the job was read.")
    complete: bool = Field(description="The job has ended, so that no result is still to come.")


class Extraction(Body):
    """A job that finished within the call, and its results."""

    job: JobBody
    results: list[ResultBody]


class ShareBody(Body):
    """One model of a split, and its weight against the others'."""

    model: str
    weight: int


class ModelLimits(Body):
    """Limits of one pass of a model; longer documents and more labels are read in several passes."""

    words_per_window: int = Field(description="Words of a text, as the model cuts it: punctuation counts.")
    tokens_per_row: int = Field(description="Tokens of labels and text together.")
    words_per_entity: int = Field(description="Words of the longest entity that it finds.")
    labels: int = Field(description="Labels of a document, at most.")


class ModelBody(Body):
    """A model that jobs may name; one without workers still takes jobs, which wait for it."""

    name: str
    default: bool
    model: str = Field(
        description="What runs your jobs of this name, and has the workers below; not `name` where that is split."
    )
    split: list[ShareBody] = Field(
        description="Models that jobs of this name are split over, each tenant staying with one; empty: no split."
    )
    available: bool = Field(description="At least one worker has it loaded.")
    workers: int
    revision: str | None
    default_threshold: float | None = Field(
        description="Score from which an entity counts where a request names none; null before a worker said it."
    )
    limits: ModelLimits | None = Field(description="Null before a worker said them.")
    reason: str | None = Field(description="Why its workers cannot start, or null.")
    open_jobs: int
    open_shards: int


class ModelsPage(Body):
    """The models of this service, the default first."""

    data: list[ModelBody]
    next_cursor: None = None


class Probe(Body):
    """Answer of a probe that is well."""

    status: Literal["ok"] = "ok"


class ProblemPlace(Body):
    """One place of a request that is not valid."""

    pointer: str = Field(
        description="JSON Pointer into the body, or `line:n` with a pointer into that line, or `query:name`, "
        "`path:name`, `header:Name`."
    )
    detail: str


class ProblemBody(Body):
    """RFC 9457 problem details, with `code` as the word to branch on."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemPlace] = Field(
        [], description="Each place of the request that is not valid; may be absent."
    )


class ProblemKind(Body):
    """An error code of this API."""

    code: str
    status: int
    title: str
    meaning: str
    remedy: str
    example: dict[str, Any] = Field(description="An answer with this code.")


class RedactIn(Body):
    """What the text shows in the place of entities."""

    model_config = ConfigDict(extra="forbid")

    mode: RedactMode = Field(
        "label",
        description="`label`: `[PERSON]`. `mask`: a character, repeated. `hash`: `[PERSON:3f9a1c2b7d4e5f60]`, the "
        "same for the same value in all texts of your tenant; where the service has a key for it.",
    )
    labels: list[str] | None = Field(
        None, min_length=1, description="Only these, of those asked for; by default all."
    )
    numbered: bool = Field(
        False, description="With `label`: `[PERSON_1]`, the same for the same value in a document."
    )
    character: str = Field("*", min_length=1, max_length=1, description="With `mask`.")
    length: int | None = Field(
        None,
        ge=1,
        le=64,
        description="With `mask`: so many characters; by default as many as the value is long in the offset unit, "
        "so that offsets stay.",
    )


class OptionsIn(Body):
    """How the model is asked; a document's own replace the job's one by one."""

    model_config = ConfigDict(extra="forbid")

    threshold: Threshold | dict[str, Threshold] = Field(
        DEFAULT_THRESHOLD,
        description="Score from which an entity counts, for all labels or label by label. By default the model's, "
        "which GET /v1/models has: 0.5 unless the service sets another.",
        json_schema_extra=drop_default,
    )
    flat: bool = Field(True, description="No two entities overlap.")
    multi_label: bool = Field(False, description="One span may have several labels.")
    long_text: LongText = Field("window", description="What happens to a text longer than the model's window.")
    offset_unit: OffsetUnit = Field("codepoint", description="What `start` and `end` count.")
    return_text: bool = Field(False, description="Keep the text and hand it back with the result.")
    redact: RedactIn | bool = Field(
        False,
        description="Hand back the text without the entities found, and their values nowhere; `true` is "
        "`{}`. Not with `return_text`.",
    )
    explain: bool = Field(False, description="Say of every entity why it was found.")
    merge_adjacent: bool | None = Field(
        None,
        description="Make one entity of adjacent ones of a label, with only blanks and at most one line break "
        "between them. By default `false`, unless the model is served with another default.",
    )


class DocumentIn(Body):
    """One text of a job."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(None, description="Your name for it, unique in the job; by default its index.")
    text: str
    labels: list[str] | dict[str, str | None] | None = None
    options: OptionsIn | None = None


class WebhookIn(Body):
    """Whom to tell when the job ends: a URL of its own, or a registered endpoint."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = Field(None, description="A public https URL.", examples=["https://example.com/hooks/gleaner"])
    events: list[str] | None = Field(None, description="Only these; all by default.", examples=[["job.failed"]])
    secret: str | None = Field(None, description="`whsec_…` to sign with; one is made, and shown once, if absent.")
    endpoint_id: str | None = Field(None, description="Instead of a URL: an endpoint of your tenant.")


class JobHead(Body):
    """First line of an NDJSON submission: everything of a job but its documents, which follow one a line."""

    model_config = ConfigDict(extra="forbid")

    labels: list[str] | dict[str, str | None] | None = Field(
        None,
        description="What to find, as a list or as label and description; optional if every document has its own.",
    )
    options: OptionsIn | None = None
    model: str | None = Field(None, description="One of GET /v1/models; by default the first.")
    priority: Priority | None = Field(None, description="Which of the two queues; by default `standard`.")
    deadline_s: float | None = Field(None, ge=1, description="Seconds after which unfinished documents expire.")
    result_ttl_s: float | None = Field(None, ge=1, description="Seconds that results stay after the job's end.")
    webhook: WebhookIn | None = Field(None, description="Whom to tell when the job ends.")
    metadata: dict[str, str] | None = Field(None, description="Your own words, handed back with the job.")


class JobRequest(JobHead):
    """A job to run."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "labels": ["person", "organisation", "city"],
                    "documents": [
                        {"id": "a", "text": "Grace Hopper joined the Navy in New York."},
                        {"id": "b", "text": "Marie Curie worked in Paris.", "labels": ["person", "city"]},
                    ],
                },
                {
                    "labels": {"drug": "a medicine by name", "dose": None},
                    "options": {"threshold": {"drug": 0.4}, "multi_label": True},
                    "documents": [{"text": "Take 200 mg ibuprofen twice a day."}],
                    "priority": "interactive",
                    "metadata": {"batch": "42"},
                },
            ]
        },
    )

    documents: list[DocumentIn] = Field(min_length=1)


def json_schema(models: list[type[BaseModel]]) -> dict[str, Any]:
    """The models' schemas by name, with references as OpenAPI writes them."""
    found: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        found.update(schema.pop("$defs", {}))
        found[model.__name__] = schema
    return found
