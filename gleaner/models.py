"""The gateway's JSON as frozen dataclasses: `JobInfo`, `Result`, `Entity`, `Model` and others.

Unknown fields are ignored and missing ones get an empty value, so that an older client works with a newer gateway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeVar

T = TypeVar("T")

_JOB_TIMES = ("created_at", "started_at", "finished_at", "deadline_at", "results_expire_at")
_RESULT_FIELDS = ("index", "id", "status", "entities", "windows", "truncated", "warnings", "attempts", "error")
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
        """Number of documents that have an outcome."""
        return self.succeeded + self.failed + self.cancelled + self.expired


@dataclass(frozen=True, slots=True)
class Usage:
    """Work that a job's documents have caused so far."""

    characters: int = 0
    windows: int = 0
    windowed_documents: int = 0
    truncated_documents: int = 0


@dataclass(frozen=True, slots=True)
class JobInfo:
    """State of a job at the time of the gateway's response.

    Attributes:
        progress: fraction of the documents that are finished, 0..1.
        eta_s: seconds until the job is expected to end; None while that is unknown.
        default_threshold: minimum score of an entity if the request has none; None before the job runs.
        label_set: version of the label set that the labels come from, as `name@version`; None without one.
        error_summary: number of failed documents by error code.
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
    label_set: str | None = None
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
        """True once the job is terminal: its documents cannot change any more."""
        return self.status in TERMINAL

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> JobInfo:
        """Parse a job object."""
        return parse_fields(
            cls,
            body,
            counts=parse_fields(Counts, body.get("counts") or {}),
            usage=parse_fields(Usage, body.get("usage") or {}),
            error_summary={item["code"]: item["count"] for item in body.get("error_summary") or ()},
            **{name: datetime.fromisoformat(body[name]) for name in _JOB_TIMES if body.get(name) is not None},
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reason why an entity was found.

    Attributes:
        runners_up: the labels that scored next best on the same words, with their scores, best first.
        window: the part of the text that the model saw at once, as (start, end) in the requested offset unit.
        confidence: share of entities with this score that are correct, by the model's calibration curve; None
            without one.
    """

    runners_up: tuple[tuple[str, float], ...]
    window: tuple[int, int]
    confidence: float | None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Explanation:
        """Parse an `explain` object."""
        runners_up = tuple((item["label"], item["score"]) for item in body["runners_up"])
        return cls(runners_up, (body["window"]["start"], body["window"]["end"]), body.get("confidence"))

    def to_json(self) -> dict[str, Any]:
        """Return the gateway's JSON of it."""
        return {
            "runners_up": [{"label": label, "score": score} for label, score in self.runners_up],
            "window": {"start": self.window[0], "end": self.window[1]},
            "confidence": self.confidence,
        }


