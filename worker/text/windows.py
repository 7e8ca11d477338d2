"""Cuts a document into windows that fit the model. Pure.

A document that fits is one window, word for word the text that gliner's `predict_entities` would read. A longer
one is read twice: in overlapping windows as large as the model allows, so that nothing is lost at a cut, and
sentence by sentence, because small models overlook in a full window entities that they find in the sentence alone
(gleaner-small: 12 to 60 % of them). Labels that do not fit next to the text are asked for in several passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import overload

from jobs.schema import DEFAULT_THRESHOLD, Document, DocumentError, DocumentErrorCode, Options
from jobs.tasks import Task, Tasks
from worker.protocols import ModelSpec, ShardRef, Tokenizer, Window
from worker.text.bounds import Budget, Limits
from worker.text.prompts.base import Prompt, TaskPrompts
from worker.text.prompts.formats import PromptEncoder, encode_prompts
from worker.text.words import Text, WindowKind, WordRange

CANDIDATES_PER_WORD = 8
CANDIDATES_PER_WINDOW = 512
"""Candidate spans of a window that are considered: a number for each word, and a constant. An explained span takes
more memory: a quarter of them."""

_SENTENCES_SKIPPED = (
    "The text was read in large windows only: with its sentences it would exceed the limit of windows."
)


@dataclass(frozen=True, slots=True)
class JobContext:
    """Properties of a job that apply to all documents of a shard.

    Attributes:
        owner: the shard that the windows belong to.
        tasks: the job's, for documents that do not name their own.
        redact_key: the tenant's key for redaction to tokens; None if the worker has no secret.
        default_threshold: score from which an entity counts if the options name none.
    """

    owner: ShardRef
    tasks: Tasks
    options: Options = field(default_factory=Options)
    redact_key: bytes | None = field(default=None, repr=False)
    default_threshold: float = DEFAULT_THRESHOLD


@dataclass(frozen=True, slots=True)
class CutRules:
    """How this worker cuts documents.

    Attributes:
        sentence_pass: also read a long document's sentences one by one. Costs about as much again as the large
            windows do; large models can do without.
        limits: limits of a document's windows and entities.
        encode_prompts: encodes tasks; `prompts.formats.cache_prompts` if many documents ask for the same.
    """

    sentence_pass: bool = True
    limits: Limits = field(default_factory=Limits)
    encode_prompts: PromptEncoder = encode_prompts


@dataclass(frozen=True, slots=True)
class WindowPosition:
    """Words `first` up to, not including, `last` of the document, why they are a window, and its questions."""

    first: int
    last: int
    kind: WindowKind
    prompt: Prompt

    @property
    def labels(self) -> tuple[int, ...]:
        """Indexes of its labels."""
        return self.prompt.labels


@dataclass(frozen=True)
class WindowGrid:
    """The windows of a document: every range of its words with every prompt."""

    text: Text
    prompts: TaskPrompts
    passes: Sequence[Prompt]
    ranges: Sequence[WordRange] = ()

    @property
    def free_tokens(self) -> int:
        """Tokens of a row that are left for the text next to the largest prompt."""
        return self.prompts.free_tokens - max(prompt.cost for prompt in self.passes)

    def locate_window(self, index: int) -> WindowPosition:
        """Return the position of a window."""
        pass_index, range_index = divmod(index, len(self.ranges))
        return WindowPosition(*self.ranges[range_index], self.passes[pass_index])


class Windows(Sequence[Window]):
    """A document's windows, each made on access: together they hold its text and labels many times."""

    def __init__(self, document: Document, options: Options, owner: ShardRef, grid: WindowGrid) -> None:
        self._document = document
        self._options = options
        self._owner = owner
        self._grid = grid
        names = grid.prompts.names
        self._thresholds = [options.label_thresholds([names[i] for i in prompt.labels]) for prompt in grid.passes]
        self._relations = [
            grid.prompts.describe_relations(prompt, options.relation_threshold) for prompt in grid.passes
        ]
        self._classes = [grid.prompts.describe_classes(prompt) for prompt in grid.passes]

    def __iter__(self) -> Iterator[Window]:
        return map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        return len(self._grid.passes) * len(self._grid.ranges)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | Sequence[Window]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        grid, options = self._grid, self._options
        text, prompts = grid.text, grid.prompts
        pass_index, range_index = divmod(range(len(self))[index], len(grid.ranges))
        prompt, (first, last, _) = grid.passes[pass_index], grid.ranges[range_index]
        tokens = prompts.fixed_tokens + prompt.cost + text.count_tokens(first, last)
        candidates = CANDIDATES_PER_WORD * (last - first) + CANDIDATES_PER_WINDOW
        return Window(
            owner=self._owner,
            document=self._document.index,
            words=tuple(text.words[first:last]),
            prompts=prompt.texts,
            thresholds=self._thresholds[pass_index],
            flat=options.flat,
            multi_label=options.multi_label,
            row_tokens=min(tokens, prompts.spec.max_row_tokens),
            explain=options.explain,
            max_candidates=candidates // 4 if options.explain else candidates,
            token_ids=[*prompt.token_ids, *text.token_ids[text.token_offsets[first] : text.token_offsets[last]]],
            tokens_per_word=(*prompt.tokens_per_word, *text.tokens_per_word[first:last]),
            weight=_token_weight(len(prompt.labels), prompts.spec.labels_included),
            relations=self._relations[pass_index],
            classes=self._classes[pass_index],
        )


