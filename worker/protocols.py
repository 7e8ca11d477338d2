"""Types exchanged between the pure code and the model: windows in, spans out, and the engine between them.

``Document -> cut_document -> Window -> MicroBatcher -> collate | forward | decode -> Span -> merge_windows``.
Only the files around `worker.model.engine` know torch and gliner; all others know this page.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Any, NamedTuple, Protocol, overload

from jobs.schema import DocumentErrorCode
from jobs.tasks import Task

ROW_STEP = 8


class ShardRef(NamedTuple):
    """Identifies a shard of a job."""

    job_id: str
    shard: int


@dataclass(frozen=True, slots=True)
class RelationPrompt:
    """A relation that a window asks for.

    Attributes:
        prompt: the text that asks the model for it.
        threshold: score above which a pair counts.
        heads: indexes into the window's `prompts` that the head may have; None is any.
        tails: the same of the tail.
    """

    prompt: str
    threshold: float
    heads: frozenset[int] | None = None
    tails: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class ClassPrompt:
    """A classification that a window asks for.

    Attributes:
        name: the classification's name, which the model reads.
        labels: the classes' names.
        descriptions: of each class, or None.
        multi_label: each class has its own score; else their scores sum to 1.
    """

    name: str
    labels: tuple[str, ...]
    descriptions: tuple[str | None, ...]
    multi_label: bool


@dataclass(frozen=True, slots=True)
class Window:
    """A range of a document's words with its label prompt: one row of a forward pass.

    Attributes:
        owner: the shard whose lease covers this window.
        document: the document's index in its job.
        words: the words, as the model's splitter cut them.
        prompts: the text that asks for each label, in label order, without duplicates.
        thresholds: score above which a span counts, one per prompt.
        flat: no two spans may overlap.
        multi_label: a span may have several labels.
        row_tokens: tokens of prompt, words and special tokens together: the row's length in the model.
        explain: spans also carry their runner-up labels.
        max_candidates: candidate spans that are considered, those of the highest scores.
        token_ids: tokens of prompt and words, without special ones, not limited by the model's length.
        tokens_per_word: number of tokens of each word of the prompt, then of each word of the text.
        weight: tokens of a micro-batch's budget that each token of the row takes.
        relations: relations to find between the window's spans.
        classes: classifications of the window's text.
    """

    owner: ShardRef
    document: int
    words: tuple[str, ...]
    prompts: tuple[str, ...]
    thresholds: tuple[float, ...]
    flat: bool
    multi_label: bool
    row_tokens: int
    explain: bool = False
    max_candidates: int = 1 << 16
    token_ids: Sequence[int] = field(default=(), compare=False, repr=False)
    tokens_per_word: tuple[int, ...] = field(default=(), compare=False, repr=False)
    weight: float = field(default=1.0, compare=False)
    relations: tuple[RelationPrompt, ...] = ()
    classes: tuple[ClassPrompt, ...] = ()

    @property
    def cost(self) -> int:
        """Tokens of a micro-batch's budget that the window takes as its longest row, padding included."""
        return row_length(ceil(self.row_tokens * self.weight))


def row_length(tokens: int) -> int:
    """Return the padded length of a row of `tokens`, a multiple of `ROW_STEP`: few lengths, so few shapes.

    Runtimes prepare kernels for every shape they meet, which takes OpenVINO longer than a short text itself.
    """
    return -(-tokens // ROW_STEP) * ROW_STEP


class Span(NamedTuple):
    """An entity in a window: words `start` up to, not including, `end`; `label` is an index into `prompts`.

    `runners_up` are the (label, score) that scored next best on the same words, best first: at most three, and only
    if the window is to be explained.
    """

    start: int
    end: int
    label: int
    score: float
    runners_up: tuple[tuple[int, float], ...] = ()


SpanKey = tuple[int, int, int]
"""First word, word after the last, and label of a span."""


class Pair(NamedTuple):
    """A relation between two spans of a window; `relation` is an index into its `relations`."""

    relation: int
    head: SpanKey
    tail: SpanKey
    score: float


class Spans(Sequence[Span]):
    """The spans of one window in columns, a tenth of the memory, and the answers to its other questions.

    Attributes:
        left_out: number of candidates that were not considered.
        pairs: the relations between the spans.
        classes: for each of the window's `classes`, the score of each class.
        pairs_left_out: number of pairs above their threshold that are not among `pairs`.
    """

    __slots__ = (
        "_ends", "_labels", "_runners_up", "_scores", "_starts", "classes", "left_out", "pairs", "pairs_left_out"
    )  # fmt: skip

    def __init__(
        self,
        spans: Iterable[Span],
        left_out: int = 0,
        pairs: Sequence[Pair] = (),
        classes: Sequence[Sequence[float]] = (),
        pairs_left_out: int = 0,
    ) -> None:
        self._starts, self._ends, self._labels = array("i"), array("i"), array("i")
        self._scores = array("d")
        self._runners_up: dict[int, tuple[tuple[int, float], ...]] = {}
        self.left_out = left_out
        self.pairs = pairs
        self.classes = classes
        self.pairs_left_out = pairs_left_out
        for index, span in enumerate(spans):
            self._starts.append(span.start)
            self._ends.append(span.end)
            self._labels.append(span.label)
            self._scores.append(span.score)
            if span.runners_up:
                self._runners_up[index] = span.runners_up

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Span: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Span]: ...
    def __getitem__(self, index: int | slice) -> Span | Sequence[Span]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        runners_up = self._runners_up.get(index % len(self), ()) if self._runners_up else ()
        return Span(self._starts[index], self._ends[index], self._labels[index], self._scores[index], runners_up)


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a window has no spans; `detail` never quotes its text."""

    code: DocumentErrorCode
    detail: str


Outcome = tuple[Span, ...] | Spans | Failed


CalibrationCurve = tuple[tuple[float, float], ...]
"""Points (score, share of the entities with this score that are right), both rising."""


class PromptFormat(StrEnum):
    """Forms of the prompt that precedes a row's text.

    Attributes:
        GLINER: each label after its marker, then the text marker.
        RELATIONS: that of `GLINER`, then each relation after its marker, then the text marker again.
        NONE: no prompt; the model compares words with labels' vectors (bi-encoders).
        GLINER2: the schemas of gliner2.
    """

    GLINER = "gliner"
    RELATIONS = "relations"
    NONE = "none"
    GLINER2 = "gliner2"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Limits and properties of the loaded model that windows depend on.

    Attributes:
        max_words: words of a row (the splitter's: punctuation counts).
        max_row_tokens: tokens of a row, prompt and special tokens included.
        max_width: words of the longest entity that the model can find.
        special_tokens: tokens that the tokenizer adds to every row.
        label_marker: word before every label in a prompt.
        text_marker: word between prompt and text.
        revision: identifies the weights.
        calibration: precision by score, if the model ships it.
        default_threshold: score from which an entity counts if a request names none, if the model ships it.
        labels_included: labels whose cost is covered by a row's tokens in a micro-batch's budget; a row with more
            counts as proportionally more tokens. 0: labels cost next to nothing.
        splitter: name of the word splitter, the model's or the one that was configured.
        merge_adjacent: merge adjacent entities of a label unless a request says otherwise.
        tasks: the tasks that the model can do.
        max_labels: most labels of a document; 0: the gateway's setting.
        prompt_format: the form of a row's prompt.
        relation_marker: word before every relation in a prompt; "" without relations.
        max_label_tokens: tokens of a label that the label encoder reads; 0: labels are part of the row.
    """

    max_words: int
    max_row_tokens: int
    max_width: int
    special_tokens: int
    label_marker: str
    text_marker: str
    revision: str
    runtime: str = "torch"
    precision: str = "fp32"
    calibration: CalibrationCurve = ()
    labels_included: int = 0
    splitter: str = "whitespace"
    default_threshold: float | None = None
    merge_adjacent: bool = False
    tasks: tuple[Task, ...] = (Task.ENTITIES,)
    max_labels: int = 0
    prompt_format: PromptFormat = PromptFormat.GLINER
    relation_marker: str = ""
    max_label_tokens: int = 0


