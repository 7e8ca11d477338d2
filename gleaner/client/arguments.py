"""Documents and labels that a caller of the client gives, checked before anything is sent.

Whatever Python can iterate over looks like a list of texts: a data frame gives its column names, a mapping its
keys, a string its letters. Each is refused here with a sentence, for answers about column names look like success.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence, Set

from gleaner.client.calls import Document, Labels
from gleaner.client.json_values import describe_type


def hold_documents(documents: Iterable[Document]) -> Sequence[Document]:
    """Return documents that can be read again, since a submission may be repeated; a list is taken as it is.

    Raises:
        TypeError: this is no collection of documents, or one of them is none; the message says which.
    """
    refuse_other_collections(documents)
    items = documents if isinstance(documents, Sequence) else list(documents)
    for index, item in enumerate(items):
        check_document(item, index)
    return items


def check_documents(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield documents as they are read, each checked.

    Raises:
        TypeError: as `hold_documents`, for a document once it is reached.
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
    """Raise TypeError for what iterates over something else than documents."""
    kind = type(documents).__name__
    if isinstance(documents, str | bytes | bytearray | memoryview):
        name = "string" if isinstance(documents, str) else kind
        raise TypeError(f"documents is one {name}; give a list of texts")
    if isinstance(documents, Mapping):
        raise TypeError(
            "documents is a mapping; give a list: [{'text': …}] for one document, list(mapping.values()) for "
            "the texts it holds"
        )
    if isinstance(documents, Set):
        raise TypeError(f"documents is a {kind}, which has no order to give results in; give a list")
    # A DataFrame, an Arrow table or a datasets.Dataset; none of their libraries is imported here.
    if hasattr(documents, "columns") or hasattr(documents, "column_names"):
        raise TypeError(
            f"documents is a {kind}; use gleaner.dataframes.extract(client, data, text='column', labels=…), "
            "or give the list of one column"
        )
    if getattr(documents, "ndim", 1) != 1:
        raise TypeError(
            f"documents is a {kind} of {getattr(documents, 'ndim', 0)} dimensions; give a list of texts"
        )


def check_document(item: object, index: int) -> None:
    """Raise TypeError for what is neither a text nor a mapping with one; a text of None fails at the gateway."""
    if isinstance(item, str):
        return
    if not isinstance(item, Mapping):
        raise TypeError(f"document {index} is {describe_type(item)}; give a text, or a mapping with 'text'")
    text = item.get("text", "")
    if text is not None and not isinstance(text, str):
        raise TypeError(f"document {index}: 'text' is {describe_type(text)}, not a string")


def hold_labels(labels: Labels | None) -> Labels | None:
    """Return labels that can be read again: a generator would be empty for the second job of `map`.

    Raises:
        TypeError: this is no collection of labels, or one of them is no string.
    """
    if labels is None:
        return None
    if isinstance(labels, str | bytes):
        raise TypeError("labels is one string; give a list of labels")
    if hasattr(labels, "columns") or hasattr(labels, "column_names"):
        raise TypeError(f"labels is a {type(labels).__name__}; give a list of labels")
    items: Labels = dict(labels) if isinstance(labels, Mapping) else list(labels)
    for index, label in enumerate(items):
        if not isinstance(label, str):
            raise TypeError(f"label {index} is {describe_type(label)}, not a string")
    return items
