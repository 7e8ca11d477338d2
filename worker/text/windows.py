"""A document becomes windows that fit the model, and the windows' spans become the document's result. Pure.

A document that fits is one window, word for word what gliner's own `predict_entities` would read. A longer one is
read twice: in overlapping windows as large as the model allows, so that nothing is lost at a cut, and closely,
sentence by sentence, because small models overlook in a full window what they find in the sentence alone
(gleaner-small: 12 to 60 % of it). Labels that do not fit beside the text are asked for in several passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

from jobs.schema import DEFAULT_THRESHOLD, Document, DocumentError, DocumentErrorCode, Labels, Options
from worker.protocols import CalibrationCurve, ShardRef, Tokenizer, Window
from worker.shards.bounds import Budget, Limits
from worker.text.prompts import Ask, Asked, Prompt
from worker.text.words import Reading, Text

SPANS_A_WORD = 8
SPANS_A_WINDOW = 512
"""Candidate spans of a window that are looked at: so many for each word, and so many more. An explained span takes
more memory: a quarter of them."""

_NOT_CLOSELY = "The text was read in large windows only: its sentences are more windows than a document may have."

Range = tuple[int, int, Reading]
"""First word, one past the last, and why they are read."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window lies, and why: words `first` up to `last` of the document, asking for these of its labels."""

    first: int
    last: int
    reading: Reading
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Read:
    """How a document that can be read is read: every range of its words with every prompt."""

    text: Text
    asked: Asked
    passes: Sequence[Prompt]
    ranges: Sequence[Range]


class Windows(Sequence[Window]):
    """A document's windows, each made when it is asked for: together they hold its text and labels many times."""

    def __init__(self, document: Document, options: Options, owner: ShardRef, read: Read) -> None:
        self._document = document
        self._options = options
        self._owner = owner
        self._read = read
        names = read.asked.names
        self._thresholds = [options.label_thresholds([names[i] for i in prompt.labels]) for prompt in read.passes]

    def __iter__(self) -> Iterator[Window]:
        return map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        return len(self._read.passes) * len(self._read.ranges)

    @overload
    def __getitem__(self, at: int) -> Window: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Window]: ...
    def __getitem__(self, at: int | slice) -> Window | Sequence[Window]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        read, options = self._read, self._options
        text, asked = read.text, read.asked
        which, place = divmod(range(len(self))[at], len(read.ranges))
        prompt, (first, last, _) = read.passes[which], read.ranges[place]
        tokens = asked.fixed + prompt.cost + text.cost(first, last)
        candidates = SPANS_A_WORD * (last - first) + SPANS_A_WINDOW
        return Window(
            owner=self._owner,
            document=self._document.index,
            words=tuple(text.words[first:last]),
            prompts=prompt.texts,
            thresholds=self._thresholds[which],
            flat=options.flat,
            multi_label=options.multi_label,
            row_tokens=min(tokens, asked.spec.max_row_tokens),
            explain=options.explain,
            max_candidates=candidates // 4 if options.explain else candidates,
            token_ids=[*prompt.ids, *text.ids[text.total[first] : text.total[last]]],
            tokens_per_word=(*prompt.counts, *text.pieces[first:last]),
            weight=_weight(len(prompt.labels), asked.spec.labels_included),
        )


@dataclass(frozen=True)
class Plan:
    """How one document will be read: run `windows`, then hand their outcomes, in order, to `worker.text.merging`.

    `redact_key` is the tenant's. Without `read` there is no window, and `refused` says why.
    """

    document: Document
    options: Options
    owner: ShardRef
    read: Read | None = None
    refused: DocumentError | None = None
    truncated: bool = False
    warnings: tuple[str, ...] = field(default=())
    redact_key: bytes | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)

    @cached_property
    def windows(self) -> Sequence[Window]:
        """The windows; each is made when it is looked at."""
        return () if self.read is None else Windows(self.document, self.options, self.owner, self.read)

    def place(self, at: int) -> Place:
        """Return where window `at` lies."""
        if self.read is None:
            raise IndexError(at)
        which, place = divmod(at, len(self.read.ranges))
        return Place(*self.read.ranges[place], self.read.passes[which].labels)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where each window lies."""
        return tuple(map(self.place, range(len(self.windows))))

    @property
    def last_word(self) -> int:
        """One past the last word that is read."""
        return max((last for _, last, _ in self.read.ranges), default=0) if self.read else 0

    @property
    def names(self) -> tuple[str, ...]:
        """The labels."""
        return self.read.asked.names if self.read else ()

    @property
    def starts(self) -> Sequence[int]:
        """Where each word begins."""
        return self.read.text.starts if self.read else ()

    @property
    def ends(self) -> Sequence[int]:
        """Where each word ends."""
        return self.read.text.ends if self.read else ()

    @property
    def calibration(self) -> CalibrationCurve:
        """What the model's scores are worth."""
        return self.read.asked.spec.calibration if self.read else ()


