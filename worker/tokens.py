"""How a model sees text: its splitter's words and its tokenizer's pieces, from many threads at once."""

from __future__ import annotations

import contextlib
import threading
from array import array
from collections.abc import Callable, Iterable, Sequence

from tokenizers import Tokenizer as BackendTokenizer

from worker.contract import Encoded, ModelSpec

AT_ONCE = 4_096
"""Words per tokenizer call, so that a long text needs no long tensor."""

Splitter = Callable[[str], Iterable[tuple[str, int, int]]]


class FastTokenizer:
    """`worker.contract.Tokenizer` on a fast tokenizer.

    Args:
        spec: the model's limits.
        splitter: gliner's, which yields word, start, end.
        threadsafe: whether the splitter may be called by several threads at once.
        backend_json: a tokenizer that neither cuts nor pads.
    """

    def __init__(self, spec: ModelSpec, splitter: Splitter, threadsafe: bool, backend_json: str) -> None:
        self._spec = spec
        self._splitter = splitter
        self._split_lock = contextlib.nullcontext() if threadsafe else threading.Lock()
        self._backend_json = backend_json
        self._local = threading.local()

    @property
    def spec(self) -> ModelSpec:
        """The model's limits."""
        return self._spec

    def split(self, text: str) -> list[tuple[int, int]]:
        """Where the model's splitter sees words: (start, end) in code points."""
        with self._split_lock:
            return [(start, end) for _, start, end in self._splitter(text)]

    def encode(self, words: Sequence[str]) -> Encoded:
        """The words' pieces, special tokens aside."""
        counts, ids = [0] * len(words), array("i")
        for first in range(0, len(words), AT_ONCE):
            part = list(words[first : first + AT_ONCE])
            encoding = self._backend.encode(part, is_pretokenized=True, add_special_tokens=False)
            ids.extend(encoding.ids)
            for word in encoding.word_ids:
                if word is not None:
                    counts[first + word] += 1
        return Encoded(ids, counts)

    @property
    def _backend(self) -> BackendTokenizer:
        """This thread's own tokenizer: fast tokenizers are not thread-safe."""
        if not hasattr(self._local, "tokenizer"):
            self._local.tokenizer = BackendTokenizer.from_str(self._backend_json)
        tokenizer: BackendTokenizer = self._local.tokenizer
        return tokenizer
