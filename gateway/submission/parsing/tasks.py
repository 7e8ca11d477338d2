"""Parses what a request asks of its texts: labels, relations and classifications, with a location for every error.

By hand, like documents: fast, and bounded before anything is kept. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.characters import label_error, label_key
from gateway.label_sets import LabelSet
from gateway.settings import GatewaySettings
from gateway.validation import Pointer, ValidationErrors
from jobs.tasks import DEFAULT_THRESHOLD, Classification, Labels, RelationType, Tasks

T = TypeVar("T")

NOT_A_LABEL = "is not one of the labels"
TASK_FIELDS = frozenset({"labels", "relations", "classifications"})
_RELATION_FIELDS = frozenset({"description", "head", "tail", "threshold"})
_CLASSIFICATION_FIELDS = frozenset({"labels", "multi_label", "threshold"})
_PLAIN_RELATION = RelationType()
"""Shared by all relations without details: each object would need a hundred times the memory of its JSON."""
_MAX_CACHED_CHARACTERS = 1 << 20
"""Length of the cached values as text; a stream may bring any number of different ones."""


@dataclass(frozen=True, slots=True)
class TaskParser:
    """Parses tasks and collects their errors; ignore the results if there are any.

    Args:
        settings: the limits of names, descriptions and counts.
        max_labels: most labels of a text.
        errors: collects breaches of the contract.
    """

    settings: GatewaySettings
    max_labels: int
    errors: ValidationErrors

    def read_tasks(self, content: Mapping[str, Any], label_set: LabelSet | None = None) -> Tasks:
        """Parse the tasks among a job's fields; `label_set` is the one that they name, if they name one."""
        relations, classifications = map(content.get, ("relations", "classifications"))
        return Tasks(
            self._read_job_labels(content, label_set),
            {} if relations is None else self.read_relations(relations, ("relations",)),
            {} if classifications is None else self.read_classifications(classifications, ("classifications",)),
        )

    def read_labels(self, value: Any, at: Pointer, limit: int | None = None) -> Labels:
        """Parse labels, or the classes of a classification: a list, or a map to descriptions."""
        if not isinstance(value, list | dict):
            self.errors.add(at, "must be a list of labels, or an object of label and description")
            return {}
        limit = limit or self.max_labels
        if not 1 <= len(value) <= limit:
            self.errors.add(at, f"must have 1 to {limit} labels, not {len(value)}")
            return {}
        return {
            label: self._read_description(description, path)
            for path, label, description in self._iterate_names(value, at, "label")
        }

    def read_relations(self, value: Any, at: Pointer) -> dict[str, RelationType]:
        """Parse relations: a list, or a map to descriptions or to objects."""
        if not isinstance(value, list | dict):
            self.errors.add(at, "must be a list of relations, or an object of relation and description")
            return {}
        if len(value) > self.settings.max_relations:
            self.errors.add(at, f"must have at most {self.settings.max_relations} relations, not {len(value)}")
            return {}
        return {
            name: self._read_relation(spec, path) for path, name, spec in self._iterate_names(value, at, "relation")
        }

    def read_classifications(self, value: Any, at: Pointer) -> dict[str, Classification]:
        """Parse classifications: a map from their names to labels, or to objects with `labels`."""
        if not isinstance(value, dict):
            self.errors.add(at, "must be an object of classification and labels")
            return {}
        if len(value) > self.settings.max_classifications:
            limit = self.settings.max_classifications
            self.errors.add(at, f"must have at most {limit} classifications, not {len(value)}")
            return {}
        parsed: dict[str, Classification] = {}
        for path, name, spec in self._iterate_names(value, at, "classification"):
            if (classification := self._read_classification(spec, path)) is not None:
                parsed[name] = classification
        return parsed

    def _read_job_labels(self, content: Mapping[str, Any], label_set: LabelSet | None) -> Labels:
        labels = content.get("labels")
        if content.get("label_set") is None:
            return {} if labels is None else self.read_labels(labels, ("labels",))
        if labels is not None:
            self.errors.add(("label_set",), "cannot be combined with `labels`")
        elif label_set is None:
            self.errors.add(("label_set",), "must be the name of a label set, or name@version")
        else:
            return self.read_labels(label_set.labels, ("label_set",))
        return {}

    def _read_relation(self, spec: Any, at: Pointer) -> RelationType:
        if spec is None:
            return _PLAIN_RELATION
        if isinstance(spec, str):
            return RelationType(description=self._read_description(spec, at))
        if not isinstance(spec, dict):
            self.errors.add(at, "must be a description, or an object")
            return _PLAIN_RELATION
        self._refuse_unknown(spec, _RELATION_FIELDS, at, "a relation")
        return RelationType(
            description=self._read_description(spec.get("description"), (*at, "description")),
            head=self._read_ends(spec.get("head"), (*at, "head")),
            tail=self._read_ends(spec.get("tail"), (*at, "tail")),
            threshold=self._read_threshold(spec.get("threshold"), (*at, "threshold")),
        )

    def _read_ends(self, value: Any, at: Pointer) -> tuple[str, ...] | None:
        """Parse the labels that one end of a relation may have; `iterate_ends` finds them for a comparison."""
        limit = self.settings.max_labels
        if value is None:
            return None
        if not isinstance(value, list) or not 1 <= len(value) <= limit:
            self.errors.add(at, f"must be a list of 1 to {limit} labels")
            return None
        for index, label in enumerate(value):
            if not isinstance(label, str):
                self.errors.add((*at, index), "must be a string")
                return None
        return tuple(value)

    def _read_classification(self, spec: Any, at: Pointer) -> Classification | None:
        limit = self.settings.max_labels
        if isinstance(spec, list):
            labels = self.read_labels(spec, at, limit)
            return Classification(labels=labels) if labels else None
        if not isinstance(spec, dict):
            self.errors.add(at, "must be a list of labels, or an object with `labels`")
            return None
        self._refuse_unknown(spec, _CLASSIFICATION_FIELDS, at, "a classification")
        if spec.get("labels") is None:
            self.errors.add((*at, "labels"), "is required")
            return None
        labels = self.read_labels(spec["labels"], (*at, "labels"), limit)
        multi_label = spec.get("multi_label") or False
        if not isinstance(multi_label, bool):
            self.errors.add((*at, "multi_label"), "must be true or false")
        threshold = self._read_threshold(spec.get("threshold"), (*at, "threshold"))
        if threshold is not None and not multi_label:
            self.errors.add((*at, "threshold"), "requires `multi_label`")
        if not labels:
            return None
        threshold = DEFAULT_THRESHOLD if threshold is None else threshold
        return Classification(labels=labels, multi_label=bool(multi_label), threshold=threshold)

    def _read_threshold(self, value: Any, at: Pointer) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            self.errors.add(at, "must be a number from 0 to 1")
            return None
        return float(value)

    def _read_description(self, value: Any, at: Pointer) -> str | None:
        if value is None or value == "":
            return None
        error = label_error(value, self.settings.max_label_description_length)
        if error:
            self.errors.add(at, f"the description {error}")
            return None
        return str(value)

    def _iterate_names(
        self, value: list[Any] | dict[str, Any], at: Pointer, noun: str
    ) -> Iterator[tuple[Pointer, str, Any]]:
        """Yield (location, name, value or None) of each name that is valid and looks like no earlier one."""
        entries: Iterator[tuple[str | int, Any, Any]]
        if isinstance(value, list):
            entries = ((index, name, None) for index, name in enumerate(value))
        else:
            entries = ((name, name, content) for name, content in value.items())
        names: set[str] = set()
        keys: set[str] = set()
        for part, name, content in entries:
            path = (*at, part)
            if error := label_error(name, self.settings.max_label_length):
                self.errors.add(path, error)
            elif (key := label_key(name)) in keys:
                self.errors.add(path, f"{'is' if name in names else 'looks the same as'} an earlier {noun}")
            else:
                names.add(name)
                keys.add(key)
                yield path, name, content

    def _refuse_unknown(self, spec: Mapping[str, Any], fields: frozenset[str], at: Pointer, noun: str) -> None:
        for name in spec.keys() - fields:
            self.errors.add((*at, name), f"is not a field of {noun}")


class TaskCache:
    """Parses the tasks of a job's documents; those that several documents repeat are parsed once."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[str, str], Any] = {}
        self._characters = 0

    def read(self, parse: Callable[[Any, Pointer], T], value: Any, at: Pointer, errors: ValidationErrors) -> T:
        """Return the value as `parse`, a method of `TaskParser`, reads it; one with errors is parsed every time."""
        key = (parse.__name__, repr(value))
        if key in self._parsed:
            cached: T = self._parsed[key]
            return cached
        before = len(errors)
        parsed = parse(value, at)
        if len(errors) == before and self._characters + len(key[1]) <= _MAX_CACHED_CHARACTERS:
            self._parsed[key] = parsed
            self._characters += len(key[1])
        return parsed


def iterate_ends(relations: Mapping[str, RelationType]) -> Iterator[tuple[Pointer, str]]:
    """Yield (path, label) for each label that relations name as head or tail."""
    for name, relation in relations.items():
        for end, labels in (("head", relation.head), ("tail", relation.tail)):
            yield from (((name, end, index), label) for index, label in enumerate(labels or ()))
