"""What the gateway says, as frozen values: JSON in, `JobInfo`, `Result`, `Entity`, `Model` out.

Unknown fields are ignored and absent ones get their empty value, so that an older client reads a newer gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

TERMINAL = frozenset({"succeeded", "partially_succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Counts:
    """Documents of a job by state; the six after `total` sum to it."""

    total: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0

    @property
    def finished(self) -> int:
        """Documents that have their outcome."""
        return self.succeeded + self.failed + self.cancelled + self.expired


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job's documents cost so far."""

    characters: int = 0
    windows: int = 0
    windowed_documents: int = 0
    truncated_documents: int = 0


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as it was when the gateway answered.

    Attributes:
        progress: finished documents as a fraction of all, 0..1.
        eta_s: seconds the gateway expects the rest to take; None while it cannot know.
        default_threshold: score from which an entity counts where the request names none; None before it runs.
        error_summary: how many documents failed with which code.
    """

    id: str
    status: str
    status_reason: str | None = None
    counts: Counts = field(default_factory=Counts)
    progress: float = 0.0
    eta_s: float | None = None
    queue_position: int | None = None
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    model_revision: str | None = None
    default_threshold: float | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None
    results_expire_at: datetime | None = None
    error_summary: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_of: str | None = None
    retried_by: str | None = None

    @property
    def done(self) -> bool:
        """True once nothing about the job's documents can change any more."""
        return self.status in TERMINAL

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> JobInfo:
        """Read a job object."""
        return cls(
            id=body["id"],
            status=body["status"],
            status_reason=body.get("status_reason"),
            counts=Counts(**_known(Counts, body.get("counts"))),
            progress=body.get("progress") or 0.0,
            eta_s=body.get("eta_s"),
            queue_position=body.get("queue_position"),
            usage=Usage(**_known(Usage, body.get("usage"))),
            model=body.get("model") or "",
            model_revision=body.get("model_revision"),
            default_threshold=body.get("default_threshold"),
            created_at=_time(body.get("created_at")),
            started_at=_time(body.get("started_at")),
            finished_at=_time(body.get("finished_at")),
            deadline_at=_time(body.get("deadline_at")),
            results_expire_at=_time(body.get("results_expire_at")),
            error_summary={item["code"]: item["count"] for item in body.get("error_summary") or ()},
            metadata=body.get("metadata") or {},
            retry_of=body.get("retry_of"),
            retried_by=body.get("retried_by"),
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an entity was found.

    Attributes:
        runners_up: the labels that scored next best on the same words, with their scores, best first.
        window: what of the text the model saw at once, (start, end) in the offset unit asked for.
        confidence: how often entities of this score are right, by the model's own calibration; None without one.
    """

    runners_up: tuple[tuple[str, float], ...]
    window: tuple[int, int]
    confidence: float | None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Explanation:
        """Read an `explain` object."""
        others = tuple((other["label"], other["score"]) for other in body["runners_up"])
        return cls(others, (body["window"]["start"], body["window"]["end"]), body.get("confidence"))

    def to_json(self) -> dict[str, Any]:
        """The object as the gateway writes it."""
        return {
            "runners_up": [{"label": label, "score": score} for label, score in self.runners_up],
            "window": {"start": self.window[0], "end": self.window[1]},
            "confidence": self.confidence,
        }


@dataclass(frozen=True, slots=True)
class Entity:
    """A span of a document: `text[start:end]` in the offset unit asked for is `text`; score in 0..1.

    Attributes:
        redacted: its (start, end) in the result's `redacted_text`; `text` is then what stands there.
        explain: why it was found, where `explain` asked for it.
    """

    start: int
    end: int
    text: str
    label: str
    score: float
    redacted: tuple[int, int] | None = None
    explain: Explanation | None = None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Entity:
        """Read an entity object."""
        redacted, explain = body.get("redacted_start"), body.get("explain")
        return cls(
            start=body["start"],
            end=body["end"],
            text=body["text"],
            label=body["label"],
            score=body["score"],
            redacted=None if redacted is None else (redacted, body["redacted_end"]),
            explain=None if explain is None else Explanation.from_json(explain),
        )

    def to_json(self) -> dict[str, Any]:
        """The entity as the gateway writes it."""
        body = {name: getattr(self, name) for name in ("start", "end", "text", "label", "score")}
        if self.redacted is not None:
            body["redacted_start"], body["redacted_end"] = self.redacted
        if self.explain is not None:
            body["explain"] = self.explain.to_json()
        return body


@dataclass(frozen=True, slots=True)
class DocumentError:
    """Why one document has no entities; `retryable` if the same text may succeed another time."""

    code: str
    detail: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one document.

    Attributes:
        index: the document's place in the job, from 0.
        id: the id it was submitted with, or the index as text.
        status: succeeded, failed, cancelled or expired.
        entities: sorted by start, end, label.
        windows: pieces the text was cut into to fit the model.
        truncated: True if the rest of a long text was dropped, as `long_text="truncate"` asks.
        error: set unless the document succeeded (cancelled and expired ones may have none).
        text: the document's text, where `return_text` asked for it.
        redacted_text: the text without its entities, where `redact` asked for it.
    """

    index: int
    id: str
    status: str
    entities: tuple[Entity, ...] = ()
    windows: int = 0
    truncated: bool = False
    warnings: tuple[str, ...] = ()
    attempts: int = 0
    error: DocumentError | None = None
    text: str | None = None
    redacted_text: str | None = None

    @property
    def ok(self) -> bool:
        """True if the document succeeded; entities may still be none."""
        return self.status == "succeeded"

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Result:
        """Read a result object."""
        error = body.get("error")
        return cls(
            index=body["index"],
            id=body["id"],
            status=body["status"],
            entities=tuple(Entity.from_json(entity) for entity in body.get("entities") or ()),
            windows=body.get("windows") or 0,
            truncated=bool(body.get("truncated")),
            warnings=tuple(body.get("warnings") or ()),
            attempts=body.get("attempts") or 0,
            error=None if error is None else DocumentError(**_known(DocumentError, error)),
            text=body.get("text"),
            redacted_text=body.get("redacted_text"),
        )

    def to_json(self) -> dict[str, Any]:
        """The result as the gateway writes it."""
        body: dict[str, Any] = {
            "index": self.index,
            "id": self.id,
            "status": self.status,
            "entities": [entity.to_json() for entity in self.entities],
            "windows": self.windows,
            "truncated": self.truncated,
            "warnings": list(self.warnings),
            "attempts": self.attempts,
            "error": None
            if self.error is None
            else {
                "code": self.error.code,
                "detail": self.error.detail,
                "retryable": self.error.retryable,
            },
        }
        if self.text is not None:
            body["text"] = self.text
        if self.redacted_text is not None:
            body["redacted_text"] = self.redacted_text
        return body


@dataclass(frozen=True, slots=True)
class Model:
    """A model jobs may name; one without workers still takes jobs, which wait for it.

    Attributes:
        default_threshold: score from which an entity counts where a request names none; None before a worker
            announced it.
        limits: words_per_window, tokens_per_row, words_per_entity and labels, at most; empty before a worker
            announced them.
    """

    name: str
    available: bool = False
    workers: int = 0
    revision: str | None = None
    reason: str | None = None
    default_threshold: float | None = None
    limits: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Model:
        """Read one entry of `/v1/models`."""
        return cls(
            name=body.get("name") or body["id"],
            available=bool(body.get("available")),
            workers=body.get("workers") or 0,
            revision=body.get("revision"),
            reason=body.get("reason"),
            default_threshold=body.get("default_threshold"),
            limits=body.get("limits") or {},
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """One rate that is limited, and what is left of it.

    Attributes:
        measure: what is counted: requests, submits, documents or characters.
        scope: over what: this key, or all of the tenant's.
        window_s: the sliding window that the limit is for.
        resets_in_s: when all of it is back if nothing more is asked for.
    """

    name: str
    measure: str
    scope: str
    limit: int
    window_s: int
    remaining: int
    resets_in_s: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What the caller may do.

    Attributes:
        rates: those that are limited.
        open: open work and the most there may be, by name; None is no limit.
        request: what one request may hold, by name.
    """

    tenant: str
    key_id: str
    role: str
    rates: tuple[Rate, ...] = ()
    open: Mapping[str, int | None] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Limits:
        """Read the answer of `/v1/limits`."""
        return cls(
            tenant=body["tenant"],
            key_id=body["key_id"],
            role=body["role"],
            rates=tuple(Rate(**_known(Rate, each)) for each in body.get("rates") or ()),
            open=body.get("open") or {},
            request=body.get("request") or {},
        )


def _known(kind: type[Any], body: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (body or {}).items() if key in kind.__dataclass_fields__}


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
