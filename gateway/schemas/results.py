"""Bodies of results, as the API returns them."""

from __future__ import annotations

from pydantic import Field

from gateway.schemas import Body
from gateway.schemas.jobs import JobBody
from jobs.schema import DocumentErrorCode, DocumentStatus


class RunnerUp(Body):
    """A label that was not chosen."""

    label: str
    score: float


class Range(Body):
    """A range of a text, in the chosen offset unit."""

    start: int
    end: int


class ExplanationBody(Body):
    """The explanation of an entity."""

    runners_up: list[RunnerUp] = Field(
        description="The labels with the next best scores on the same words, at most three, best first."
    )
    window: Range = Field(description="The range of the text that the model read in one pass.")
    confidence: float | None = Field(
        description="Expected precision at this score, by the model's calibration; null if it has none."
    )


class EntityBody(Body):
    """A span of a document: `text[start:end]` in the chosen offset unit equals `text`, unless it was redacted."""

    start: int
    end: int
    text: str = Field(description="With `options.redact`: its replacement in `redacted_text`.")
    label: str
    score: float
    redacted_start: int | None = Field(
        None, description="Start in `redacted_text`, with `options.redact`; else absent."
    )
    redacted_end: int | None = Field(None, description="End in `redacted_text`; absent like `redacted_start`.")
    explain: ExplanationBody | None = Field(None, description="With `options.explain`; else absent.")


class RelationBody(Body):
    """A relation between two entities of a document."""

    label: str
    head: int = Field(description="Index of an entity in the document's `entities`.")
    tail: int = Field(description="Index of another one.")
    score: float


class ClassScoreBody(Body):
    """A class of a classification."""

    label: str
    score: float


class DocumentErrorBody(Body):
    """The error of a document."""

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
    text: str | None = Field(None, description="The text, with `options.return_text`; else absent.")
    redacted_text: str | None = Field(
        None, description="The redacted text of a successful document, with `options.redact`; else absent."
    )
    relations: list[RelationBody] | None = Field(
        None, description="Between the document's entities, if `relations` were asked for; else absent."
    )
    classifications: dict[str, list[ClassScoreBody]] | None = Field(
        None,
        description="Classes of each classification, best first, if `classifications` were asked for; else absent. "
        "All classes, or with `multi_label` those at or above its threshold.",
    )


class ResultsPage(Body):
    """Finished documents in input order."""

    data: list[ResultBody]
    next_cursor: str | None = Field(description="Cursor of the next page; null once all results were read.")
    complete: bool = Field(description="The job has ended; no further results will appear.")


class Extraction(Body):
    """A job that finished within the call, and its results."""

    job: JobBody
    results: list[ResultBody]
