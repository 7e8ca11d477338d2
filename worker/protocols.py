"""What passes between the pure code and the model: windows in, spans out, and the engine between them.

``Document -> windows.cut -> Window -> microbatch -> Engine.collate | forward | decode -> Span -> windows.merge``.
Only the files around `worker.model.engine` know torch and gliner; everyone else knows this page.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, NamedTuple, Protocol, overload

from jobs.schema import DocumentErrorCode

ROW_STEP = 8


class ShardRef(NamedTuple):
    """Which shard of which job a window came from."""

    job_id: str
    shard: int


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a document with its label prompt: one row of a forward pass.

    Attributes:
        owner: the shard whose lease covers this window.
        document: the document's index in its job.
        words: the words, as the model's own splitter cut them.
        prompts: what the model is asked for, one text per label, in label order; no two alike.
        thresholds: score above which a span counts, one per prompt.
        flat: no two spans may overlap.
        multi_label: one span may have several labels.
        pieces: word pieces of prompt, words and special tokens together: the row's length in the model.
        explain: its spans also say how the labels that lost scored.
        most: candidate spans that are looked at, those of the highest scores.
        ids: the word pieces of prompt and words, without special ones and not limited by the model's length.
        counts: how many of them each word of the prompt, then each of the text, has.
        weight: tokens of a micro-batch's budget that each of its pieces takes.
    """

    owner: ShardRef
    document: int
    words: tuple[str, ...]
    prompts: tuple[str, ...]
    thresholds: tuple[float, ...]
    flat: bool
    multi_label: bool
    pieces: int
    explain: bool = False
    most: int = 1 << 16
    ids: Sequence[int] = field(default=(), compare=False, repr=False)
    counts: tuple[int, ...] = field(default=(), compare=False, repr=False)
    weight: float = field(default=1.0, compare=False)

    @property
    def cost(self) -> int:
        """Return the tokens of a micro-batch's budget that it takes as the longest row, padding included."""
        return row_length(ceil(self.pieces * self.weight))


def row_length(pieces: int) -> int:
    """Pieces of a row, padding included, whose longest window has so many: few lengths, so few shapes.

    Runtimes prepare kernels for every shape they meet, which takes OpenVINO longer than a short text itself.
    """
    return -(-pieces // ROW_STEP) * ROW_STEP


class Span(NamedTuple):
    """An entity in a window: words `start` up to, not including, `end`; `label` is an index into `prompts`.

    `others` are the labels that scored next best on these very words, with their scores, best first: at most three,
    and only where the window asked to explain.
    """

    start: int
    end: int
    label: int
    score: float
    others: tuple[tuple[int, float], ...] = ()


class Spans(Sequence[Span]):
    """The spans of one window in columns, a tenth of the memory; `left_out` candidates were not looked at."""

    __slots__ = ("_ends", "_labels", "_others", "_scores", "_starts", "left_out")

    def __init__(self, spans: Iterable[Span], left_out: int = 0) -> None:
        self._starts, self._ends, self._labels = array("i"), array("i"), array("i")
        self._scores = array("d")
        self._others: dict[int, tuple[tuple[int, float], ...]] = {}
        self.left_out = left_out
        for at, span in enumerate(spans):
            self._starts.append(span.start)
            self._ends.append(span.end)
            self._labels.append(span.label)
            self._scores.append(span.score)
            if span.others:
                self._others[at] = span.others

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, at: int) -> Span: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Span]: ...
    def __getitem__(self, at: int | slice) -> Span | Sequence[Span]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        others = self._others.get(at % len(self), ()) if self._others else ()
        return Span(self._starts[at], self._ends[at], self._labels[at], self._scores[at], others)

    @property
    def scores(self) -> Sequence[float]:
        """The score of each."""
        return self._scores


@dataclass(frozen=True, slots=True)
class Failed:
    """Why one window has no spans; `detail` never quotes its text."""

    code: DocumentErrorCode
    detail: str


