"""Options for relations and classifications: --relation, --classify, --schema and their thresholds."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import typer

from gleaner.cli.exit_codes import CommandError
from gleaner.cli.label_options import parse_score
from gleaner.client.arguments import hold_labels, hold_options
from gleaner.client.calls import TASK_OPTIONS, Labels, SubmitOptions

T = TypeVar("T")

_FIELDS = ("labels", *TASK_OPTIONS)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Relations between entities and classes of whole texts, for models that can do them."""

    relation: Annotated[
        list[str] | None,
        typer.Option(
            help="A relation to find: 'works for', or with the labels of its ends 'person -> works for -> company,"
            "city'; may be repeated."
        ),
    ] = None
    relation_threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="Minimum score of a relation: 0.6, or 'works for=0.6' for one; may be repeated. [default: 0.5]"
        ),
    ] = None
    classify: Annotated[
        list[str] | None,
        typer.Option(help="A class to choose for each text: topic=sport,politics; may be repeated."),
    ] = None
    classify_multi: Annotated[
        list[str] | None,
        typer.Option(help="Classes of which any number may be right: mood=angry,sad; may be repeated."),
    ] = None
    class_aggregation: Annotated[
        Literal["mean", "max"] | None,
        typer.Option(help="How the scores of a class in a long text's windows become one. [default: mean]"),
    ] = None
    schema: Annotated[
        Path | None,
        typer.Option(
            help="A .json or .toml file with any of `labels`, `relations`, `classifications`, as in the API."
        ),
    ] = None


@dataclass(slots=True)
class Schema:
    """Tasks of a run, in the API's long forms."""

    labels: dict[str, str | None] = field(default_factory=dict)
    relations: dict[str, Any] = field(default_factory=dict)
    classifications: dict[str, Any] = field(default_factory=dict)

    @property
    def label_argument(self) -> Labels | None:
        """The labels as the client takes them: a list unless one has a description; None if there are none."""
        return self.labels if any(self.labels.values()) else list(self.labels) or None


def read_schema(labels: Labels | None, options: TaskOptions) -> tuple[Labels | None, SubmitOptions]:
    """Return the labels, and the options of the other tasks; `labels` come before those of the schema's file.

    Raises:
        CommandError: an option or the file is not valid, or a relation or classification occurs twice.
    """
    schema = Schema() if options.schema is None else _read_file(options.schema)
    schema.labels = _merge_labels(labels, schema.labels)
    for option in options.relation or ():
        _add(schema.relations, *_parse_relation(option), "--relation")
    for option in options.classify or ():
        _add(schema.classifications, *_parse_classification(option, "--classify"), "--classify")
    for option in options.classify_multi or ():
        name, classes = _parse_classification(option, "--classify-multi")
        _add(schema.classifications, name, {"labels": classes, "multi_label": True}, "--classify-multi")
    threshold = _set_thresholds(schema.relations, options.relation_threshold or ())
    chosen = {
        "relations": schema.relations if any(schema.relations.values()) else list(schema.relations),
        "classifications": schema.classifications,
        "relation_threshold": threshold,
        "class_aggregation": options.class_aggregation,
    }
    return schema.label_argument, cast(
        "SubmitOptions", {name: value for name, value in chosen.items() if value not in (None, [], {})}
    )


def _merge_labels(labels: Labels | None, schema_labels: Mapping[str, str | None]) -> dict[str, str | None]:
    merged = dict(labels) if isinstance(labels, Mapping) else dict.fromkeys(labels or ())
    for label, description in schema_labels.items():
        merged[label] = merged.get(label) or description
    return merged


def _add(tasks: dict[str, T], name: str, task: T, where: str) -> None:
    if name in tasks:
        raise CommandError(f"{where}: {name!r} occurs twice; name it once")
    tasks[name] = task


def _parse_relation(option: str) -> tuple[str, dict[str, Any] | None]:
    """Return the relation in `name` or `head,head -> name -> tail`, an empty end being any label."""
    parts = [part.strip() for part in option.split("->")]
    if len(parts) not in (1, 3) or not parts[len(parts) // 2]:
        raise CommandError(
            f"--relation {option!r}: write 'works for', or 'person -> works for -> company,city'; a name with -> "
            "requires --schema"
        )
    if len(parts) == 1:
        return parts[0], None
    ends = {end: _split_names(names) for end, names in (("head", parts[0]), ("tail", parts[2]))}
    return parts[1], {end: names for end, names in ends.items() if names} or None


def _parse_classification(option: str, where: str) -> tuple[str, list[str]]:
    name, _, classes = (part.strip() for part in option.partition("="))
    labels = _split_names(classes)
    if not name or not labels:
        raise CommandError(
            f"{where} {option!r}: write topic=sport,politics; names with = or a comma require --schema"
        )
    if len(set(labels)) < len(labels):
        raise CommandError(f"{where} {option!r}: a class occurs twice; name it once")
    return name, labels


def _split_names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _set_thresholds(relations: dict[str, Any], options: Sequence[str]) -> float | None:
    """Set the thresholds of single relations, and return that of the remaining ones."""
    default: float | None = None
    for option in options:
        name, separator, score = option.rpartition("=")
        threshold = parse_score(score, "--relation-threshold", option, "works for=0.6")
        if not separator:
            default = threshold
        elif name not in relations:
            raise CommandError(
                f"--relation-threshold names a relation that is not looked for: {name}; add --relation"
            )
        else:
            details = relations[name]
            details = {"description": details} if isinstance(details, str) else details or {}
            relations[name] = {**details, "threshold": threshold}
    return default


def _read_file(file: Path) -> Schema:
    """Return the tasks in a schema's file.

    Raises:
        CommandError: it cannot be read, or is not a schema.
    """
    try:
        content = file.read_text(encoding="utf-8-sig")
        is_toml = file.suffix.lower() == ".toml"
        value: Any = tomllib.loads(content) if is_toml else json.loads(content, object_pairs_hook=_refuse_twice)
        if not isinstance(value, dict) or not value or value.keys() - set(_FIELDS):
            raise ValueError(f"not an object with some of {', '.join(_FIELDS)} alone")
        labels = hold_labels(value.get("labels"))
        tasks: Any = hold_options(cast("SubmitOptions", {x: value[x] for x in TASK_OPTIONS if x in value}))
        relations = tasks.get("relations") or {}
    except OSError as failure:
        raise CommandError(f"{file}: {failure.strerror or failure}") from None
    except UnicodeDecodeError as failure:
        raise CommandError(f"{file}: not UTF-8 (byte 0x{failure.object[failure.start]:02x})") from None
    except RecursionError:
        raise CommandError(f"{file}: nested too deeply") from None
    except (ValueError, TypeError) as failure:
        raise CommandError(f"{file}: {failure}; write a schema as in the documentation of relations") from None
    return Schema(
        _to_mapping(labels or (), file), _to_mapping(relations, file), dict(tasks.get("classifications") or {})
    )


def _to_mapping(names: Iterable[str], file: Path) -> dict[str, Any]:
    if isinstance(names, Mapping):
        return dict(names)
    mapping: dict[str, Any] = {}
    for name in names:
        _add(mapping, name, None, str(file))
    return mapping


def _refuse_twice(items: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in items:
        if name in values:
            raise ValueError(f"{name!r} occurs twice")
        values[name] = value
    return values
