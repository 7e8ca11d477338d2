"""Results in other tools' forms: spaCy `Doc` and `DocBin`, IOB2 tags, Label Studio tasks.

    from gleaner import exports

    results = client.extract(texts, ["person", "city"])
    exports.docbin(results, texts).to_disk("train.spacy")

Every function takes texts beside results, in the same order; None where the results carry theirs (`return_text`).
Documents that failed are left out: a text without entities is not what became of them. Offsets are code points, as
in Python, unless `offset_unit` says what the job asked for.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal

from gleaner.dataframes import MissingExtraError
from gleaner.models import Entity, Result

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, DocBin

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
    """One spaCy `Doc` a document that succeeded.

    `doc.spans["gleaner"]` has every entity, with its score beside it in `.attrs["scores"]`; `doc.ents`, which can
    hold no two on the same token, those that remain where the longer wins. An entity that ends within a token takes
    the whole token. `doc.user_data["id"]` is the document's id.

    Args:
        results: as the client hands them out.
        texts: the documents' texts.
        nlp: a pipeline whose tokenizer is used; spaCy's one for no language in particular by default.
        offset_unit: what the entities' offsets count.

    Raises:
        MissingExtraError: spaCy is not installed.
        ValueError: results and texts are not of the same number, or a text is missing.

    Examples:
        >>> texts = ["Ada Lovelace lived in London."]
        >>> [doc] = docs(client.extract(texts, ["person", "city"]), texts)
        >>> [(entity.text, entity.label_) for entity in doc.ents]
        [('Ada Lovelace', 'person'), ('London', 'city')]
    """
    spacy = _spacy()
    from spacy.tokens import SpanGroup
    from spacy.util import filter_spans

    pipeline = spacy.blank("xx") if nlp is None else nlp
    for result, text, entities in _succeeded(results, texts, offset_unit):
        doc = pipeline.make_doc(text)
        spans, scores = [], []
        for entity in entities:
            span = doc.char_span(entity.start, entity.end, entity.label, alignment_mode="expand")
            if span is not None:
                spans.append(span)
                scores.append(entity.score)
        doc.spans[SPANS_KEY] = SpanGroup(doc, name=SPANS_KEY, attrs={"scores": scores}, spans=spans)
        doc.set_ents(filter_spans(spans))
        doc.user_data["id"] = result.id
        yield doc


def docbin(
    results: Iterable[Result],
    texts: Iterable[str] | None = None,
    *,
    nlp: Language | None = None,
    offset_unit: OffsetUnit = "codepoint",
) -> DocBin:
    """`docs` as one `DocBin`, which `spacy train` reads; arguments and errors as of `docs`.

    Examples:
        >>> texts = ["Ada Lovelace lived in London."] * 3
        >>> len(docbin(client.extract(texts, ["person"]), texts))
        3
    """
    _spacy()
    from spacy.tokens import DocBin

    return DocBin(docs=docs(results, texts, nlp=nlp, offset_unit=offset_unit), store_user_data=True)


def words(text: str) -> Iterator[tuple[int, int]]:
    """Words and single punctuation marks, as GLiNER's own splitter cuts a text.

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
    """Tokens with their IOB2 tags, one list a document that succeeded.

    A token that an entity touches belongs to it. Where entities overlap the longer wins, then the earlier: IOB2 has
    one tag a token.

    Args:
        results: as the client hands them out.
        texts: the documents' texts.
        tokenize: where tokens start and end; `words` by default.
        offset_unit: what the entities' offsets count.

    Raises:
        ValueError: results and texts are not of the same number, or a text is missing.

    Examples:
        >>> result = Result(0, "0", "succeeded", (Entity(0, 12, "Ada Lovelace", "person", 0.9),))
        >>> list(iob2([result], ["Ada Lovelace wrote."]))
        [[('Ada', 'B-person'), ('Lovelace', 'I-person'), ('wrote', 'O'), ('.', 'O')]]
    """
    for _, text, entities in _succeeded(results, texts, offset_unit):
        tokens = list(tokenize(text))
        tags = ["O"] * len(tokens)
        for entity in sorted(entities, key=lambda each: (each.start - each.end, each.start)):
            inside = [at for at, (start, end) in enumerate(tokens) if start < entity.end and end > entity.start]
            if all(tags[at] == "O" for at in inside):
                for place, at in enumerate(inside):
                    tags[at] = f"{'I' if place else 'B'}-{entity.label}"
        yield [(text[start:end], tag) for (start, end), tag in zip(tokens, tags, strict=True)]