Outcome = tuple[Span, ...] | Spans | Failed


Knots = tuple[tuple[float, float], ...]
"""A calibration: (score, share of the entities with this score that are right), both rising."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What windows must respect, read from the loaded model.

    Attributes:
        max_words: words a row may have (the splitter's: punctuation counts).
        max_pieces: word pieces a row may have, prompt and special tokens included.
        max_width: longest entity the model can find, in words.
        special_pieces: pieces the tokenizer adds to every row.
        label_marker: the word that stands before every label in a prompt.
        text_marker: the word between prompt and text.
        revision: which weights these are.
        calibration: what its scores are worth, where it ships that.
        default_threshold: the score from which an entity counts where a request names none, where it ships that.
        labels_included: labels of a row that its tokens stand for in a micro-batch's budget; a row that asks for
            more counts as proportionally more tokens. 0: labels take next to nothing.
        splitter: what cuts texts into words, the model's own or another that was set: other words, other answers.
        merge_adjacent: merge adjacent entities of a label where a request does not say whether to.
    """

    max_words: int
    max_pieces: int
    max_width: int
    special_pieces: int
    label_marker: str
    text_marker: str
    revision: str
    runtime: str = "torch"
    precision: str = "fp32"
    calibration: Knots = ()
    labels_included: int = 0
    splitter: str = "whitespace"
    default_threshold: float | None = None
    merge_adjacent: bool = False


class Words(NamedTuple):
    """A text's words, and where each of them begins and ends in it, in code points."""

    words: Sequence[str]
    starts: Sequence[int]
    ends: Sequence[int]


class Encoded(NamedTuple):
    """The ids of words' pieces, one word after the other, and how many each word has.

    Of a word that is longer than any row has pieces, only so many need be there.
    """

    ids: Sequence[int]
    counts: list[int]


class Tokenizer(Protocol):
    """How the model sees text. Safe to call from many threads at once."""

    @property
    def spec(self) -> ModelSpec:
        """The model's limits."""
        ...

    @property
    def reserved(self) -> Sequence[str]:
        """Return what the tokenizer reads as special tokens, not as text."""
        ...

    def split(self, text: str) -> Words:
        """The text's words, as the model sees them."""
        ...

    def encode(self, words: Sequence[str]) -> Encoded:
        """The words' pieces, special ones aside, not limited by the model's length."""
        ...


class Engine(Tokenizer, Protocol):
    """A loaded model. `streams` threads call `collate`, `forward` and `decode`, and another one `decode`.

    Where there is an express, one more thread calls all three with micro-batches that fit it.
    """

    @property
    def streams(self) -> int:
        """Forward passes that may run at once: several where that takes less time than one after the other."""
        ...

    @property
    def express_tokens(self) -> int:
        """Padded tokens of a micro-batch that may run beside those of all streams; 0: none may."""
        ...

    def collate(self, windows: Sequence[Window]) -> Any:
        """Windows as padded tensors."""
        ...

    def forward(self, batch: Any) -> Any:
        """Run the model.

        Raises:
            OutOfMemory: the batch did not fit; a smaller one may.
            EngineBroken: the device is lost; no further call can succeed.
        """
        ...

    def decode(self, batch: Any, raw: Any) -> Sequence[Sequence[Span]]:
        """The spans of each window, in the windows' order.

        Raises:
            EngineBroken: the device was lost with the scores still on their way.
        """
        ...

    def warm_up(self) -> int:
        """Run the model at full size once; returns the micro-batch budget in padded tokens."""
        ...

    def release_memory(self) -> None:
        """Give cached device memory back."""
        ...


class OutOfMemory(Exception):  # noqa: N818
    """The device had too little memory for this micro-batch."""


class EngineBroken(Exception):  # noqa: N818
    """The device is in a state that only a new process gets out of."""


class Dropped(Exception):  # noqa: N818
    """The job was cancelled before these windows were run."""
