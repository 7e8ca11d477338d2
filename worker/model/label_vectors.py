"""Labels of a bi-encoder -> their vectors, each computed once and kept while there is memory for it.

The label encoder reads a label without any text, so its vector is the same for every document, job and tenant.
Vectors are of one model: a process loads one revision, and the cache ends with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from worker.byte_cache import ByteCache
from worker.model.tokenizer import LabelTokenizer
from worker.protocols import LabelCounts

CACHE_BYTES = 128 << 20
"""Vectors of some 40,000 labels with 768 numbers each."""
STEP_TOKENS = 2048
"""Padded tokens of one pass of the label encoder: on two cores some tenths of a second with a base-sized one."""
STEP_LABELS = 256


Vector = NDArray[np.float32]
EncodeLabels = Callable[[NDArray[np.int64], NDArray[np.int64]], Vector]
"""Padded ids of rows, and their mask -> the rows' vectors."""


class LabelVectors:
    """Vectors of labels. Safe to call from many threads; one of them computes at a time, the others find.

    Args:
        tokenizer: encodes labels as tokens.
        encode: the label encoder.
        cache_bytes: most bytes of the vectors that are kept.
    """

    def __init__(self, tokenizer: LabelTokenizer, encode: EncodeLabels, cache_bytes: int = CACHE_BYTES) -> None:
        self._tokenizer = tokenizer
        self._encode = encode
        self._cache: ByteCache[Vector] = ByteCache(cache_bytes)
        self._encoding = Lock()

    def prepare(self, labels: Iterable[str], on_step: Callable[[], None]) -> LabelCounts:
        """Compute the missing vectors, in passes of bounded size.

        Args:
            labels: the labels, perhaps repeated.
            on_step: called after every pass, of which two thousand labels take a dozen.

        Returns:
            The numbers of labels whose vector was computed, and was there.
        """
        distinct = dict.fromkeys(labels)
        present = self._cache.find(distinct)
        if len(present) == len(distinct):
            return LabelCounts(0, len(present))
        computed = 0
        with self._encoding:
            present = self._cache.find(distinct)  # another thread may have computed them meanwhile
            missing = [label for label in distinct if label not in present]
            while missing:
                vectors = self._compute(missing)
                computed += len(vectors)
                missing = [label for label in missing if label not in vectors]
                on_step()
        return LabelCounts(computed, len(present))

    def stack(self, labels: Sequence[str]) -> Vector:
        """Return the vectors of labels, computed where they are missing, as rows of an array."""
        vectors = self._cache.find(labels)
        while missing := [label for label in dict.fromkeys(labels) if label not in vectors]:
            with self._encoding:
                vectors |= self._compute(missing)
        return np.stack([vectors[label] for label in labels])

    def _compute(self, labels: Sequence[str]) -> dict[str, Vector]:
        """Compute and keep the vectors of as many labels as one pass takes."""
        candidates = labels[:STEP_LABELS]
        rows = dict(zip(candidates, self._tokenizer.encode(candidates), strict=True))
        ranked = sorted(candidates, key=lambda label: len(rows[label]))
        count = max((n for n, label in enumerate(ranked, 1) if n * len(rows[label]) <= STEP_TOKENS), default=1)
        chosen = ranked[:count]
        encoded = self._encode(*self._tokenizer.pad([rows[label] for label in chosen]))
        vectors = {label: vector.copy() for label, vector in zip(chosen, encoded, strict=True)}
        for label, vector in vectors.items():
            self._cache.add(label, vector, vector.nbytes + sys.getsizeof(label))
        return vectors