@dataclass(frozen=True)
class Plan:
    """How a document is read: run `windows`, then pass their outcomes, in order, to `worker.text.merging`.

    `redact_key` is the tenant's. Without a `grid` there are no windows, and `error` says why.
    """

    document: Document
    options: Options
    owner: ShardRef
    grid: WindowGrid | None = None
    error: DocumentError | None = None
    truncated: bool = False
    warnings: tuple[str, ...] = field(default=())
    redact_key: bytes | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)
    tasks: Tasks = field(default_factory=Tasks)

    @cached_property
    def windows(self) -> Sequence[Window]:
        """The windows, each made on access."""
        return () if self.grid is None else Windows(self.document, self.options, self.owner, self.grid)


@dataclass(frozen=True, slots=True)
class _Coverage:
    """The ranges of a text that are read, and the resulting warnings."""

    ranges: Sequence[WordRange]
    warnings: tuple[str, ...] = ()
    truncated: bool = False


def cut_document(
    document: Document,
    context: JobContext,
    tokenizer: Tokenizer,
    rules: CutRules | None = None,
    budget: Budget | None = None,
) -> Plan:
    """Plan how to read a document, whose tasks and options take precedence over the job's.

    Returns:
        A plan with at least one window, or with an `error` and none.
    """
    tasks = document.choose_tasks(context.tasks)
    options = context.options.with_overrides(document.options).with_default(tasks.labels, context.default_threshold)
    if options.merge_adjacent is None and tokenizer.spec.merge_adjacent:
        options = options.model_copy(update={"merge_adjacent": True})
    rules, budget = rules or CutRules(), budget or Budget()
    make_plan = partial(Plan, document, options, context.owner, tasks=tasks)
    error = (
        document.error
        or _find_text_error(document.text)
        or _find_key_error(options, context.redact_key)
        or _find_task_error(tasks, tokenizer.spec)
    )
    if error is not None:
        return make_plan(error=error)
    prompts = rules.encode_prompts(tasks, tokenizer)
    text = Text.encode(document.text, tokenizer, budget)
    passes = prompts.group_passes(text)
    if isinstance(passes, DocumentError):
        return make_plan(error=passes)
    grid = WindowGrid(text, prompts, passes)
    if not tasks.labels:
        rules = replace(rules, sentence_pass=False)  # which finds entities only
    coverage = _cover_text(grid, options.long_text, rules, budget)
    if isinstance(coverage, DocumentError):
        return make_plan(error=coverage)
    if coverage.truncated and options.redaction:
        detail = "The text cannot be read completely, and the unread part could not be redacted."
        return make_plan(error=DocumentError(DocumentErrorCode.INPUT_TOO_LONG, detail))
    return make_plan(
        replace(grid, ranges=coverage.ranges),
        truncated=coverage.truncated,
        warnings=(*prompts.warnings, *coverage.warnings, *_warn_of_passes(tasks, len(passes))),
        redact_key=context.redact_key,
        limits=rules.limits,
    )


