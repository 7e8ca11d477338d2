"""Bodies of submissions. They are documentation: `gateway.submission.parsing.job` parses the bytes."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from gateway.schemas import Body
from jobs.schema import DEFAULT_THRESHOLD, LongText, OffsetUnit, Priority, RedactMode, Threshold
from jobs.tasks import ClassAggregation

LabelsIn = list[str] | dict[str, str | None]
"""Labels, or labels and their descriptions."""


def drop_default(schema: dict[str, Any]) -> None:
    """Leave out the default of a field that depends on the model."""
    schema.pop("default", None)


class RedactIn(Body):
    """The replacement of entities in a redacted text."""

    model_config = ConfigDict(extra="forbid")

    mode: RedactMode = Field(
        "label",
        description="`label`: `[PERSON]`. `mask`: a repeated character. `hash`: `[PERSON:3f9a1c2b7d4e5f60]`, the "
        "same for the same value in all texts of your tenant; requires a key in the service.",
    )
    labels: list[str] | None = Field(
        None, min_length=1, description="Redact only these of the requested labels; by default all."
    )
    numbered: bool = Field(
        False, description="With `label`: `[PERSON_1]`, the same for the same value in a document."
    )
    character: str = Field("*", min_length=1, max_length=1, description="With `mask`.")
    length: int | None = Field(
        None,
        ge=1,
        le=64,
        description="With `mask`: number of characters; by default the length of the value in the offset unit, so "
        "that offsets stay the same.",
    )


class OptionsIn(Body):
    """Extraction options; a document's options override the job's one by one."""

    model_config = ConfigDict(extra="forbid")

    threshold: Threshold | dict[str, Threshold] = Field(
        DEFAULT_THRESHOLD,
        description="Minimum score of an entity, for all labels or per label. By default the model's, which GET "
        "/v1/models shows: 0.5 unless the service sets another.",
        json_schema_extra=drop_default,
    )
    flat: bool = Field(True, description="Return no overlapping entities.")
    multi_label: bool = Field(False, description="Allow several labels for one span.")
    long_text: LongText = Field("window", description="Treatment of a text that is longer than the model's window.")
    offset_unit: OffsetUnit = Field("codepoint", description="Unit of `start` and `end`.")
    return_text: bool = Field(False, description="Store the text and return it with the result.")
    redact: RedactIn | bool = Field(
        False,
        description="Return the text with the entities replaced, and their values nowhere; `true` means `{}`. "
        "Cannot be combined with `return_text`.",
    )
    explain: bool = Field(False, description="Return an explanation with every entity.")
    merge_adjacent: bool | None = Field(
        None,
        description="Merge adjacent entities of one label that only blanks and at most one line break separate. By "
        "default `false`, unless the model is served with another default.",
    )
    relation_threshold: Threshold = Field(
        DEFAULT_THRESHOLD, description="Minimum score of a relation that has no threshold."
    )
    class_aggregation: ClassAggregation = Field(
        "mean", description="How the scores of a class in the windows of a long text become one."
    )


class RelationIn(Body):
    """A relation to find between the entities of a text."""

    model_config = ConfigDict(extra="forbid")

    description: str | None = Field(None, description="Read by the model instead of the name.")
    head: list[str] | None = Field(None, min_length=1, description="Labels that the head may have; by default any.")
    tail: list[str] | None = Field(None, min_length=1, description="Labels that the tail may have; by default any.")
    threshold: Threshold | None = Field(None, description="Minimum score; by default `relation_threshold`.")


class ClassificationIn(Body):
    """A question about the whole text."""

    model_config = ConfigDict(extra="forbid")

    labels: LabelsIn = Field(min_length=1, description="The classes, as a list or as class and description.")
    multi_label: bool = Field(
        False, description="Any number of classes may be right, each with a score; else the scores sum to 1."
    )
    threshold: Threshold = Field(
        DEFAULT_THRESHOLD, description="Minimum score of a class; only with `multi_label`."
    )


RelationsIn = list[str] | dict[str, RelationIn | str | None]
"""Relations, or relations and their descriptions or details."""
ClassificationsIn = dict[str, ClassificationIn | list[str]]
"""Classifications by name."""


class DocumentIn(Body):
    """A text of a job; what it asks replaces what the job asks, field by field."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(None, description="Your id for it, unique in the job; by default its index.")
    text: str
    labels: LabelsIn | None = None
    relations: RelationsIn | None = None
    classifications: ClassificationsIn | None = None
    options: OptionsIn | None = None


class WebhookIn(Body):
    """The receiver of the job's end: an inline URL or a registered endpoint."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = Field(None, description="A public https URL.", examples=["https://example.com/hooks/gleaner"])
    events: list[str] | None = Field(None, description="Events to send; all by default.", examples=[["job.failed"]])
    secret: str | None = Field(None, description="Your own `whsec_…` secret; by default one is generated.")
    endpoint_id: str | None = Field(None, description="A registered endpoint, instead of a URL.")


class JobHead(Body):
    """First line of an NDJSON submission: a job without its documents, which follow one per line."""

    model_config = ConfigDict(extra="forbid")

    labels: LabelsIn | None = Field(
        None,
        description="Labels to find, as a list or as label and description; optional if every document has labels "
        "or only classifications.",
    )
    relations: RelationsIn | None = Field(
        None, description="Relations to find between the entities, as a list or with descriptions or details."
    )
    classifications: ClassificationsIn | None = Field(
        None, description="Questions about the whole text: name and classes, or name and details."
    )
    label_set: str | None = Field(
        None,
        description="Instead of `labels`: a label set of PUT /v1/label-sets, as `name` for its latest version or "
        "as `name@version`.",
        examples=["drugs", "drugs@3"],
    )
    options: OptionsIn | None = None
    model: str | None = Field(None, description="A model of GET /v1/models; by default the first.")
    priority: Priority | None = Field(None, description="`interactive` or `standard`; by default `standard`.")
    deadline_s: float | None = Field(None, ge=1, description="Seconds after which unfinished documents expire.")
    result_ttl_s: float | None = Field(None, ge=1, description="Seconds to keep results after the job's end.")
    webhook: WebhookIn | None = Field(None, description="The receiver of the job's end.")
    metadata: dict[str, str] | None = Field(None, description="Your own data, returned with the job.")


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
                {
                    "labels": ["person", "organisation"],
                    "relations": {"works for": {"head": ["person"], "tail": ["organisation"]}},
                    "classifications": {"topic": ["science", "sport"]},
                    "documents": [{"text": "Grace Hopper worked for Remington Rand."}],
                },
            ]
        },
    )

    documents: list[DocumentIn] = Field(min_length=1)