def label_studio(
    results: Iterable[Result],
    texts: Iterable[str] | None = None,
    *,
    from_name: str = "label",
    to_name: str = "text",
    model_version: str = "gleaner",
    offset_unit: OffsetUnit = "codepoint",
) -> Iterator[dict[str, Any]]:
    """Label Studio tasks with predictions, to be written as one JSON list and imported; people then correct them.

    Args:
        results: as the client hands them out.
        texts: the documents' texts.
        from_name: name of the `<Labels>` tag of the labelling interface.
        to_name: name of its `<Text>` tag, whose value is `$text`.
        model_version: what the predictions are called there.
        offset_unit: what the entities' offsets count. Label Studio counts code points.

    Raises:
        ValueError: results and texts are not of the same number, or a text is missing.

    Examples:
        >>> result = Result(0, "a", "succeeded", (Entity(0, 3, "Ada", "person", 0.9),))
        >>> [task] = label_studio([result], ["Ada wrote."])
        >>> task["data"], task["predictions"][0]["result"][0]["value"]
        ({'text': 'Ada wrote.', 'id': 'a'}, {'start': 0, 'end': 3, 'text': 'Ada', 'labels': ['person']})
    """
    for result, text, entities in _succeeded(results, texts, offset_unit):
        regions = [
            {
                "id": f"{result.index}-{number}",
                "from_name": from_name,
                "to_name": to_name,
                "type": "labels",
                "value": {"start": each.start, "end": each.end, "text": each.text, "labels": [each.label]},
                "score": each.score,
            }
            for number, each in enumerate(entities)
        ]
        least = min((each.score for each in entities), default=1.0)
        prediction = {"model_version": model_version, "score": least, "result": regions}
        yield {"data": {"text": text, "id": result.id}, "predictions": [prediction]}


def _succeeded(
    results: Iterable[Result], texts: Iterable[str] | None, unit: OffsetUnit
) -> Iterator[tuple[Result, str, Sequence[Entity]]]:
    """Results that have entities to speak of, each with its text and its entities in code points."""
    pairs: Iterable[tuple[Result, str | None]]
    pairs = ((each, each.text) for each in results) if texts is None else zip(results, texts, strict=True)
    for result, text in pairs:
        if not result.ok:
            continue
        if text is None:
            raise ValueError(
                f"document {result.id!r} carries no text: give `texts`, or submit with return_text=True"
            )
        yield result, text, _in_codepoints(text, result.entities, unit)


def _in_codepoints(text: str, entities: Sequence[Entity], unit: OffsetUnit) -> Sequence[Entity]:
    if unit == "codepoint" or not entities:
        return entities
    wide = (1 + (ord(letter) > 0xFFFF) for letter in text)
    ends = list(accumulate(wide if unit == "utf16" else (len(letter.encode()) for letter in text), initial=0))
    moved = ((bisect_left(ends, each.start), bisect_left(ends, each.end), each) for each in entities)
    return [Entity(start, end, each.text, each.label, each.score) for start, end, each in moved]


def _spacy() -> Any:
    try:
        import spacy
    except ImportError:
        raise MissingExtraError("spaCy is not installed: pip install 'gleaner-ner[spacy]'") from None
    return spacy
