"""Types of the public contract: requests and results.

A request flows ``bytes -> JobRequest -> Document`` (gateway), a result flows
``DocumentResult -> Job / ResultsPage -> bytes``. Everything that crosses a process boundary is one of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from jobs.tasks import DEFAULT_THRESHOLD as DEFAULT_THRESHOLD
from jobs.tasks import ClassAggregation, Classification, ClassScore, Relation, RelationType, Strict, Tasks
from jobs.tasks import Labels as Labels
from jobs.tasks import Threshold as Threshold

OffsetUnit = Literal["codepoint", "utf16", "byte"]
LongText = Literal["window", "truncate", "reject"]
RedactMode = Literal["label", "mask", "hash"]


class Priority(StrEnum):
    """The queue of a model that a job waits in."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"


class JobStatus(StrEnum):
    """States of a job; the last five are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    PARTIALLY_SUCCEEDED = "partially_succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """True if the job's documents can no longer change."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.CANCELLING)


class DocumentStatus(StrEnum):
    """States of a document; results exist for the last four."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class DocumentErrorCode(StrEnum):
    """Reasons why a document failed; documented in docs/reference/errors.md."""

    DOCUMENT_TOO_LARGE = "document_too_large"
    INPUT_TOO_LONG = "input_too_long"
    TOO_COSTLY = "too_costly"
    TOO_MANY_ENTITIES = "too_many_entities"
    EMPTY_TEXT = "empty_text"
    INVALID_TEXT = "invalid_text"
    INVALID_DOCUMENT = "invalid_document"
    UNSUPPORTED_TASK = "unsupported_task"
    OUT_OF_MEMORY = "out_of_memory"
    INFERENCE_FAILED = "inference_failed"
    WORKER_LOST = "worker_lost"

    @property
    def is_retryable(self) -> bool:
        """True if the same text may succeed on a retry or on another worker."""
        return self in (
            DocumentErrorCode.OUT_OF_MEMORY,
            DocumentErrorCode.INFERENCE_FAILED,
            DocumentErrorCode.WORKER_LOST,
        )


class Redact(Strict):
    """Replacement of entities in a result's text.

    Attributes:
        mode: `label` shows `[PERSON]`; `mask` a repeated character; `hash` a keyed token of the value, the same for
            the same value in all texts of a tenant.
        labels: labels of the entities to replace; None is all labels.
        numbered: with `label`, `[PERSON_1]`: the same number for the same value within a document.
        character: the character of `mask`.
        length: number of characters with `mask`; None is the value's length in the offset unit.
    """

    mode: RedactMode = "label"
    labels: Annotated[list[str], Field(min_length=1)] | None = None
    numbered: bool = False
    character: Annotated[str, Field(min_length=1, max_length=1)] = "*"
    length: Annotated[int, Field(ge=1, le=64)] | None = None

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        if self.mode != "label" and self.numbered:
            raise ValueError("`numbered` requires mode `label`")
        if self.mode != "mask" and (self.character != "*" or self.length is not None):
            raise ValueError("`character` and `length` require mode `mask`")
        if not self.character.isprintable() or self.character.isspace():
            raise ValueError("`character` must be a visible character")
        return self

    def covers(self, label: str) -> bool:
        """Return True if entities of this label are replaced."""
        return self.labels is None or label in self.labels


class Options(Strict):
    """Options of a job or of one document; each option of a document replaces the job's.

    Attributes:
        threshold: minimum score; None, which a request cannot contain, is the model's default.
        merge_adjacent: merge adjacent entities of a label into one; None: the setting of the model's workers.
        relation_threshold: minimum score of a relation whose type has no threshold.
        class_aggregation: how the scores of a class in a long text's windows become one.
    """

    threshold: Threshold | dict[str, Threshold] | None = None
    flat: bool = True
    multi_label: bool = False
    long_text: LongText = "window"
    offset_unit: OffsetUnit = "codepoint"
    return_text: bool = False
    redact: Redact | bool = False
    explain: bool = False
    merge_adjacent: bool | None = None
    relation_threshold: Threshold = DEFAULT_THRESHOLD
    class_aggregation: ClassAggregation = "mean"

    @field_validator("threshold", mode="before")
    @classmethod
    def _refuse_null(cls, value: object) -> object:
        if value is None:
            raise ValueError("must be a number, or an object of numbers by label")
        return value

    @model_validator(mode="after")
    def _check_returned_text(self) -> Self:
        if self.redact and self.return_text:
            raise ValueError("`return_text` would return the text that `redact` hides; set only one of them")
        return self

    @property
    def redaction(self) -> Redact | None:
        """The redaction, or None."""
        return Redact() if self.redact is True else self.redact or None

    def label_thresholds(self, labels: Sequence[str]) -> tuple[float, ...]:
        """Return the threshold of each label; labels without one have 0.5."""
        threshold = DEFAULT_THRESHOLD if self.threshold is None else self.threshold
        if isinstance(threshold, dict):
            return tuple(threshold.get(label, DEFAULT_THRESHOLD) for label in labels)
        return (threshold,) * len(labels)

    def with_default(self, labels: Iterable[str], threshold: float) -> Options:
        """Return these options with a default threshold for all labels, or for those that have none."""
        if isinstance(self.threshold, dict):
            per_label = {label: self.threshold.get(label, threshold) for label in labels}
            return self.model_copy(update={"threshold": per_label})
        return self.model_copy(update={"threshold": threshold}) if self.threshold is None else self

    def with_overrides(self, override: dict[str, Any] | None) -> Options:
        """Return these options with those of a document on top."""
        return (
            self if not override else Options.model_validate({**self.model_dump(exclude_defaults=True), **override})
        )


@dataclass(frozen=True, slots=True)
class DocumentError:
    """The reason why a document failed; it never quotes the text."""

    code: DocumentErrorCode
    detail: str


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a job as it travels in a shard's payload.

    Attributes:
        index: position in the job, from 0.
        id: the client's id, or the index as text.
        text: the text; empty if `error` is set.
        labels: the document's labels, or None for the job's.
        options: the document's options (only those set), or None.
        relations: the document's relations, or None for the job's.
        classifications: the document's classifications, or None for the job's.
        error: set by the gateway for a document that no worker needs to see (too large, empty, invalid).
    """

    index: int
    id: str
    text: str
    labels: Labels | None = None
    options: dict[str, Any] | None = None
    error: DocumentError | None = None
    relations: Mapping[str, RelationType] | None = None
    classifications: Mapping[str, Classification] | None = None

    def choose_tasks(self, job: Tasks) -> Tasks:
        """Return the tasks asked of this document; those it does not name are the job's."""
        if self.labels is None and self.relations is None and self.classifications is None:
            return job
        return Tasks(
            job.labels if self.labels is None else self.labels,
            job.relations if self.relations is None else self.relations,
            job.classifications if self.classifications is None else self.classifications,
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of an entity.

    Attributes:
        runners_up: labels with the next best scores on the same words, and their scores, best first.
        window: the part of the text in the model's window, (start, end) in the chosen offset unit.
        confidence: share of correct entities at this score, by the model's calibration; None without one.
    """

    runners_up: tuple[tuple[str, float], ...]
    window: tuple[int, int]
    confidence: float | None


class Entity(NamedTuple):
    """A span of the text: `text[start:end]` in the chosen offset unit equals `text`; score in 0..1.

    If the text was redacted, `text` is the replacement: `redacted_text[slice(*redacted)]`.
    """

    start: int
    end: int
    text: str
    label: str
    score: float
    redacted: tuple[int, int] | None = None
    explain: Explanation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the entity as the API serves it."""
        body: dict[str, Any] = {
            "start": self.start,
            "end": self.end,
            "text": self.text,
            "label": self.label,
            "score": self.score,
        }
        if self.redacted is not None:
            body["redacted_start"], body["redacted_end"] = self.redacted
        if self.explain is not None:
            body["explain"] = {
                "runners_up": [{"label": label, "score": score} for label, score in self.explain.runners_up],
                "window": {"start": self.explain.window[0], "end": self.explain.window[1]},
                "confidence": self.explain.confidence,
            }
        return body


@dataclass(frozen=True, slots=True)
class DocumentResult:
    """The typed outcome of one document.

    Attributes:
        relations: between its entities; None if no relation was asked for.
        classifications: classes of each classification, best first; None if none was asked for.
    """

    index: int
    id: str
    status: DocumentStatus
    entities: tuple[Entity, ...] = ()
    windows: int = 0
    truncated: bool = False
    warnings: tuple[str, ...] = ()
    attempts: int = 0
    error: DocumentError | None = None
    text: str | None = None
    redacted_text: str | None = None
    relations: tuple[Relation, ...] | None = None
    classifications: Mapping[str, tuple[ClassScore, ...]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as the API serves it."""
        body: dict[str, Any] = {
            "index": self.index,
            "id": self.id,
            "status": self.status.value,
            "entities": [entity.to_dict() for entity in self.entities],
            "windows": self.windows,
            "truncated": self.truncated,
            "warnings": list(self.warnings),
            "attempts": self.attempts,
            "error": None
            if self.error is None
            else {
                "code": self.error.code.value,
                "detail": self.error.detail,
                "retryable": self.error.code.is_retryable,
            },
        }
        if self.text is not None:
            body["text"] = self.text
        if self.redacted_text is not None:
            body["redacted_text"] = self.redacted_text
        if self.relations is not None:
            body["relations"] = [relation._asdict() for relation in self.relations]
        if self.classifications is not None:
            body["classifications"] = {
                name: [score._asdict() for score in scores] for name, scores in self.classifications.items()
            }
        return body


@dataclass(frozen=True, slots=True)
class Counts:
    """Documents of a job by state; the six always sum to `total`."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int

    @property
    def finished(self) -> int:
        """Number of documents with an outcome."""
        return self.succeeded + self.failed + self.cancelled + self.expired


@dataclass(frozen=True, slots=True)
class Usage:
    """Units of work of a job's documents."""

    characters: int = 0
    windows: int = 0
    windowed_documents: int = 0
    truncated_documents: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as read from the ledger in one atomic step. Times are UTC milliseconds since the epoch.

    `opts` (labels and options) and `meta` (metadata) are blobs as stored; `jobs.codec` decodes them.
    `default_threshold` is that of the worker that began the job, None before. `label_set` is the version of a
    label set that the labels come from, as name@version.
    """

    id: str
    tenant: str
    status: JobStatus
    status_reason: str | None
    counts: Counts
    eta_s: float | None
    queue_position: int | None
    usage: Usage
    model: str
    model_revision: str | None
    priority: Priority
    created_at: int
    started_at: int | None
    finished_at: int | None
    deadline_at: int
    results_expire_at: int | None
    error_summary: dict[str, int]
    opts: bytes
    meta: bytes
    retry_of: str | None
    retried_by: str | None
    version: int
    now: int
    warnings: tuple[str, ...] = field(default=())
    default_threshold: float | None = None
    label_set: str | None = None
