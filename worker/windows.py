"""A document becomes windows that fit the model, and the windows' spans become the document's result. Pure.

A document that fits is one window, word for word what gliner's own `predict_entities` would read. A longer one is
read twice: in overlapping windows as large as the model allows, so that nothing is lost at a cut, and sentence by
sentence, because small models overlook in a full window what they find in the sentence alone (gleaner-small: one
confident entity in ten). Labels that do not fit beside the text are asked for in several passes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

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
from worker.contract import Failed, ModelSpec, Outcome, ShardRef, Span, Tokenizer, Window
from worker.sentences import sentences
from worker.spans import Seen, Sight, combine

MIN_OVERLAP_WORDS = 48
MIN_TEXT_SHARE = 8
"""A label whose prompt leaves the text less than one part in so many of a row is refused."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window lies: words `first` up to `last` of the document, asking for these of its labels."""

    first: int
    last: int
    labels: tuple[int, ...]
    alone: bool


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
    sentence_pass: bool = True,
) -> Plan:
    """Plan how to read a document.

    Args:
        document: the document; its own labels and options replace the job's.
        labels: the job's labels.
        options: the job's options.
        tokenizer: the model's eyes.
        owner: the shard the windows belong to.
        sentence_pass: read a long document's sentences one by one, too. Costs about as much again as the
            windows do; large models can do without.

    Returns:
        A plan with at least one window, or with `refused` set and none.
    """
    options = options.merged(document.options)
    refused = document.error or _unreadable(document.text)
    if refused is not None:
        return Plan(document, options, refused=refused)
    asked = _Asked.of(labels if document.labels is None else document.labels, tokenizer)
    text = _Text.of(document.text, tokenizer)
    passes = asked.passes(text)
    if isinstance(passes, DocumentError):
        return Plan(document, options, refused=passes)
    room = asked.room(passes)
    whole = text.fits(0, len(text.words), room)
    if not whole and options.long_text == "reject":
        detail = f"{len(text.words)} words do not fit the model's window of {asked.spec.max_words}"
        return Plan(document, options, refused=DocumentError(DocumentErrorCode.input_too_long, f"{detail} words."))
    warnings = list(asked.warnings)
    ranges = [(0, len(text.words), False)]
    truncated = False
    if not whole and options.long_text == "truncate":
        ranges = [(0, max(1, text.reach(0, len(text.words), room)), False)]
        truncated = ranges[0][1] < len(text.words)
        warnings.append(f"Read the first {ranges[0][1]} of {len(text.words)} words.")
    elif not whole:
        ranges = text.ranges(room, sentence_pass)
    giants = sum(text.pieces[i] > room for first, last, alone in ranges if not alone for i in range(first, last))
    if giants:
        truncated = True
        warnings.append(f"{giants} word(s) are longer than the model's window; only their beginning was read.")
    places = tuple(Place(first, last, group, alone) for group in passes for first, last, alone in ranges)
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


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    offsets: tuple[tuple[int, int], ...]
    words: tuple[str, ...]
    pieces: tuple[int, ...]
    total: tuple[int, ...]  # pieces of all words before each word
    spec: ModelSpec

    @classmethod
    def of(cls, text: str, tokenizer: Tokenizer) -> _Text:
        offsets = tuple(tokenizer.split(text))
        words = tuple(text[start:end] for start, end in offsets)
        pieces = tuple(tokenizer.count(words))
        return cls(text, offsets, words, pieces, tuple(accumulate(pieces, initial=0)), tokenizer.spec)

    def cost(self, first: int, last: int) -> int:
        return self.total[last] - self.total[first]

    def fits(self, first: int, last: int, room: int) -> bool:
        return last - first <= self.spec.max_words and self.cost(first, last) <= room

    def reach(self, first: int, last: int, room: int) -> int:
        """The furthest end of a window that starts at `first`."""
        by_pieces = bisect_right(self.total, self.total[first] + room, lo=first) - 1
        return min(last, first + self.spec.max_words, by_pieces)

    def ranges(self, room: int, sentence_pass: bool) -> list[tuple[int, int, bool]]:
        """All windows of a long text: (first word, one past the last, is it one sentence alone)."""
        found = sentences(self.text, self.offsets)
        starts = [first for first, _ in found]
        large: list[tuple[int, int]] = []
        begin = 0
        giants = [i for i, pieces in enumerate(self.pieces) if pieces > room]
        for giant in giants:
            large.extend(self._overlapping(begin, giant, room, starts))
            large.append((giant, giant + 1))
            begin = giant + 1
        large.extend(self._overlapping(begin, len(self.words), room, starts))
        ranges = [(first, last, False) for first, last in large]
        if sentence_pass:
            known = set(large)
            ranges += [(a, b, True) for a, b in found if (a, b) not in known and self.fits(a, b, room)]
        return ranges

    def _overlapping(self, first: int, last: int, room: int, starts: list[int]) -> Iterator[tuple[int, int]]:
        """Cut words `first` to `last` at sentence starts where there is one in reach, else between words."""
        while first < last:
            reach = self.reach(first, last, room)
            if reach == last:
                yield first, last
                return
            length = reach - first
            overlap = min(max(MIN_OVERLAP_WORDS, 4 * self.spec.max_width), length // 2)
            end = _latest(starts, reach, first + max(1, overlap + length // 4))
            yield first, end
            first = max(first + 1, _latest(starts, end - overlap, first + length // 8))


def _latest(starts: list[int], at_most: int, at_least: int) -> int:
    """The latest sentence start in a range, or the range's end if there is none."""
    i = bisect_right(starts, at_most) - 1
    return starts[i] if i >= 0 and starts[i] >= at_least else at_most


@dataclass(frozen=True, slots=True)
class _Asked:
    """The labels as the model is asked for them: a description where there is one, as gliner does it."""

    names: tuple[str, ...]
    prompts: tuple[str, ...]
    costs: tuple[int, ...]
    fixed: int
    spec: ModelSpec
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, labels: Labels, tokenizer: Tokenizer) -> _Asked:
        spec = tokenizer.spec
        marks = (spec.label_marker, spec.text_marker)
        prompts, warnings = [], []
        for name, description in labels.items():
            prompt = description or name
            for mark in marks:  # such a label would be read as two
                if mark in prompt:
                    prompt = prompt.replace(mark, " ")
                    warnings.append("A label holds a marker of the model's own; it was asked for without it.")
            prompts.append(prompt)
        marker, text_marker, *costs = tokenizer.count([*marks, *prompts])
        return cls(
            names=tuple(labels),
            prompts=tuple(prompts),
            costs=tuple(marker + cost for cost in costs),
            fixed=spec.special_pieces + text_marker,
            spec=spec,
            warnings=tuple(dict.fromkeys(warnings)),
        )

    def room(self, passes: Sequence[tuple[int, ...]]) -> int:
        """Word pieces left for the text beside the largest prompt."""
        return self.spec.max_pieces - self.fixed - max(self.cost(group) for group in passes)

    def cost(self, group: Sequence[int]) -> int:
        return sum(self.costs[i] for i in group)

    def passes(self, text: _Text) -> list[tuple[int, ...]] | DocumentError:
        """Groups of labels to ask for together: all at once if they fit beside the text or in half a row."""
        everything = tuple(range(len(self.names)))
        distinct = len(set(self.prompts)) == len(self.prompts)
        free = self.spec.max_pieces - self.fixed
        if distinct and text.fits(0, len(text.words), free - self.cost(everything)):
            return [everything]
        groups: list[tuple[int, ...]] = []
        group: tuple[int, ...] = ()
        for i, cost in enumerate(self.costs):
            if free - cost < self.spec.max_pieces // MIN_TEXT_SHARE:
                return DocumentError(
                    DocumentErrorCode.input_too_long,
                    f"Label {i + 1} takes {cost} word pieces; the model reads {self.spec.max_pieces} at once.",
                )
            full = self.cost(group) + cost > free // 2
            if group and (full or self.prompts[i] in (self.prompts[j] for j in group)):
                groups.append(group)
                group = ()
            group = (*group, i)
        return [*groups, group]


def _window(
    place: Place, text: _Text, asked: _Asked, options: Options, document: Document, owner: ShardRef
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
            sight = Sight.alone if place.alone else Sight.at_edge if left or right else Sight.inside
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
