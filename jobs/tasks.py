"""Tasks that a job or a document asks of a model, and the answers beside entities.

    labels           entities to find
    relations        relations to find between those entities
    classifications  questions about the whole text, each with its classes

A model says which of them it can do; requests for others are refused. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_THRESHOLD = 0.5
"""Minimum score of an entity if neither the request nor the model sets one, as in gliner."""
Threshold = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
ClassAggregation = Literal["mean", "max"]
"""The way in which the scores of a class in a long text's windows become a single one."""

Labels = dict[str, str | None]
"""Label -> description or None, in the client's order."""


class Strict(BaseModel):
    """Base of every request body: frozen, unknown fields rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Task(StrEnum):
    """Tasks that a model may be able to do."""

    ENTITIES = "entities"
    RELATIONS = "relations"
    CLASSIFICATIONS = "classifications"


class RelationType(Strict):
    """A relation to find.

    Attributes:
        description: read by the model instead of the name.
        head: labels that the head may have; None is any.
        tail: labels that the tail may have; None is any.
        threshold: minimum score; None is the option `relation_threshold`.
    """

    description: str | None = None
    head: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    tail: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    threshold: Threshold | None = None


class Classification(Strict):
    """A question about the whole text.

    Attributes:
        labels: the classes.
        multi_label: any number of classes may be right, each by its own score; else exactly one is.
        threshold: minimum score of a class with `multi_label`.
    """

    labels: Labels = Field(min_length=1)
    multi_label: bool = False
    threshold: Threshold = DEFAULT_THRESHOLD


@dataclass(frozen=True, slots=True)
class Tasks:
    """Everything that is asked of a text; an empty field is not asked."""

    labels: Labels = field(default_factory=dict)
    relations: Mapping[str, RelationType] = field(default_factory=dict)
    classifications: Mapping[str, Classification] = field(default_factory=dict)

    @property
    def requested(self) -> frozenset[Task]:
        """The tasks that are asked."""
        questions_by_task = {
            Task.ENTITIES: self.labels,
            Task.RELATIONS: self.relations,
            Task.CLASSIFICATIONS: self.classifications,
        }
        return frozenset(task for task, questions in questions_by_task.items() if questions)

    def to_wire(self) -> dict[str, Any]:
        """Return the tasks as stored with a job: older workers read `labels` alone, and are given nothing else."""
        wire: dict[str, Any] = {"labels": self.labels}
        if self.relations:
            wire["relations"] = dump_questions(self.relations)
        if self.classifications:
            wire["classifications"] = dump_questions(self.classifications)
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """Return the tasks that `to_wire` stored."""
        return cls(
            wire["labels"],
            parse_relations(wire.get("relations", {})),
            parse_classifications(wire.get("classifications", {})),
        )


def dump_questions(questions: Mapping[str, RelationType] | Mapping[str, Classification]) -> dict[str, Any]:
    """Return relations or classifications as JSON values, without defaults."""
    return {name: question.model_dump(exclude_defaults=True) for name, question in questions.items()}


def parse_relations(values: Mapping[str, Any]) -> dict[str, RelationType]:
    """Return the relations that `dump_questions` dumped."""
    return {name: RelationType.model_validate(value) for name, value in values.items()}


def parse_classifications(values: Mapping[str, Any]) -> dict[str, Classification]:
    """Return the classifications that `dump_questions` dumped."""
    return {name: Classification.model_validate(value) for name, value in values.items()}


class Relation(NamedTuple):
    """A relation between two entities of a document; `head` and `tail` are indexes of its entities."""

    label: str
    head: int
    tail: int
    score: float


class ClassScore(NamedTuple):
    """A class of a classification and its score in 0..1."""

    label: str
    score: float
