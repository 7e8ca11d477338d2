"""Results in the formats of other tools: spaCy `Doc` and `DocBin`, IOB2 tags, Label Studio tasks.

    from gleaner import exports

    results = client.extract(texts, ["person", "city"])
    exports.docbin(results, texts).to_disk("train.spacy")

Every function takes results and their texts, in the same order; texts may be None if the results include them
(`return_text`). Failed documents are omitted: they would look like texts without entities. Offsets are code points,
as in Python, unless `offset_unit` says otherwise.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal

from gleaner.dataframes import MissingExtraError
from gleaner.models import ClassScore, Entity, Relation, Result

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, DocBin, Span

OffsetUnit = Literal["codepoint", "utf16", "byte"]
Tokenize = Callable[[str], Iterable[tuple[int, int]]]
"""Text -> (start, end) of each token in code points, in order."""

SPANS_KEY: Final = "gleaner"
_WORD: Final = re.compile(r"\w+(?:[-_]\w+)*|\S")


def docs(
    results: Iterable[Result],
    texts: Iterable[str] | None = None,
    *,
    nlp: Language | None = None,
    offset_unit: OffsetUnit = "codepoint",
) -> Iterator[Doc]:
    """Yield one spaCy `Doc` per document that succeeded.

    `doc.spans["gleaner"]` has every entity, and their scores in `.attrs["scores"]`; `doc.ents`, which cannot
    overlap, has the longest ones. An entity that ends within a token is extended to the whole token.
    `doc.user_data["id"]` is the document's id. If relations were requested, `doc.user_data["relations"]` lists
    their `label`, `score`, and `head` and `tail`, which are indexes into `doc.spans["gleaner"]`. If classifications
    were requested, `doc.cats` has the score of each class, as `topic/sport`.

    Args:
        results: as the client returns them.
        texts: the documents' texts.
        nlp: a pipeline whose tokenizer is used; by default spaCy's multi-language tokenizer.
        offset_unit: unit of the entities' offsets.

    Raises:
        MissingExtraError: spaCy is not installed.
        ValueError: the numbers of results and texts differ, or a text is missing.

    Examples:
        >>> texts = ["Ada Lovelace lived in London."]
        >>> [doc] = docs(client.extract(texts, ["person", "city"]), texts)
        >>> [(entity.text, entity.label_) for entity in doc.ents]
        [('Ada Lovelace', 'person'), ('London', 'city')]
    """
    spacy = _import_spacy()
    from spacy.tokens import SpanGroup
    from spacy.util import filter_spans

    pipeline = spacy.blank("xx") if nlp is None else nlp
    for result, text, entities in _select_succeeded(results, texts, offset_unit):
        doc = pipeline.make_doc(text)
        spans: list[Span] = []
        scores: list[float] = []
        positions: dict[int, int] = {}
        for number, entity in enumerate(entities):
            span = doc.char_span(entity.start, entity.end, entity.label, alignment_mode="expand")
            if span is not None:
                positions[number] = len(spans)
                spans.append(span)
                scores.append(entity.score)
        doc.spans[SPANS_KEY] = SpanGroup(doc, name=SPANS_KEY, attrs={"scores": scores}, spans=spans)
        doc.set_ents(filter_spans(spans))
        doc.user_data["id"] = result.id
        if result.relations is not None:
            doc.user_data["relations"] = [
                {**asdict(relation), "head": positions[relation.head], "tail": positions[relation.tail]}
                for relation in result.relations
                if {relation.head, relation.tail} <= positions.keys()
            ]
        doc.cats = {
            f"{name}/{score.label}": score.score
            for name, classes in (result.classifications or {}).items()
            for score in classes
        }
        yield doc


def docbin(
    results: Iterable[Result],
    texts: Iterable[str] | None = None,
    *,
    nlp: Language | None = None,
    offset_unit: OffsetUnit = "codepoint",
) -> DocBin:
    """Return the documents of `docs` as one `DocBin`, which `spacy train` reads; see `docs` for the arguments.

    Examples:
        >>> texts = ["Ada Lovelace lived in London."] * 3
        >>> len(docbin(client.extract(texts, ["person"]), texts))
        3
    """
    _import_spacy()
    from spacy.tokens import DocBin

    return DocBin(docs=docs(results, texts, nlp=nlp, offset_unit=offset_unit), store_user_data=True)


def words(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of words and single punctuation marks, split as by GLiNER.

    Examples:
        >>> text = "Don't panic!"
        >>> [text[start:end] for start, end in words(text)]
        ['Don', "'", 't', 'panic', '!']
    """
    return (match.span() for match in _WORD.finditer(text))


