"""Check the documents, labels and options passed to the client before anything is sent.

Anything that Python can iterate over looks like a list of texts: a data frame yields its column names, a mapping
its keys, a string its letters. These are refused here, because results about column names would look like success.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, cast

from gleaner.client.calls import Classifications, Document, Labels, Relations, SubmitOptions
from gleaner.client.json_values import describe_type


def hold_documents(documents: Iterable[Document]) -> Sequence[Document]:
    """Return documents that can be iterated again, because a submission may be retried; a list is not copied.

    Raises:
        TypeError: this is not a collection of documents, or one item is not a document; the message says which.
    """
    refuse_other_collections(documents)
    items = documents if isinstance(documents, Sequence) else list(documents)
    for index, item in enumerate(items):
        check_document(item, index)
    return items


def check_documents(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield documents, each checked when it is read.

    Raises:
        TypeError: as `hold_documents`, for a document when it is reached.
    """
    for index, item in enumerate(documents):
        check_document(item, index)
        yield item


async def check_documents_async(documents: AsyncIterable[Document]) -> AsyncIterator[Document]:
    """Yield documents of an asynchronous source as `check_documents` does."""
    index = 0
    async for item in documents:
        check_document(item, index)
        yield item
        index += 1


def refuse_other_collections(documents: object) -> None:
    """Raise TypeError for a collection whose items are not documents."""
    kind = type(documents).__name__
    if isinstance(documents, str | bytes | bytearray | memoryview):
        name = "string" if isinstance(documents, str) else kind
        raise TypeError(f"documents is one {name}; pass a list of texts")
    if isinstance(documents, Mapping):
        raise TypeError(
            "documents is a mapping; pass a list: [{'text': …}] for one document, list(mapping.values()) for its "
            "texts"
        )
    if isinstance(documents, Set):
        raise TypeError(f"documents is a {kind}, which has no order; pass a list, so that results have one")
    # A DataFrame, an Arrow table or a datasets.Dataset; none of their libraries is imported here.
    if hasattr(documents, "columns") or hasattr(documents, "column_names"):
        raise TypeError(
            f"documents is a {kind}; use gleaner.dataframes.extract(client, data, text='column', labels=…), "
            "or pass one column as a list"
        )
    if getattr(documents, "ndim", 1) != 1:
        raise TypeError(
            f"documents is a {kind} of {getattr(documents, 'ndim', 0)} dimensions; pass a list of texts"
        )


def check_document(item: object, index: int) -> None:
    """Raise TypeError unless this is a text or a mapping with one; a text of None fails at the gateway."""
    if isinstance(item, str):
        return
    if not isinstance(item, Mapping):
        raise TypeError(f"document {index} is {describe_type(item)}; pass a text, or a mapping with 'text'")
    text = item.get("text", "")
    if text is not None and not isinstance(text, str):
        raise TypeError(f"document {index}: 'text' is {describe_type(text)}, not a string")


def hold_labels(labels: Labels | None) -> Labels | None:
    """Return labels that can be iterated again: a generator would be empty for the second job of `map`.

    Raises:
        TypeError: this is not a collection of labels, or one of them is not a string.
    """
    return None if labels is None else cast("Labels", _hold_names(labels, "label"))


def hold_options(options: SubmitOptions) -> SubmitOptions:
    """Return options whose relations and classifications can be iterated again.

    Raises:
        TypeError: these are not collections of relations or classifications.
    """
    checked = options.copy()
    relations, classifications = options.get("relations"), options.get("classifications")
    if relations is not None:
        checked["relations"] = cast("Relations", _hold_names(relations, "relation"))
    if classifications is not None:
        checked["classifications"] = _hold_classifications(classifications)
    return checked


def _hold_classifications(classifications: object) -> Classifications:
    if not isinstance(classifications, Mapping):
        kind = describe_type(classifications)
        raise TypeError(f"classifications is {kind}; pass a mapping: {{'topic': ['sport', 'politics']}}")
    checked: dict[str, Any] = {}
    for name, classes in classifications.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a classification is {describe_type(name)}, not a string")
        is_detailed = isinstance(classes, Mapping)
        checked[name] = classes if is_detailed else _hold_names(classes, "label", f"classifications[{name!r}]")
    return checked


def _hold_names(names: object, noun: str, argument: str = "") -> list[str] | dict[str, Any]:
    """Return a list or mapping of names that can be iterated again.

    Raises:
        TypeError: `argument` is another collection, or one of the names is not a string.
    """
    argument = argument or f"{noun}s"
    if isinstance(names, str | bytes):
        raise TypeError(f"{argument} is one string; pass a list of {noun}s")
    # A DataFrame iterates over the names of its columns.
    if not isinstance(names, Iterable) or hasattr(names, "columns") or hasattr(names, "column_names"):
        raise TypeError(f"{argument} is a {type(names).__name__}; pass a list of {noun}s")
    items: list[str] | dict[str, Any] = dict(names) if isinstance(names, Mapping) else list(names)
    for index, name in enumerate(items):
        if not isinstance(name, str):
            raise TypeError(f"{noun} {index} is {describe_type(name)}, not a string")
    return items