def cut_document(
    document: Document,
    labels: Labels,
    options: Options,
    tokenizer: Tokenizer,
    owner: ShardRef,
    close_reading: bool = True,
    redact_key: bytes | None = None,
    ask: Ask = Asked.of,
    limits: Limits | None = None,
    budget: Budget | None = None,
    default_threshold: float = DEFAULT_THRESHOLD,
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
        limits: how many windows and entities it may have.
        budget: checked on the way.
        default_threshold: the score from which an entity counts where the options name none.

    Returns:
        A plan with at least one window, or with `refused` set and none.

    Raises:
        TooCostlyError, Dropped: by the budget.
    """
    wanted = labels if document.labels is None else document.labels
    options = options.with_overrides(document.options).with_default(wanted, default_threshold)
    if options.merge_adjacent is None and tokenizer.spec.merge_adjacent:
        options = options.model_copy(update={"merge_adjacent": True})
    limits, budget = limits or Limits(), budget or Budget()

    def refuse(error: DocumentError) -> Plan:
        return Plan(document, options, owner, refused=error)

    refused = document.error or _unreadable(document.text) or _unredactable(options, redact_key)
    if refused is not None:
        return refuse(refused)
    asked = ask(wanted, tokenizer)
    text = Text.of(document.text, tokenizer, budget)
    passes = asked.passes(text)
    if isinstance(passes, DocumentError):
        return refuse(passes)
    room = asked.room(passes)
    whole = text.fits(0, len(text.words), room)
    if not whole and options.long_text == "reject":
        return refuse(_too_long(text, room))
    warnings = list(asked.warnings)
    ranges: Sequence[Range] = [(0, len(text.words), Reading.large)]
    truncated = False
    if not whole and options.long_text == "truncate":
        ranges = [(0, max(1, text.reach(0, len(text.words), room)), Reading.large)]
        truncated = ranges[0][1] < len(text.words)
        warnings.append(f"Read the first {ranges[0][1]} of {len(text.words)} words.")
    elif not whole:
        most = limits.windows // len(passes)
        several = text.ranges(room, close_reading, most, budget)
        if several is None and close_reading:
            several = text.ranges(room, False, most, budget)
            warnings.append(_NOT_CLOSELY)
        if several is None:
            return refuse(_too_many(limits, len(passes)))
        ranges = several
    read = text.pieces[: max(last for _, last, _ in ranges)]
    giants = 0 if whole else sum(pieces > room for pieces in budget.over(read))
    if giants:
        truncated = True
        warnings.append(f"{giants} word(s) are longer than the model's window; only their beginning was read.")
    if truncated and options.redaction:
        detail = "The text cannot be read whole, and what is not read cannot be redacted."
        return refuse(DocumentError(DocumentErrorCode.INPUT_TOO_LONG, detail))
    return Plan(
        document,
        options,
        owner,
        Read(text, asked, passes, ranges),
        truncated=truncated,
        warnings=tuple(warnings),
        redact_key=redact_key,
        limits=limits,
    )


def _weight(labels: int, included: int) -> float:
    return max(1.0, labels / included) if included else 1.0


def _too_long(text: Text, room: int) -> DocumentError:
    detail = (
        f"{len(text.words)} words ({text.total[-1]} word pieces) do not fit the model's window of "
        f"{text.spec.max_words} words ({room} word pieces beside the labels)."
    )
    return DocumentError(DocumentErrorCode.INPUT_TOO_LONG, detail)


def _too_many(limits: Limits, passes: int) -> DocumentError:
    detail = f"The text needs more than {limits.windows} windows, the most that a document may have. "
    detail += (
        f"Its labels take {passes} passes over it; ask for fewer or shorter ones." if passes > 1 else "Split it."
    )
    return DocumentError(DocumentErrorCode.INPUT_TOO_LONG, detail)


def _unreadable(text: str) -> DocumentError | None:
    if not text.strip():
        return DocumentError(DocumentErrorCode.EMPTY_TEXT, "The text is empty or only blanks.")
    try:
        text.encode()
    except UnicodeEncodeError:
        return DocumentError(DocumentErrorCode.INVALID_TEXT, "The text holds a lone surrogate.")
    return None


def _unredactable(options: Options, key: bytes | None) -> DocumentError | None:
    if options.redaction and options.redaction.mode == "hash" and key is None:
        return DocumentError(DocumentErrorCode.INFERENCE_FAILED, "The worker has no GLEANER_REDACT_KEY.")
    return None
