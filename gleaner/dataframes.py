"""Extraction from DataFrames to DataFrames: pandas, Polars and Hugging Face datasets.

    from gleaner import dataframes

    entities = dataframes.extract(client, df, text="body", id="ticket", labels=["person", "city"])
    entities.merge(df, on="ticket")

A library is imported only when one of its frames is passed or requested.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final, Literal, TypeVar, Unpack

from gleaner.client import Client
from gleaner.client.calls import Labels, SubmitOptions
from gleaner.client.scheduling import OnMapProgress
from gleaner.models import Result

F = TypeVar("F")
Library = Literal["pandas", "polars", "datasets"]
Columns = dict[str, list[Any]]

_EXTRAS: Final[Mapping[str, str]] = {"pandas": "frame", "polars": "frame", "datasets": "datasets"}
_ENTITY: Final[Mapping[str, type]] = {"start": int, "end": int, "text": str, "label": str, "score": float}
_RELATION: Final[Mapping[str, type]] = {"relation": str, "score": float} | {
    f"{end}{suffix}": kind
    for end in ("head", "tail")
    for suffix, kind in {"": int, "_start": int, "_end": int, "_text": str, "_label": str}.items()
}
_CLASS: Final[Mapping[str, type]] = {"classification": str, "label": str, "score": float}


class MissingExtraError(ImportError):
    """A required library is not installed; `str()` says how to install it."""


def extract(
    client: Client,
    data: F,
    *,
    labels: Labels,
    text: str = "text",
    id: str | None = None,  # noqa: A002  # the name that callers expect
    on_progress: OnMapProgress | None = None,
    **options: Unpack[SubmitOptions],
) -> F:
    """Return every entity of a column of texts as a tidy frame: one row per entity.

    Its columns are the id's (by its name, or `row`, the row's number from 0), `start`, `end`, `text`, `label`,
    `score`; rows keep the frame's order. Failed documents cause a warning; `annotate` shows which failed.

    Args:
        client: sends the texts, by `Client.map`.
        data: a pandas or Polars DataFrame, or a `datasets.Dataset`; the result is of the same kind.
        labels: the labels to look for.
        text: the column of texts; for a missing value only that document fails, with `empty_text`.
        id: the column that identifies rows.
        on_progress: as for `Client.map`.
        **options: as for `Client.map`.

    Raises:
        TypeError: `data` is not a frame, or a value in the column is not text.

    Examples:
        >>> import pandas
        >>> df = pandas.DataFrame({"text": ["Ada Lovelace met Charles Babbage in London."]})
        >>> entities = extract(client, df, labels=["person", "city"])
        >>> entities[["row", "text", "label"]].values.tolist()
        [[0, 'Ada Lovelace', 'person'], [0, 'Charles Babbage', 'person'], [0, 'London', 'city']]
    """
    library = library_of(data)
    results = client.map(_read_texts(library, data, text), labels, on_progress=on_progress, **options)
    names: Iterable[Any] | None = None if id is None else _read_column(library, data, id)
    columns = _build_columns(results, id or "row", names)
    return _build_frame(library, columns)  # type: ignore[no-any-return]


def annotate(
    client: Client,
    data: F,
    *,
    labels: Labels,
    text: str = "text",
    column: str = "entities",
    on_progress: OnMapProgress | None = None,
    **options: Unpack[SubmitOptions],
) -> F:
    """Return the frame with two additional columns: each row's entities as a list of records, and its error code.

    Args:
        client: as for `extract`.
        data: as for `extract`; it is not changed.
        labels: as for `extract`.
        text: as for `extract`.
        column: name of the column of entities; the other is `<column>_error`, null for documents that succeeded.
        on_progress: as for `Client.map`.
        **options: as for `Client.map`.

    Raises:
        TypeError: `data` is not a frame, or a value in the column is not text.

    Examples:
        >>> import polars
        >>> df = polars.DataFrame({"text": ["Ada Lovelace lived in London.", ""]})
        >>> annotated = annotate(client, df, labels=["person"])
        >>> annotated["entities"].list.len().to_list(), annotated["entities_error"].to_list()
        ([1, 0], [None, 'empty_text'])
    """
    library = library_of(data)
    results = client.map(_read_texts(library, data, text), labels, on_progress=on_progress, **options)
    records: list[list[dict[str, Any]]] = []
    errors: list[str | None] = []
    for result in results:
        records.append([{name: getattr(entity, name) for name in _ENTITY} for entity in result.entities])
        errors.append(_error_code(result))
    return _add_columns(library, data, column, records, errors)  # type: ignore[no-any-return]


def entities(results: Iterable[Result], library: Library = "pandas") -> Any:
    """Return existing results as the tidy frame that `extract` returns; its first column is `id`.

    Raises:
        MissingExtraError: the library is not installed.

    Examples:
        >>> frame = entities(client.extract(["Ada Lovelace lived in London."], ["person", "city"]))
        >>> frame["label"].tolist()
        ['person', 'city']
    """
    rows = list(results)
    return _build_frame(library, _build_columns(rows, "id", (result.id for result in rows)))


def relations(results: Iterable[Result], library: Library = "pandas") -> Any:
    """Return the relations of existing results as a tidy frame: one row per relation.

    Its columns are `id`, `relation`, `score`, and for `head` and `tail` the number of the entity in its document,
    from 0 as in `result.entities` and among the document's rows of `entities`, with its `_start`, `_end`, `_text`
    and `_label`.

    Raises:
        MissingExtraError: the library is not installed.
    """
    columns: Columns = {name: [] for name in ("id", *_RELATION)}
    for result in _warn_of_failures(results):
        for head, relation, tail in result.relation_entities():
            cells: list[Any] = [result.id, relation.label, relation.score]
            for number, entity in ((relation.head, head), (relation.tail, tail)):
                cells += [number, entity.start, entity.end, entity.text, entity.label]
            for name, cell in zip(columns, cells, strict=True):
                columns[name].append(cell)
    return _build_frame(library, columns, _RELATION)


def classifications(results: Iterable[Result], library: Library = "pandas") -> Any:
    """Return the classes of existing results as a tidy frame: one row per class, best first.

    Its columns are `id`, `classification`, `label`, `score`.

    Raises:
        MissingExtraError: the library is not installed.
    """
    columns: Columns = {name: [] for name in ("id", *_CLASS)}
    for result in _warn_of_failures(results):
        for classification, scores in (result.classifications or {}).items():
            for score in scores:
                cells = (result.id, classification, score.label, score.score)
                for name, cell in zip(columns, cells, strict=True):
                    columns[name].append(cell)
    return _build_frame(library, columns, _CLASS)


def library_of(data: object) -> Library:
    """Return the library of a frame, without importing any library.

    Raises:
        TypeError: it is not a frame.
    """
    kinds: Mapping[str, Library] = {
        "pandas.DataFrame": "pandas",
        "polars.DataFrame": "polars",
        "datasets.Dataset": "datasets",
    }
    for cls in type(data).__mro__:
        library = kinds.get(f"{cls.__module__.partition('.')[0]}.{cls.__name__}")
        if library is not None:
            return library
    raise TypeError(
        f"{type(data).__name__} is not a frame; pass a pandas or Polars DataFrame (a LazyFrame's .collect()) "
        "or a datasets.Dataset (for a DatasetDict, one split)"
    )


def _read_texts(library: Library, data: Any, name: str) -> Iterator[str]:
    """Return the texts of a column, a missing one as "".

    Raises:
        TypeError: a value is not text; raised before the first text is submitted.
    """
    for row, text in enumerate(_read_column(library, data, name)):
        if not isinstance(text, str) and not _is_missing(text):
            raise TypeError(f"row {row}: {name!r} is not text but {type(text).__name__}")
    return (text if isinstance(text, str) else "" for text in _read_column(library, data, name))


def _is_missing(value: Any) -> bool:
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)
    )  # NaN is not itself


def _read_column(library: Library, data: Any, name: str) -> Iterator[Any]:
    column_names = list(data.column_names if library == "datasets" else data.columns)
    if name not in column_names:
        raise TypeError(f"no column {name!r}; the columns are: {', '.join(map(str, column_names))}")
    if column_names.count(name) > 1:
        raise TypeError(f"{column_names.count(name)} columns are called {name!r}; rename all but one")
    if library == "datasets":
        return (row[name] for row in data.select_columns([name]))  # batch by batch from disk
    return iter(data[name])


def _build_columns(results: Iterable[Result], key: str, names: Iterable[Any] | None) -> Columns:
    """Return the columns of a tidy frame of entities; warn of failed documents.

    Raises:
        TypeError: the id column has the name of a column of entities.
    """
    if key in _ENTITY:
        raise TypeError(f"the id column {key!r} has the name of an output column; rename it")
    columns: Columns = {name: [] for name in (key, *_ENTITY)}
    ids = iter(names) if names is not None else None
    for result in _warn_of_failures(results):
        name = result.index if ids is None else next(ids)
        for entity in result.entities:
            columns[key].append(name)
            for field in _ENTITY:
                columns[field].append(getattr(entity, field))
    return columns


def _warn_of_failures(results: Iterable[Result]) -> Iterator[Result]:
    """Yield the results, then warn if documents failed."""
    failed: Counter[str] = Counter()
    total = 0
    for result in results:
        total += 1
        code = _error_code(result)
        if code is not None:
            failed[code] += 1
        yield result
    if failed:
        why = ", ".join(f"{count} x {code}" for code, count in failed.most_common())
        warnings.warn(
            f"{failed.total()} of {total} documents failed ({why}); dataframes.annotate shows which", stacklevel=4
        )


def _error_code(result: Result) -> str | None:
    if result.ok:
        return None
    return result.status if result.error is None else result.error.code


def _import_library(library: Library) -> Any:
    try:
        return import_module(library)
    except ImportError:
        extra = _EXTRAS[library]
        raise MissingExtraError(f"{library} is not installed: pip install 'gleaner-ner[{extra}]'") from None


def _build_frame(library: Library, columns: Columns, kinds: Mapping[str, type] = _ENTITY) -> Any:
    """Return a frame whose columns have the right types even without rows."""
    module = _import_library(library)
    key, *_ = columns
    if library == "pandas":
        types = {int: "int64", float: "float64", str: "str"}
        frame = module.DataFrame(columns).astype({name: types[kind] for name, kind in kinds.items()})
        return frame if len(frame) or key != "row" else frame.astype({"row": "int64"})
    if library == "polars":
        dtypes = {int: module.Int64, float: module.Float64, str: module.String}
        schema: dict[str, Any] = {name: dtypes[kind] for name, kind in kinds.items()}
        if not columns[key]:
            schema[key] = module.Int64 if key == "row" else module.String
        return module.DataFrame(columns, schema_overrides=schema)
    return module.Dataset.from_dict(columns)


def _add_columns(
    library: Library, data: Any, column: str, records: list[list[dict[str, Any]]], errors: list[str | None]
) -> Any:
    module, error_column = _import_library(library), f"{column}_error"
    if library == "pandas":
        objects = module.Series(records, index=data.index, dtype=object)
        return data.assign(**{column: objects, error_column: module.Series(errors, index=data.index, dtype=object)})
    if library == "polars":
        kinds = {int: module.Int64, float: module.Float64, str: module.String}
        record = module.List(module.Struct({name: kinds[kind] for name, kind in _ENTITY.items()}))
        return data.with_columns(
            module.Series(column, records, dtype=record), module.Series(error_column, errors, dtype=module.String)
        )
    values = {int: module.Value("int64"), float: module.Value("float64"), str: module.Value("string")}
    record = module.List({name: values[kind] for name, kind in _ENTITY.items()})
    with_entities = data.add_column(column, records, feature=record)
    return with_entities.add_column(error_column, errors, feature=module.Value("string"))
