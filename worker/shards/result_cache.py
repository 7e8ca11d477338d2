"""Finds earlier results of documents that are sent again, by keyed hashes of all that a result depends on.

The cache holds no results. A key leads to a result that the ledger keeps for the job that computed it, and is
deleted with it, when the job expires or by its DELETE. On any failure here the model computes the result.
"""

from __future__ import annotations

import hmac
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from time import monotonic

import orjson

from jobs import ledger
from jobs.codec import Codec, CodecError
from jobs.ledger import Claim, Ledger, StoredResult, StoredShard
from jobs.observability.logs import log_failure
from jobs.observability.metrics import WorkerMetrics
from jobs.results import open_shard, read_rows
from jobs.schema import Document, DocumentResult, DocumentStatus, Options
from jobs.tasks import Tasks, dump_questions
from worker.protocols import ModelSpec

log = logging.getLogger(__name__)

TIMEOUT_S = 0.5
"""Timeout of a lookup: the model would compute the result in about that time."""
QUIET_S = 10.0
"""Pause of lookups after Redis did not answer."""
_PURPOSE = "gleaner result cache 1"
_STORED_NAMES = {"max_row_tokens": "max_pieces", "special_tokens": "special_pieces"}
"""Names of fields in the keys of cached results: they stay, so that results of older versions are found."""


_NEWER_FIELDS = frozenset(("tasks", "max_labels", "prompt_format", "relation_marker"))
"""Fields that are in the keys only of models that older versions could not run, for the same reason."""


@dataclass(frozen=True, slots=True)
class CachedResults:
    """Cache keys and cached results of a shard, by the positions of its documents.

    Attributes:
        keys: cache key of each document; "" if its result must not be cached. Empty without a cache.
        results: cached results, with the index and id that the document has in this shard.
    """

    keys: tuple[str, ...] = ()
    results: Mapping[int, DocumentResult] = field(default_factory=dict)

    def select_missing(self, documents: Sequence[Document]) -> list[Document]:
        """Return the documents that the model has to run."""
        return [document for at, document in enumerate(documents) if at not in self.results]

    def merge_computed(self, computed: Sequence[DocumentResult]) -> list[DocumentResult]:
        """Return all results in order: cached ones, and `computed` ones of the missing documents."""
        rest = iter(computed)
        return [self.results.get(at) or next(rest) for at in range(len(self.results) + len(computed))]

    def list_new(self, results: Sequence[DocumentResult]) -> list[tuple[str, int]]:
        """Return (key, position) of the results that the model has computed and that may be cached."""
        return [
            (key, at)
            for at, (key, result) in enumerate(zip(self.keys, results, strict=False))
            if key and at not in self.results and result.status is DocumentStatus.SUCCEEDED
        ]


