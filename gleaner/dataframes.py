"""DataFrames in, DataFrames out: pandas, Polars and Hugging Face datasets, whichever the caller has.

    from gleaner import dataframes

    entities = dataframes.extract(client, df, text="body", id="ticket", labels=["person", "city"])
    entities.merge(df, on="ticket")

None of the libraries is imported before a frame of it is there or asked for.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final, Literal, TypeVar, Unpack

from gleaner.client import Client
from gleaner.client.calls import Labels, SubmitOptions
from gleaner.client.transport import OnMapProgress
from gleaner.models import Result

F = TypeVar("F")
Library = Literal["pandas", "polars", "datasets"]
Columns = dict[str, list[Any]]

_EXTRAS: Final[Mapping[str, str]] = {"pandas": "frame", "polars": "frame", "datasets": "datasets"}
_ENTITY: Final[Mapping[str, type]] = {"start": int, "end": int, "text": str, "label": str, "score": float}


class MissingExtraError(ImportError):
    """A library is not installed; `str()` says how to install it."""


def extract(
    client: Client,
    data: F,
    *,
    labels: Labels,
    text: str = "text",
    id: str | None = None,  # noqa: A002  # what a reader of the call expects
    on_progress: OnMapProgress | None = None,
    **options: Unpack[SubmitOptions],
) -> F:
    """Every entity of a column of texts, as a tidy frame: one row an entity.

    Its columns are the id's (by its own name, or `row`, the row's number from 0), `start`, `end`, `text`, `label`,
    `score`; its order is the frame's. A document that failed is told by a warning; `annotate` says which.

    Args:
        client: where the texts go, by `Client.map`: any number of them.
        data: a pandas or Polars DataFrame, or a `datasets.Dataset`; the answer is of the same kind.
        labels: what to look for.
        text: the column of texts; a missing value fails alone as `empty_text`.
        id: the column that tells rows apart.
        on_progress: as for `Client.map`.
        **options: as for `Client.map`.

    Raises:
        TypeError: `data` is no frame, or a text is none.

    Examples:
        >>> import pandas
        >>> df = pandas.DataFrame({"text": ["Ada Lovelace met Charles Babbage in London."]})
        >>> found = extract(client, df, labels=["person", "city"])
        >>> found[["row", "text", "label"]].values.tolist()
        [[0, 'Ada Lovelace', 'person'], [0, 'Charles Babbage', 'person'], [0, 'London', 'city']]
    """
    library = library_of(data)
    results = client.map(_texts(library, data, text), labels, on_progress=on_progress, **options)
    names: Iterable[Any] | None = None if id is None else _column(library, data, id)
    columns = _tidy(results, id or "row", names)
    return _build(library, columns)  # type: ignore[no-any-return]


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
    """The frame with two columns more: each row's entities as a list of records, and its error's code or null.

    Args:
        client: as for `extract`.
        data: as for `extract`; it is not changed.
        labels: as for `extract`.
        text: as for `extract`.
        column: what the column of entities is called; the other is `<column>_error`.
        on_progress: as for `Client.map`.
        **options: as for `Client.map`.

    Raises:
        TypeError: `data` is no frame, or a text is none.

    Examples:
        >>> import polars
        >>> df = polars.DataFrame({"text": ["Ada Lovelace lived in London.", ""]})
        >>> found = annotate(client, df, labels=["person"])
        >>> found["entities"].list.len().to_list(), found["entities_error"].to_list()
        ([1, 0], [None, 'empty_text'])
    """
    library = library_of(data)
    results = client.map(_texts(library, data, text), labels, on_progress=on_progress, **options)
    found: list[list[dict[str, Any]]] = []
    errors: list[str | None] = []
    for result in results:
        found.append([{name: getattr(entity, name) for name in _ENTITY} for entity in result.entities])
        errors.append(_code(result))
    return _attach(library, data, column, found, errors)  # type: ignore[no-any-return]


def entities(results: Iterable[Result], library: Library = "pandas") -> Any:
    """Results that are there already, as the tidy frame that `extract` makes; its first column is `id`.

    Raises:
        MissingExtraError: the library is not installed.

    Examples:
        >>> found = entities(client.extract(["Ada Lovelace lived in London."], ["person", "city"]))
        >>> found["label"].tolist()
        ['person', 'city']
    """
    kept = list(results)
    return _build(library, _tidy(kept, "id", (result.id for result in kept)))


def library_of(data: object) -> Library:
    """Whose frame it is, without importing any library.

    Raises:
        TypeError: it is none.
    """
    kinds: Mapping[str, Library] = {
        "pandas.DataFrame": "pandas",
        "polars.DataFrame": "polars",
        "datasets.Dataset": "datasets",
    }
    for each in type(data).__mro__:
        found = kinds.get(f"{each.__module__.partition('.')[0]}.{each.__name__}")
        if found is not None:
            return found
    raise TypeError(
        f"{type(data).__name__} is no frame; give a pandas or Polars DataFrame (a LazyFrame's .collect()) or a "
        "datasets.Dataset (one split of a DatasetDict)"
    )


def _texts(library: Library, data: Any, name: str) -> Iterator[str]:
    """Return the texts of a column, a missing one as "".

    Raises:
        TypeError: one is something else, which is known before the first is submitted.
    """
    for row, text in enumerate(_column(library, data, name)):
        if not isinstance(text, str) and not _is_missing(text):
            raise TypeError(f"row {row}: {name!r} is not text but {type(text).__name__}")
    return (text if isinstance(text, str) else "" for text in _column(library, data, name))


def _is_missing(value: Any) -> bool:
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)
    )  # NaN is not itself


def _column(library: Library, data: Any, name: str) -> Iterator[Any]:
    there = list(data.column_names if library == "datasets" else data.columns)
    if name not in there:
        raise TypeError(f"no column {name!r}; there are: {', '.join(map(str, there))}")
    if there.count(name) > 1:
        raise TypeError(f"{there.count(name)} columns are called {name!r}; rename all but one")
    if library == "datasets":
        return (row[name] for row in data.select_columns([name]))  # batch by batch from disk
    return iter(data[name])


def _tidy(results: Iterable[Result], key: str, names: Iterable[Any] | None) -> Columns:
    """Columns of entities; warns of documents that failed.

    Raises:
        TypeError: the key is called as a column of entities is.
    """
    if key in _ENTITY:
        raise TypeError(f"the id column is called {key!r}, as a column of entities is; rename it")
    columns: Columns = {name: [] for name in (key, *_ENTITY)}
    failed: Counter[str] = Counter()
    total = 0
    known = iter(names) if names is not None else None
    for result in results:
        total += 1
        name = result.index if known is None else next(known)
        code = _code(result)
        if code is not None:
            failed[code] += 1
        for entity in result.entities:
            columns[key].append(name)
            for field in _ENTITY:
                columns[field].append(getattr(entity, field))
    if failed:
        why = ", ".join(f"{count} x {code}" for code, count in failed.most_common())
        warnings.warn(
            f"{failed.total()} of {total} documents failed ({why}); dataframes.annotate says which", stacklevel=3
        )
    return columns


def _code(result: Result) -> str | None:
    if result.ok:
        return None
    return result.status if result.error is None else result.error.code


def _module(library: Library) -> Any:
    try:
        return import_module(library)
    except ImportError:
        extra = _EXTRAS[library]
        raise MissingExtraError(f"{library} is not installed: pip install 'gleaner-ner[{extra}]'") from None


def _build(library: Library, columns: Columns) -> Any:
    """A frame whose columns have their types, rows or not."""
    module = _module(library)
    key, *_ = columns
    if library == "pandas":
        types = {"start": "int64", "end": "int64", "score": "float64", "text": "str", "label": "str"}
        frame = module.DataFrame(columns).astype(types)
        return frame if len(frame) or key != "row" else frame.astype({"row": "int64"})
    if library == "polars":
        kinds = {int: module.Int64, float: module.Float64, str: module.String}
        schema: dict[str, Any] = {name: kinds[kind] for name, kind in _ENTITY.items()}
        if not columns[key]:
            schema[key] = module.Int64 if key == "row" else module.String
        return module.DataFrame(columns, schema_overrides=schema)
    return module.Dataset.from_dict(columns)


def _attach(
    library: Library, data: Any, column: str, found: list[list[dict[str, Any]]], errors: list[str | None]
) -> Any:
    module, error_column = _module(library), f"{column}_error"
    if library == "pandas":
        objects = module.Series(found, index=data.index, dtype=object)
        return data.assign(**{column: objects, error_column: module.Series(errors, index=data.index, dtype=object)})
    if library == "polars":
        kinds = {int: module.Int64, float: module.Float64, str: module.String}
        record = module.List(module.Struct({name: kinds[kind] for name, kind in _ENTITY.items()}))
        return data.with_columns(
            module.Series(column, found, dtype=record), module.Series(error_column, errors, dtype=module.String)
        )
    values = {int: module.Value("int64"), float: module.Value("float64"), str: module.Value("string")}
    record = module.List({name: values[kind] for name, kind in _ENTITY.items()})
    with_entities = data.add_column(column, found, feature=record)
    return with_entities.add_column(error_column, errors, feature=module.Value("string"))
