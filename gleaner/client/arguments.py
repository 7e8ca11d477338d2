"""Check the documents and labels passed to the client before anything is sent.

Anything that Python can iterate over looks like a list of texts: a data frame yields its column names, a mapping
its keys, a string its letters. These are refused here, because results about column names would look like success.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence, Set

from gleaner.client.calls import Document, Labels
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
    if labels is None:
        return None
    if isinstance(labels, str | bytes):
        raise TypeError("labels is one string; pass a list of labels")
    if hasattr(labels, "columns") or hasattr(labels, "column_names"):
        raise TypeError(f"labels is a {type(labels).__name__}; pass a list of labels")
    items: Labels = dict(labels) if isinstance(labels, Mapping) else list(labels)
    for index, label in enumerate(items):
        if not isinstance(label, str):
            raise TypeError(f"label {index} is {describe_type(label)}, not a string")
    return items