def iob2(
    results: Iterable[Result],
    texts: Iterable[str] | None = None,
    *,
    tokenize: Tokenize = words,
    offset_unit: OffsetUnit = "codepoint",
) -> Iterator[list[tuple[str, str]]]:
    """Yield tokens with their IOB2 tags, one list per document that succeeded.

    A token that overlaps an entity belongs to it. Where entities overlap the longer wins, then the earlier: IOB2
    has one tag per token.

    Args:
        results: as the client returns them.
        texts: the documents' texts.
        tokenize: returns the tokens of a text; `words` by default.
        offset_unit: unit of the entities' offsets.

    Raises:
        ValueError: the numbers of results and texts differ, or a text is missing.

    Examples:
        >>> result = Result(0, "0", "succeeded", (Entity(0, 12, "Ada Lovelace", "person", 0.9),))
        >>> list(iob2([result], ["Ada Lovelace wrote."]))
        [[('Ada', 'B-person'), ('Lovelace', 'I-person'), ('wrote', 'O'), ('.', 'O')]]
    """
    for _, text, entities in _select_succeeded(results, texts, offset_unit):
        tokens = list(tokenize(text))
        tags = ["O"] * len(tokens)
        for entity in sorted(entities, key=lambda item: (item.start - item.end, item.start)):
            inside = [at for at, (start, end) in enumerate(tokens) if start < entity.end and end > entity.start]
            if all(tags[at] == "O" for at in inside):
                for position, at in enumerate(inside):
                    tags[at] = f"{'I' if position else 'B'}-{entity.label}"
        yield [(text[start:end], tag) for (start, end), tag in zip(tokens, tags, strict=True)]


def label_studio(
    results: Iterable[Result],
    texts: Iterable[str] | None = None,
    *,
    from_name: str = "label",
    to_name: str = "text",
    model_version: str = "gleaner",
    offset_unit: OffsetUnit = "codepoint",
    multi_label: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Yield Label Studio tasks with predictions, to be written as one JSON list and imported for correction.

    Relations connect the regions of their entities, by the names of the interface's `<Relations>` tag. A
    classification is the choice of the `<Choices>` tag with its name.

    Args:
        results: as the client returns them.
        texts: the documents' texts.
        from_name: name of the `<Labels>` tag of the labelling interface.
        to_name: name of its `<Text>` tag, whose value is `$text`.
        model_version: name of the predictions in Label Studio.
        offset_unit: unit of the entities' offsets. Label Studio counts code points.
        multi_label: classifications of which every class in the result is chosen; of others, the best one.

    Raises:
        ValueError: the numbers of results and texts differ, or a text is missing.

    Examples:
        >>> result = Result(0, "a", "succeeded", (Entity(0, 3, "Ada", "person", 0.9),))
        >>> [task] = label_studio([result], ["Ada wrote."])
        >>> task["data"], task["predictions"][0]["result"][0]["value"]
        ({'text': 'Ada wrote.', 'id': 'a'}, {'start': 0, 'end': 3, 'text': 'Ada', 'labels': ['person']})
    """
    for result, text, entities in _select_succeeded(results, texts, offset_unit):
        regions = [
            {
                "id": f"{result.index}-{number}",
                "from_name": from_name,
                "to_name": to_name,
                "type": "labels",
                "value": {"start": entity.start, "end": entity.end, "text": entity.text, "labels": [entity.label]},
                "score": entity.score,
            }
            for number, entity in enumerate(entities)
        ]
        regions += [_make_relation(result.index, relation) for relation in result.relations or ()]
        for name, scores in (result.classifications or {}).items():
            if chosen := scores if name in multi_label else scores[:1]:
                regions.append(_make_choices(name, to_name, chosen))
        lowest = min((entity.score for entity in entities), default=1.0)
        prediction = {"model_version": model_version, "score": lowest, "result": regions}
        yield {"data": {"text": text, "id": result.id}, "predictions": [prediction]}


def _make_relation(index: int, relation: Relation) -> dict[str, Any]:
    return {
        "type": "relation",
        "from_id": f"{index}-{relation.head}",
        "to_id": f"{index}-{relation.tail}",
        "direction": "right",
        "labels": [relation.label],
        "score": relation.score,
    }


def _make_choices(name: str, to_name: str, scores: Sequence[ClassScore]) -> dict[str, Any]:
    return {
        "from_name": name,
        "to_name": to_name,
        "type": "choices",
        "value": {"choices": [score.label for score in scores]},
        "score": min(score.score for score in scores),
    }


def _select_succeeded(
    results: Iterable[Result], texts: Iterable[str] | None, unit: OffsetUnit
) -> Iterator[tuple[Result, str, Sequence[Entity]]]:
    """Yield results that succeeded, each with its text and its entities in code points."""
    pairs: Iterable[tuple[Result, str | None]]
    pairs = ((item, item.text) for item in results) if texts is None else zip(results, texts, strict=True)
    for result, text in pairs:
        if not result.ok:
            continue
        if text is None:
            raise ValueError(
                f"the result of document {result.id!r} has no text: pass `texts`, or submit with return_text=True"
            )
        yield result, text, _in_codepoints(text, result.entities, unit)


def _in_codepoints(text: str, entities: Sequence[Entity], unit: OffsetUnit) -> Sequence[Entity]:
    if unit == "codepoint" or not entities:
        return entities
    utf16_sizes = (1 + (ord(letter) > 0xFFFF) for letter in text)
    sizes = utf16_sizes if unit == "utf16" else (len(letter.encode()) for letter in text)
    offsets = list(accumulate(sizes, initial=0))
    moved = ((bisect_left(offsets, item.start), bisect_left(offsets, item.end), item) for item in entities)
    return [Entity(start, end, item.text, item.label, item.score) for start, end, item in moved]


def _import_spacy() -> Any:
    try:
        import spacy
    except ImportError:
        raise MissingExtraError("spaCy is not installed: pip install 'gleaner-ner[spacy]'") from None
    return spacy
