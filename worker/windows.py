"""A document becomes windows that fit the model, and the windows' spans become the document's result. Pure.

A document that fits is one window, word for word what gliner's own `predict_entities` would read. A longer one is
read twice: in overlapping windows as large as the model allows, so that nothing is lost at a cut, and closely,
sentence by sentence, because small models overlook in a full window what they find in the sentence alone
(gleaner-small: 12 to 60 % of it). Labels that do not fit beside the text are asked for in several passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.schema import (
    Document,
    DocumentError,
    DocumentErrorCode,
    DocumentResult,
    DocumentStatus,
    Entity,
    Labels,
    OffsetUnit,
    Options,
)
from worker.contract import Failed, Outcome, ShardRef, Span, Tokenizer, Window
from worker.prompts import Asked
from worker.spans import Seen, Sight, combine
from worker.text import Reading, Text


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window lies: words `first` up to `last` of the document, asking for these of its labels."""

    first: int
    last: int
    labels: tuple[int, ...]
    reading: Reading


@dataclass(frozen=True, slots=True)
class Plan:
    """How one document will be read: run `windows`, then hand their outcomes, in order, to `merge`."""

    document: Document
    options: Options
    windows: tuple[Window, ...] = ()
    places: tuple[Place, ...] = ()
    names: tuple[str, ...] = ()
    offsets: tuple[tuple[int, int], ...] = ()
    refused: DocumentError | None = None
    truncated: bool = False
    warnings: tuple[str, ...] = field(default=())


def cut(
    document: Document,
    labels: Labels,
    options: Options,
    tokenizer: Tokenizer,
    owner: ShardRef,
    close_reading: bool = True,
) -> Plan:
    """Plan how to read a document.

    Args:
        document: the document; its own labels and options replace the job's.
        labels: the job's labels.
        options: the job's options.
        tokenizer: the model's eyes.
        owner: the shard the windows belong to.
        close_reading: read a long document's sentences one by one, too. Costs about as much again as the
            large windows do; large models can do without.

    Returns:
        A plan with at least one window, or with `refused` set and none.
    """
    options = options.merged(document.options)
    refused = document.error or _unreadable(document.text)
    if refused is not None:
        return Plan(document, options, refused=refused)
    asked = Asked.of(labels if document.labels is None else document.labels, tokenizer)
    text = Text.of(document.text, tokenizer)
    passes = asked.passes(text)
    if isinstance(passes, DocumentError):
        return Plan(document, options, refused=passes)
    room = asked.room(passes)
    whole = text.fits(0, len(text.words), room)
    if not whole and options.long_text == "reject":
        detail = (
            f"{len(text.words)} words ({text.total[-1]} word pieces) do not fit the model's window of "
            f"{asked.spec.max_words} words ({room} word pieces beside the labels)."
        )
        return Plan(document, options, refused=DocumentError(DocumentErrorCode.input_too_long, detail))
    warnings = list(asked.warnings)
    ranges = [(0, len(text.words), Reading.large)]
    truncated = False
    if not whole and options.long_text == "truncate":
        ranges = [(0, max(1, text.reach(0, len(text.words), room)), Reading.large)]
        truncated = ranges[0][1] < len(text.words)
        warnings.append(f"Read the first {ranges[0][1]} of {len(text.words)} words.")
    elif not whole:
        ranges = text.ranges(room, close_reading)
    giants = sum(pieces > room for pieces in text.pieces[: max(last for _, last, _ in ranges)])
    if giants:
        truncated = True
        warnings.append(f"{giants} word(s) are longer than the model's window; only their beginning was read.")
    places = tuple(Place(first, last, group, reading) for group in passes for first, last, reading in ranges)
    return Plan(
        document,
        options,
        windows=tuple(_window(place, text, asked, options, document, owner) for place in places),
        places=places,
        names=asked.names,
        offsets=text.offsets,
        truncated=truncated,
        warnings=tuple(warnings),
    )


def merge(plan: Plan, outcomes: Sequence[Outcome], attempts: int) -> DocumentResult:
    """Turn the windows' outcomes into the document's result; one failed window fails the document."""
    document = plan.document
    failed = next((outcome for outcome in outcomes if isinstance(outcome, Failed)), None)
    error = DocumentError(failed.code, failed.detail) if failed else plan.refused
    text = document.text if plan.options.return_text else None
    if error is not None:
        return DocumentResult(
            document.index,
            document.id,
            DocumentStatus.failed,
            windows=len(plan.windows),
            attempts=attempts,
            error=error,
            text=text,
        )
    return DocumentResult(
        document.index,
        document.id,
        DocumentStatus.succeeded,
        entities=_entities(plan, _spans(plan, outcomes)),
        windows=len(plan.windows),
        truncated=plan.truncated,
        warnings=plan.warnings,
        attempts=attempts,
        text=text,
    )


def _unreadable(text: str) -> DocumentError | None:
    if not text.strip():
        return DocumentError(DocumentErrorCode.empty_text, "The text is empty or only blanks.")
    try:
        text.encode()
    except UnicodeEncodeError:
        return DocumentError(DocumentErrorCode.invalid_text, "The text holds a lone surrogate.")
    return None


def _window(
    place: Place, text: Text, asked: Asked, options: Options, document: Document, owner: ShardRef
) -> Window:
    pieces = asked.fixed + asked.cost(place.labels) + text.cost(place.first, place.last)
    return Window(
        owner=owner,
        document=document.index,
        words=text.words[place.first : place.last],
        prompts=tuple(asked.prompts[i] for i in place.labels),
        thresholds=tuple(options.threshold_for(asked.names[i]) for i in place.labels),
        flat=options.flat,
        multi_label=options.multi_label,
        pieces=min(pieces, asked.spec.max_pieces),
    )


def _spans(plan: Plan, outcomes: Sequence[Outcome]) -> list[Span]:
    """The windows' spans in the document's words and labels."""
    if len(plan.places) == 1:
        return [s for outcome in outcomes if not isinstance(outcome, Failed) for s in outcome]
    end = max(place.last for place in plan.places)
    seen = []
    for place, outcome in zip(plan.places, outcomes, strict=True):
        for span in () if isinstance(outcome, Failed) else outcome:
            left = span.start == 0 and place.first > 0
            right = place.first + span.end == place.last and place.last < end
            sight = Sight.at_edge if left or right else Sight.inside
            if place.reading is Reading.sentence:
                sight = Sight.alone
            moved = Span(place.first + span.start, place.first + span.end, place.labels[span.label], span.score)
            seen.append(Seen(moved, sight, left, right))
    return combine(seen, plan.options.flat, plan.options.multi_label)


def _entities(plan: Plan, spans: Sequence[Span]) -> tuple[Entity, ...]:
    text = plan.document.text
    ends = [(plan.offsets[s.start][0], plan.offsets[s.end - 1][1]) for s in spans]
    at = _positions(text, {place for pair in ends for place in pair}, plan.options.offset_unit)
    entities = [
        Entity(at[start], at[end], text[start:end], plan.names[span.label], span.score)
        for (start, end), span in zip(ends, spans, strict=True)
    ]
    return tuple(sorted(entities, key=lambda e: (e.start, e.end, e.label)))


def _positions(text: str, places: set[int], unit: OffsetUnit) -> dict[int, int]:
    """Code point positions -> positions in the client's unit."""
    if unit == "codepoint" or text.isascii():
        return {place: place for place in places}
    at: dict[int, int] = {}
    before = position = 0
    for place in sorted(places):
        part = text[before:place]
        position += len(part.encode()) if unit == "byte" else len(part.encode("utf-16-le")) // 2
        at[place], before = position, place
    return at