@dataclass(frozen=True, slots=True)
class Entity:
    """A labelled span of a document: `document[start:end]`, in the requested offset unit, is `text`; score in 0..1.

    Attributes:
        redacted: its (start, end) in the result's `redacted_text`; `text` is then the replacement.
        explain: why it was found, if `explain` was requested.
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
        """Parse an entity object."""
        redacted, explain = body.get("redacted_start"), body.get("explain")
        return cls(
            *(body["start"], body["end"], body["text"], body["label"], body["score"]),
            redacted=None if redacted is None else (redacted, body["redacted_end"]),
            explain=None if explain is None else Explanation.from_json(explain),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the gateway's JSON of it."""
        body = {name: getattr(self, name) for name in ("start", "end", "text", "label", "score")}
        if self.redacted is not None:
            body["redacted_start"], body["redacted_end"] = self.redacted
        if self.explain is not None:
            body["explain"] = self.explain.to_json()
        return body


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation between two entities of a document, with its score in 0..1.

    Attributes:
        head: index into the result's `entities` of the entity that the relation starts at.
        tail: the same of the entity that it leads to.
    """

    label: str
    head: int
    tail: int
    score: float


@dataclass(frozen=True, slots=True)
class ClassScore:
    """A class of a classification and its score in 0..1."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class DocumentError:
    """Error of one document; `retryable` if the same text may succeed another time."""

    code: str
    detail: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one document.

    Attributes:
        index: position of the document in the job, from 0.
        id: the id it was submitted with, or the index as text.
        status: succeeded, failed, cancelled or expired.
        entities: sorted by start, end, label.
        windows: number of windows the text was cut into to fit the model.
        truncated: True if the rest of a long text was dropped (`long_text="truncate"`).
        error: set unless the document succeeded (cancelled and expired ones may have none).
        text: the document's text, if `return_text` was requested.
        redacted_text: the text without its entities, if `redact` was requested.
        relations: between the entities; None unless `relations` were requested.
        classifications: by name, the classes with their scores, best first; None unless `classifications` were
            requested.
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
    relations: tuple[Relation, ...] | None = None
    classifications: Mapping[str, tuple[ClassScore, ...]] | None = None

    @property
    def ok(self) -> bool:
        """True if the document succeeded; it may have no entities."""
        return self.status == "succeeded"

    def relation_entities(self) -> Iterator[tuple[Entity, Relation, Entity]]:
        """Yield (head, relation, tail) of each relation; nothing if none were requested.

        Examples:
            >>> people = Entity(0, 3, "Ada", "person", 0.9), Entity(8, 15, "Babbage", "person", 0.8)
            >>> result = Result(0, "a", "succeeded", people, relations=(Relation("met", 0, 1, 0.7),))
            >>> [(head.text, relation.label, tail.text) for head, relation, tail in result.relation_entities()]
            [('Ada', 'met', 'Babbage')]
        """
        for relation in self.relations or ():
            yield self.entities[relation.head], relation, self.entities[relation.tail]

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Result:
        """Parse a result object."""
        error, relations, classifications = map(body.get, ("error", "relations", "classifications"))
        return parse_fields(
            cls,
            body,
            entities=tuple(map(Entity.from_json, body.get("entities") or ())),
            warnings=tuple(body.get("warnings") or ()),
            error=None if error is None else parse_fields(DocumentError, error),
            relations=None
            if relations is None
            else tuple(parse_fields(Relation, relation) for relation in relations),
            classifications=None
            if classifications is None
            else {
                name: tuple(parse_fields(ClassScore, score) for score in scores)
                for name, scores in classifications.items()
            },
        )

    def to_json(self) -> dict[str, Any]:
        """Return the gateway's JSON of it."""
        body: dict[str, Any] = {name: getattr(self, name) for name in _RESULT_FIELDS}
        body["entities"] = [entity.to_json() for entity in self.entities]
        body["warnings"] = list(self.warnings)
        body["error"] = None if self.error is None else asdict(self.error)
        if self.text is not None:
            body["text"] = self.text
        if self.redacted_text is not None:
            body["redacted_text"] = self.redacted_text
        if self.relations is not None:
            body["relations"] = [asdict(relation) for relation in self.relations]
        if self.classifications is not None:
            body["classifications"] = {
                name: [asdict(score) for score in scores] for name, scores in self.classifications.items()
            }
        return body


@dataclass(frozen=True, slots=True)
class Model:
    """A model that jobs may name; without workers it still accepts jobs, which wait for one.

    Attributes:
        default_threshold: minimum score of an entity if a request has none; None before a worker announced it.
        limits: maximum words_per_window, tokens_per_row, words_per_entity and labels; empty before a worker
            announced them.
        tasks: what it can do: entities, relations, classifications; empty before a worker announced it.
    """

    name: str
    available: bool = False
    workers: int = 0
    revision: str | None = None
    reason: str | None = None
    default_threshold: float | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Model:
        """Parse one entry of `/v1/models`."""
        return parse_fields(cls, body, name=body.get("name") or body["id"], tasks=tuple(body.get("tasks") or ()))


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit and the remaining quota.

    Attributes:
        measure: unit that is counted: requests, submits, documents or characters.
        scope: key or tenant, whose use is counted.
        window_s: length of the sliding window, in seconds.
        resets_in_s: seconds until the full quota is available again if it is not used meanwhile.
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
    """Limits of a key and its tenant.

    Attributes:
        rates: the rate limits.
        open: current open work and its maximum, by name; None is no limit.
        request: maximum sizes of one request, by name.
    """

    tenant: str
    key_id: str
    role: str
    rates: tuple[Rate, ...] = ()
    open: Mapping[str, int | None] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Limits:
        """Parse the response of `/v1/limits`."""
        rates = tuple(parse_fields(Rate, item) for item in body.get("rates") or ())
        return parse_fields(cls, body, rates=rates)


def parse_fields(kind: type[T], body: Mapping[str, Any], **parsed: Any) -> T:
    """Return a dataclass with the JSON object's values, or `parsed` ones; null counts as missing.

    Raises:
        TypeError: a field without a default is missing.
    """
    names: Iterable[str] = kind.__dataclass_fields__  # type: ignore[attr-defined]  # every kind here is a dataclass
    return kind(**{name: body[name] for name in names if body.get(name) is not None} | parsed)
