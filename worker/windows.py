"""A document becomes windows that fit the model, and the windows' spans become the document's result. Pure.

A document that fits is one window, word for word what gliner's own `predict_entities` would read. A longer one is
read twice: in overlapping windows as large as the model allows, so that nothing is lost at a cut, and closely,
sentence by sentence, because small models overlook in a full window what they find in the sentence alone
(gleaner-small: 12 to 60 % of it). Labels that do not fit beside the text are asked for in several passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from jobs.schema import (
    Document,
    DocumentError,
    DocumentErrorCode,
    DocumentResult,
    DocumentStatus,
    Entity,
    Explanation,
    Labels,
    OffsetUnit,
    Options,
)
from worker.contract import Failed, Knots, Outcome, ShardRef, Span, Tokenizer, Window
from worker.explaining import Reason, Sighting, confidence, reasons
from worker.prompts import Ask, Asked, Prompt
from worker.redaction import Found, redact
from worker.spans import Seen, Sight, combine
from worker.text import Reading, Text

_ORDER = itemgetter(0, 1, 3)
"""Entities are sorted by start, end, label."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window lies, and why: words `first` up to `last` of the document, asking for these of its labels."""

    first: int
    last: int
    reading: Reading
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one document will be read: run `windows`, then hand their outcomes, in order, to `merge`.

    `starts` and `ends` are its words', `redact_key` is the tenant's, and `calibration` the model's.
    """

    document: Document
    options: Options
    windows: tuple[Window, ...] = ()
    places: tuple[Place, ...] = ()
    names: tuple[str, ...] = ()
    starts: Sequence[int] = ()
    ends: Sequence[int] = ()
    refused: DocumentError | None = None
    truncated: bool = False
    warnings: tuple[str, ...] = field(default=())
    redact_key: bytes | None = field(default=None, repr=False)
    calibration: Knots = ()


def cut(
    document: Document,
    labels: Labels,
    options: Options,
    tokenizer: Tokenizer,
    owner: ShardRef,
    close_reading: bool = True,
    redact_key: bytes | None = None,
    ask: Ask = Asked.of,
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
        redact_key: what the tenant's tokens are made with; without it nothing can be redacted to tokens.
        ask: says how the model is asked for labels; `prompts.remembering`, where many documents ask for the same.

    Returns:
        A plan with at least one window, or with `refused` set and none.
    """
    options = options.merged(document.options)
    refused = document.error or _unreadable(document.text) or _unredactable(options, redact_key)
    if refused is not None:
        return Plan(document, options, refused=refused)
    asked = ask(labels if document.labels is None else document.labels, tokenizer)
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
    giants = 0 if whole else sum(pieces > room for pieces in text.pieces[: max(last for _, last, _ in ranges)])
    if giants:
        truncated = True
        warnings.append(f"{giants} word(s) are longer than the model's window; only their beginning was read.")
    if truncated and options.redaction:
        detail = "The text cannot be read whole, and what is not read cannot be redacted."
        return Plan(document, options, refused=DocumentError(DocumentErrorCode.input_too_long, detail))
    rows = [(Place(*span, prompt.labels), prompt) for prompt in passes for span in ranges]
    return Plan(
        document,
        options,
        windows=tuple(_window(place, prompt, text, asked, options, document, owner) for place, prompt in rows),
        places=tuple(place for place, _ in rows),
        names=asked.names,
        starts=text.starts,
        ends=text.ends,
        truncated=truncated,
        warnings=tuple(warnings),
        redact_key=redact_key,
        calibration=asked.spec.calibration,
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
    entities, redacted = _entities(plan, [outcome for outcome in outcomes if not isinstance(outcome, Failed)])
    return DocumentResult(
        document.index,
        document.id,
        DocumentStatus.succeeded,
        entities=entities,
        windows=len(plan.windows),
        truncated=plan.truncated,
        warnings=plan.warnings,
        attempts=attempts,
        text=text,
        redacted_text=redacted,
    )


def _unreadable(text: str) -> DocumentError | None:
    if not text.strip():
        return DocumentError(DocumentErrorCode.empty_text, "The text is empty or only blanks.")
    try:
        text.encode()
    except UnicodeEncodeError:
        return DocumentError(DocumentErrorCode.invalid_text, "The text holds a lone surrogate.")
    return None


def _unredactable(options: Options, key: bytes | None) -> DocumentError | None:
    if options.redaction and options.redaction.mode == "hash" and key is None:
        return DocumentError(DocumentErrorCode.inference_failed, "The worker has no GLEANER_REDACT_KEY.")
    return None


def _window(
    place: Place, prompt: Prompt, text: Text, asked: Asked, options: Options, document: Document, owner: ShardRef
) -> Window:
    pieces = asked.fixed + prompt.cost + text.cost(place.first, place.last)
    return Window(
        owner=owner,
        document=document.index,
        words=text.words[place.first : place.last],
        prompts=prompt.texts,
        thresholds=options.thresholds([asked.names[i] for i in place.labels]),
        flat=options.flat,
        multi_label=options.multi_label,
        pieces=min(pieces, asked.spec.max_pieces),
        explain=options.explain,
        ids=[*prompt.ids, *text.ids[text.total[place.first] : text.total[place.last]]],
        counts=prompt.counts + text.pieces[place.first : place.last],
    )


def _spans(plan: Plan, found: Sequence[Sequence[Span]]) -> tuple[Sequence[Span], list[Sighting]]:
    """The windows' spans in the document's words and labels: those that count, and, to explain them, all."""
    if len(plan.places) == 1:  # asked for all labels, from the first word on: nothing moves
        [place], [spans] = plan.places, found
        return spans, [Sighting(span, place.first, place.last) for span in spans if plan.options.explain]
    seen, sightings = [], []
    end = max(place.last for place in plan.places)
    for place, spans in zip(plan.places, found, strict=True):
        for span in spans:
            left = span.start == 0 and place.first > 0
            right = place.first + span.end == place.last and place.last < end
            sight = Sight.at_edge if left or right else Sight.inside
            if place.reading is Reading.sentence:
                sight = Sight.alone
            others = tuple((place.labels[label], score) for label, score in span.others)
            moved = Span(
                place.first + span.start, place.first + span.end, place.labels[span.label], span.score, others
            )
            seen.append(Seen(moved, sight, left, right))
            sightings.append(Sighting(moved, place.first, place.last))
    return combine(seen, plan.options.flat, plan.options.multi_label), sightings


def _entities(plan: Plan, outcomes: Sequence[Sequence[Span]]) -> tuple[tuple[Entity, ...], str | None]:
    """The document's entities, and its text without them where that was asked for."""
    spans, sightings = _spans(plan, outcomes)
    text, unit, redaction = plan.document.text, plan.options.offset_unit, plan.options.redaction
    ends = [(plan.starts[span.start], plan.ends[span.end - 1]) for span in spans]
    whys = reasons(spans, sightings) if plan.options.explain else []
    windows = [(plan.starts[why.window[0]], plan.ends[why.window[1] - 1]) for why in whys]
    at = _positions(text, [*windows, *ends], unit)
    entities = [
        Entity(at[start], at[end], text[start:end], plan.names[span.label], span.score)
        for (start, end), span in zip(ends, spans, strict=True)
    ]
    if whys:
        entities = [
            entity._replace(explain=_explanation(plan, entity.score, why, (at[window[0]], at[window[1]])))
            for entity, why, window in zip(entities, whys, windows, strict=True)
        ]
    shown = None
    if redaction:
        found = [Found(*end, plan.names[span.label], span.score) for end, span in zip(ends, spans, strict=True)]
        redacted = redact(text, found, redaction, unit, plan.redact_key)
        shown = redacted.text
        at = _positions(shown, redacted.places, unit)
        entities = [
            entity._replace(text=shown[start:end], redacted=(at[start], at[end]))
            for entity, (start, end) in zip(entities, redacted.places, strict=True)
        ]
    return tuple(sorted(entities, key=_ORDER)), shown


def _explanation(plan: Plan, score: float, why: Reason, window: tuple[int, int]) -> Explanation:
    runners_up = tuple((plan.names[label], other) for label, other in why.runners_up)
    return Explanation(runners_up, window, confidence(score, plan.calibration))


def _positions(text: str, places: Iterable[tuple[int, int]], unit: OffsetUnit) -> Mapping[int, int] | range:
    """Code point positions -> positions in the client's unit."""
    if unit == "codepoint" or text.isascii():
        return range(len(text) + 1)
    at: dict[int, int] = {}
    before = position = 0
    for place in sorted({place for pair in places for place in pair}):
        part = text[before:place]
        position += len(part.encode()) if unit == "byte" else len(part.encode("utf-16-le")) // 2
        at[place], before = position, place
    return at
