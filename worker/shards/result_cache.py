"""What was asked before: documents -> questions, keyed hashes of all that an answer depends on -> earlier answers.

The cache holds no answers. A question leads to a result that the ledger keeps for the job that it was found for;
it goes with that, at the end of the job's time or by its DELETE. Whatever fails here, the model answers.
"""

from __future__ import annotations

import hmac
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from time import monotonic

import orjson

from jobs import ledger
from jobs.codec import Codec, CodecError
from jobs.ledger import Claim, Ledger, StoredAnswer, StoredShard
from jobs.observability.logs import log_failure
from jobs.observability.metrics import WorkerMetrics
from jobs.results import open_shard, read_rows
from jobs.schema import Document, DocumentResult, DocumentStatus, Labels, Options
from worker.protocols import ModelSpec

log = logging.getLogger(__name__)

TIMEOUT_S = 0.5
"""How long the store may take over a look-up: the model is an answer away."""
QUIET_S = 10.0
"""How long nothing is looked up after the store did not answer."""
_PURPOSE = "gleaner result cache 1"


@dataclass(frozen=True, slots=True)
class Known:
    """What a shard asks, and what of it is known, by the places of its documents.

    Attributes:
        questions: what each document asks; "" where no answer is to be kept. None at all where there is no cache.
        answers: what was answered before, as results of this shard.
    """

    questions: tuple[str, ...] = ()
    answers: Mapping[int, DocumentResult] = field(default_factory=dict)

    def unanswered(self, documents: Sequence[Document]) -> list[Document]:
        """The documents that are left for the model."""
        return [document for at, document in enumerate(documents) if at not in self.answers]

    def joined(self, fresh: Sequence[DocumentResult]) -> list[DocumentResult]:
        """All results, in order: earlier answers, and the model's of what was left for it."""
        rest = iter(fresh)
        return [self.answers.get(at) or next(rest) for at in range(len(self.answers) + len(fresh))]

    def learned(self, results: Sequence[DocumentResult]) -> list[tuple[str, int]]:
        """Questions that the model has answered now, with the places of their results."""
        return [
            (question, at)
            for at, (question, result) in enumerate(zip(self.questions, results, strict=False))
            if question and at not in self.answers and result.status is DocumentStatus.SUCCEEDED
        ]


class ResultCache:
    """Knows what was asked before.

    Args:
        store: the ledger, by a connection of the cache's own that gives up after `TIMEOUT_S`.
        codec: opens results.
        ttl_s: for how long an answer is given again.
        secret: keys the questions, so that nobody can try texts against them; it also says how values are redacted.
        model, spec, close_reading: who reads, and how: another reader's answers are others.
        metrics: where hits and misses are counted.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: Ledger,
        codec: Codec,
        ttl_s: float,
        *,
        secret: bytes,
        model: str,
        spec: ModelSpec,
        close_reading: bool,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.ttl_ms = int(ttl_s * 1000)
        self._store = store
        self._codec = codec
        self._looked_up = metrics.cached
        self._clock = clock
        self._quiet_until = 0.0
        reader = orjson.dumps([_PURPOSE, version("gleaner-ner-service"), model, spec, close_reading])
        self._key = hmac.digest(secret, reader, "sha256")

    def known(self, claim: Claim, documents: Sequence[Document], labels: Labels, options: Options) -> Known:
        """What a claimed shard asks, and what of it is known.

        A suspect shard looks nothing up: document by document, it is to be found out what kills.
        """
        key = hmac.digest(self._key, claim.tenant.encode(), "sha256")
        questions = tuple(
            _question(key, document, labels, options, claim.default_threshold) for document in documents
        )
        asked = {at: question for at, question in enumerate(questions) if question}
        if claim.alone or not asked:
            return Known(questions)
        found = {
            at: replace(answer, index=documents[at].index, id=documents[at].id, attempts=claim.attempts)
            for at, answer in zip(asked, self._look_up(claim.tenant, list(asked.values())), strict=True)
            if answer is not None
        }
        return Known(questions, found)

    def _look_up(self, tenant: str, questions: Sequence[str]) -> Sequence[DocumentResult | None]:
        if self._clock() >= self._quiet_until:
            try:
                stored = self._store.run(ledger.find_cached_results(tenant, questions))
                found = list(self._opened(stored))
            except Exception as error:  # noqa: BLE001  # whatever it is, it is only a miss
                if self._quiet_until == 0.0:  # once an outage
                    log_failure(log, "cache.unread", error)
                self._quiet_until = self._clock() + QUIET_S
            else:
                self._quiet_until = 0.0
                hits = sum(answer is not None for answer in found)
                self._looked_up.labels("hit").inc(hits)
                self._looked_up.labels("miss").inc(len(found) - hits)
                return found
        self._looked_up.labels("unread").inc(len(questions))
        return [None] * len(questions)

    def _opened(self, stored: Sequence[StoredAnswer | None]) -> Iterator[DocumentResult | None]:
        """The results; a shard, sent once, is opened once, and of its results only those are decoded."""
        opened: dict[tuple[str, int], dict[int, DocumentResult]] = {}
        wanted: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
        for answer in stored:
            if answer is not None:
                wanted[answer.job, answer.shard].add(answer.at)
        for answer in stored:
            if answer is None:
                yield None
                continue
            shard = answer.job, answer.shard
            if shard not in opened:
                opened[shard] = self._results(answer, wanted[shard])
            yield opened[shard].get(answer.at)

    def _results(self, answer: StoredAnswer, places: Collection[int]) -> dict[int, DocumentResult]:
        shard = StoredShard(answer.shard, "d", 0, answer.blob)
        try:
            rows = read_rows(shard, open_shard(answer.job, shard, self._codec), self._codec)
            return {at: row.result() for at, row in enumerate(rows) if at in places}
        except CodecError:  # its key is gone, say
            return {}


def _question(key: bytes, document: Document, labels: Labels, options: Options, default_threshold: float) -> str:
    """All that a document's answer depends on but for who reads it; its id and index are not."""
    if document.error is not None:
        return ""
    asked = labels if document.labels is None else document.labels
    try:
        how = options.with_overrides(document.options).with_default(asked, default_threshold).model_dump()
        whole = orjson.dumps([document.text, list(asked.items()), how], option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):  # the document is going to fail, and why is not to be said here
        return ""
    return hmac.digest(key, whole, "sha256").hex()