def _cover_text(grid: WindowGrid, long_text: str, rules: CutRules, budget: Budget) -> _Coverage | DocumentError:
    """Choose the ranges of words that are read."""
    text, free_tokens = grid.text, grid.free_tokens
    words = len(text.words)
    if text.fits_row(0, words, free_tokens):
        return _Coverage([(0, words, WindowKind.LARGE)])
    if long_text == "reject":
        return _too_long(text, free_tokens)
    warnings: tuple[str, ...] = ()
    ranges: Sequence[WordRange] | None
    if long_text == "truncate":
        last = max(1, text.find_reach(0, words, free_tokens))
        ranges, truncated = [(0, last, WindowKind.LARGE)], last < words
        warnings = (f"Only the first {last} of {words} words were read.",)
    else:
        max_ranges, truncated = rules.limits.windows // len(grid.passes), False
        ranges = text.list_ranges(free_tokens, rules.sentence_pass, max_ranges, budget)
        if ranges is None and rules.sentence_pass:
            ranges = text.list_ranges(free_tokens, False, max_ranges, budget)
            warnings = (_SENTENCES_SKIPPED,)
        if ranges is None:
            return _too_many_windows(rules.limits, len(grid.passes))
    read = text.tokens_per_word[: max(last for _, last, _ in ranges)]
    oversized_words = sum(tokens > free_tokens for tokens in budget.iterate(read))
    if oversized_words:
        truncated = True
        warning = f"{oversized_words} word(s) are longer than the model's window; only their beginning was read."
        warnings = (*warnings, warning)
    return _Coverage(ranges, warnings, truncated)


def _token_weight(labels: int, included: int) -> float:
    return max(1.0, labels / included) if included else 1.0


def _too_long(text: Text, free_tokens: int) -> DocumentError:
    detail = (
        f"{len(text.words)} words ({text.token_offsets[-1]} tokens) do not fit the model's window of "
        f"{text.spec.max_words} words ({free_tokens} tokens in addition to the labels)."
    )
    return DocumentError(DocumentErrorCode.INPUT_TOO_LONG, detail)


def _too_many_windows(limits: Limits, passes: int) -> DocumentError:
    detail = f"The text needs more than {limits.windows} windows, the limit of a document. "
    detail += (
        f"Its labels take {passes} passes over it; ask for fewer or shorter ones."
        if passes > 1
        else "Split the text."
    )
    return DocumentError(DocumentErrorCode.INPUT_TOO_LONG, detail)


def _find_text_error(text: str) -> DocumentError | None:
    if not text.strip():
        return DocumentError(DocumentErrorCode.EMPTY_TEXT, "The text is empty or contains only whitespace.")
    try:
        text.encode()
    except UnicodeEncodeError:
        return DocumentError(DocumentErrorCode.INVALID_TEXT, "The text contains a lone surrogate.")
    return None


def _find_key_error(options: Options, key: bytes | None) -> DocumentError | None:
    if options.redaction and options.redaction.mode == "hash" and key is None:
        return DocumentError(DocumentErrorCode.INFERENCE_FAILED, "The worker has no GLEANER_REDACT_KEY.")
    return None


def _find_task_error(tasks: Tasks, spec: ModelSpec) -> DocumentError | None:
    missing = [task for task in Task if task in tasks.requested and task not in spec.tasks]
    if not missing:
        return None
    detail = f"The model cannot do {' and '.join(missing)}; it can do {', '.join(spec.tasks)}."
    return DocumentError(DocumentErrorCode.UNSUPPORTED_TASK, detail)


def _warn_of_passes(tasks: Tasks, passes: int) -> tuple[str, ...]:
    if passes == 1 or not tasks.relations:
        return ()
    return (f"The labels took {passes} passes; no relation connects entities of different passes.",)