@dataclass(eq=False, repr=False)
class ResultCache:
    """Looks up earlier results.

    Args:
        store: the ledger, on a separate connection with a timeout of `TIMEOUT_S`.
        codec: decodes results.
        ttl_s: seconds for which a result may be reused.
        secret: keys the hashes, so that nobody can test texts against them; includes the secret of redaction.
        model, spec, sentence_pass: identify how documents are read; results of another reader do not match.
        metrics: counts hits and misses.
        clock: monotonic seconds.
    """

    store: Ledger
    codec: Codec
    ttl_s: float
    secret: bytes
    model: str
    spec: ModelSpec
    sentence_pass: bool
    metrics: WorkerMetrics
    clock: Callable[[], float] = monotonic

    def __post_init__(self) -> None:
        self.ttl_ms = int(self.ttl_s * 1000)
        self._quiet_until = 0.0
        reader = orjson.dumps(
            [_PURPOSE, version("gleaner-ner-service"), self.model, describe_spec(self.spec), self.sentence_pass]
        )
        self._key = hmac.digest(self.secret, reader, "sha256")

    def look_up(self, claim: Claim, documents: Sequence[Document], tasks: Tasks, options: Options) -> CachedResults:
        """Return the cache keys and cached results of a claimed shard.

        Nothing is looked up for a crash suspect: it is run document by document to find the one that crashes.
        """
        tenant_key = hmac.digest(self._key, claim.tenant.encode(), "sha256")
        keys = tuple(
            _cache_key(tenant_key, document, tasks, options, claim.default_threshold) for document in documents
        )
        wanted = {at: key for at, key in enumerate(keys) if key}
        if claim.isolated or not wanted:
            return CachedResults(keys)
        results = {
            at: replace(result, index=documents[at].index, id=documents[at].id, attempts=claim.attempts)
            for at, result in zip(wanted, self._fetch(claim.tenant, list(wanted.values())), strict=True)
            if result is not None
        }
        return CachedResults(keys, results)

    def _fetch(self, tenant: str, keys: Sequence[str]) -> Sequence[DocumentResult | None]:
        if self.clock() >= self._quiet_until:
            try:
                stored = self.store.run(ledger.find_cached_results(tenant, keys))
                results = list(self._decode_all(stored))
            except Exception as error:  # noqa: BLE001  # any failure is only a miss
                if self._quiet_until == 0.0:  # once per outage
                    log_failure(log, "cache.lookup_failed", error)
                self._quiet_until = self.clock() + QUIET_S
            else:
                self._quiet_until = 0.0
                hits = sum(result is not None for result in results)
                self.metrics.cached.labels("hit").inc(hits)
                self.metrics.cached.labels("miss").inc(len(results) - hits)
                return results
        self.metrics.cached.labels("unread").inc(len(keys))
        return [None] * len(keys)

    def _decode_all(self, stored: Sequence[StoredResult | None]) -> Iterator[DocumentResult | None]:
        """Yield the results; each shard, which is sent once, is decoded once, and only its wanted results."""
        decoded: dict[tuple[str, int], dict[int, DocumentResult]] = {}
        wanted: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
        for result in stored:
            if result is not None:
                wanted[result.job, result.shard].add(result.at)
        for result in stored:
            if result is None:
                yield None
                continue
            shard = result.job, result.shard
            if shard not in decoded:
                decoded[shard] = self._decode_shard(result, wanted[shard])
            yield decoded[shard].get(result.at)

    def _decode_shard(self, result: StoredResult, positions: Collection[int]) -> dict[int, DocumentResult]:
        shard = StoredShard(result.shard, "d", 0, result.blob)
        try:
            rows = read_rows(shard, open_shard(result.job, shard, self.codec), self.codec)
            return {at: row.result() for at, row in enumerate(rows) if at in positions}
        except CodecError:  # its encryption key was removed, for example
            return {}


def _cache_key(key: bytes, document: Document, tasks: Tasks, options: Options, default_threshold: float) -> str:
    """Return a hash of all that a document's result depends on, except the reader; not of its id and index."""
    if document.error is not None:
        return ""
    tasks = document.choose_tasks(tasks)
    try:
        content = _describe_questions(tasks, options.with_overrides(document.options), default_threshold)
        encoded = orjson.dumps([document.text, *content], option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):  # the document is going to fail, and the reason is reported elsewhere
        return ""
    return hmac.digest(key, encoded, "sha256").hex()


def _describe_questions(tasks: Tasks, options: Options, default_threshold: float) -> list[object]:
    """Return tasks and options; of other tasks than labels only those asked, as before there were others."""
    merged = options.with_default(tasks.labels, default_threshold).model_dump()
    relation_threshold, class_aggregation = merged.pop("relation_threshold"), merged.pop("class_aggregation")
    content: list[object] = [[*tasks.labels.items()], merged]
    if tasks.relations:
        content.append(["relations", [*dump_questions(tasks.relations).items()], relation_threshold])
    if tasks.classifications:
        questions = dump_questions(tasks.classifications)
        labels = [[*question.labels] for question in tasks.classifications.values()]  # their order counts
        content.append(["classifications", [*questions.items()], labels, class_aggregation])
    return content


def describe_spec(spec: ModelSpec) -> dict[str, object]:
    """Return a model's fields by the names that keys of cached results are made of; newer ones unless default."""
    return {
        _STORED_NAMES.get(item.name, item.name): getattr(spec, item.name)
        for item in fields(spec)
        if item.name not in _NEWER_FIELDS or getattr(spec, item.name) != item.default
    }