class Words(NamedTuple):
    """A text's words, and the offsets at which each begins and ends, in code points."""

    words: Sequence[str]
    starts: Sequence[int]
    ends: Sequence[int]


class Encoded(NamedTuple):
    """Token ids of words, one word after the other, and the number of tokens of each word.

    A word with more tokens than any row may be truncated to that many.
    """

    ids: Sequence[int]
    counts: list[int]


class Tokenizer(Protocol):
    """Splits and encodes text as the model does. Safe to call from many threads at once."""

    @property
    def spec(self) -> ModelSpec:
        """Limits of the model."""

    @property
    def reserved(self) -> Sequence[str]:
        """Strings that the tokenizer reads as special tokens, not as text."""

    def split(self, text: str) -> Words:
        """Return the words of a text."""

    def encode(self, words: Sequence[str]) -> Encoded:
        """Return the tokens of words, special ones aside, not limited by the model's length."""

    def count_label_tokens(self, labels: Sequence[str]) -> Sequence[int]:
        """Return the number of tokens that each label has for the model, special ones aside, however many."""


class LabelCounts(NamedTuple):
    """Labels whose vectors were computed for a micro-batch, and those whose vectors were there."""

    computed: int = 0
    reused: int = 0


class Engine(Tokenizer, Protocol):
    """A loaded model.

    `lanes` threads call `prepare_labels`, `collate`, `forward` and `decode`, and another one calls `decode`. If
    `express_tokens` is not 0, one more thread calls all four with micro-batches of at most that size.
    """

    @property
    def lanes(self) -> int:
        """Number of forward passes that may run at once: more than one if that saves time."""

    @property
    def express_tokens(self) -> int:
        """Padded tokens of a micro-batch that may run in addition to those of all lanes; 0: none may."""

    def prepare_labels(self, windows: Sequence[Window], on_step: Callable[[], None]) -> LabelCounts:
        """Compute the vectors of labels that the model has not read before, if it reads them without the text.

        Thousands of labels take longer than a forward pass; `on_step` is called meanwhile.

        Raises:
            OutOfMemory, EngineBroken: as `forward`.
        """

    def collate(self, windows: Sequence[Window]) -> Any:
        """Return windows as padded tensors."""

    def forward(self, batch: Any) -> Any:
        """Run the model.

        Raises:
            OutOfMemory: the batch did not fit; a smaller one may.
            EngineBroken: the device is lost; no further call can succeed.
        """

    def decode(self, batch: Any, raw: Any) -> Sequence[Sequence[Span]]:
        """Return the spans of each window, in the windows' order.

        Raises:
            EngineBroken: the device was lost with the scores still on their way.
        """

    def warm_up(self) -> int:
        """Run the model at full size once; return the micro-batch budget in padded tokens."""

    def release_memory(self) -> None:
        """Return cached device memory to the device."""


class OutOfMemory(Exception):  # noqa: N818
    """The device had too little memory for this micro-batch."""


class EngineBroken(Exception):  # noqa: N818
    """The device is in a state that only a new process can leave."""


class Dropped(Exception):  # noqa: N818
    """The job was cancelled before these windows were run."""
