from __future__ import annotations

import base64
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from jobs import ledger
from jobs.codec import Codec
from jobs.ledger import Call, Claim, ClaimOutcome, Ledger, LedgerUnavailableError
from jobs.observability.metrics import WorkerMetrics
from jobs.schema import Document, DocumentError, DocumentErrorCode, DocumentResult, DocumentStatus, Labels, Options
from jobs.tasks import Classification, RelationType, Tasks
from tests.support.engine import ALL_TASKS, SPEC, FakeEngine, FaultWord
from tests.support.intake import InProcessWorker, running_worker
from tests.support.ledger import CODEC, forget_memory
from tests.support.processes.harness import wait_for
from worker.shards.result_cache import QUIET_S, ResultCache, describe_spec

SECRET = b"unknown to readers of Redis"
LONG = "Anna of Berlin met Otto in Rio. " * 60
KEYS = "{gleaner}:ans:*"


class Down(Ledger):
    """A ledger whose Redis does not answer."""

    def __init__(self) -> None:
        self.tries = 0

    def run(self, call: Call[Any]) -> Any:
        """Fail."""
        self.tries += 1
        raise LedgerUnavailableError(call.script)


def make_cache(store: Ledger, metrics: WorkerMetrics | None = None, **overrides: Any) -> ResultCache:
    """Return a cache."""
    defaults: dict[str, Any] = {
        "codec": CODEC,
        "ttl_s": 60,
        "secret": SECRET,
        "model": "gleaner-small",
        "spec": SPEC,
        "sentence_pass": True,
        "clock": lambda: 1.0,
    }
    metrics = metrics or WorkerMetrics(CollectorRegistry())
    return ResultCache(store, metrics=metrics, **defaults | overrides)


def count_lookups(metrics: WorkerMetrics) -> dict[str, float]:
    """Return the number of documents looked up, by outcome."""
    return {outcome: metrics.cached.labels(outcome)._value.get() for outcome in ("hit", "miss", "unread")}


# Keys

Case = tuple[str, Labels, dict[str, Any], str]
WORDS = st.text('ab"[],{}: \x00', max_size=4)
CASES: st.SearchStrategy[Case] = st.tuples(
    WORDS,
    st.dictionaries(WORDS, st.none() | WORDS, min_size=1, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "threshold": st.sampled_from([0.1, 0.5])
            | st.dictionaries(WORDS, st.sampled_from([0.1, 0.5]), max_size=2),
            "flat": st.booleans(),
            "multi_label": st.booleans(),
            "long_text": st.sampled_from(["window", "truncate", "reject"]),
            "offset_unit": st.sampled_from(["codepoint", "utf16", "byte"]),
            "redact": st.sampled_from([False, True, {"mode": "mask"}, {"mode": "hash"}, {"labels": ["a"]}]),
            "explain": st.booleans(),
        },
    ),
    st.sampled_from(["t1", "t2", "t"]),
)
SUSPECT = Claim(ClaimOutcome.RUN, isolated=True)
"""Suspects ask, and look nothing up."""


def cache_key(case: Case, cache: ResultCache | None = None, index: int = 0) -> str:
    """Return the cache key of a document of a job with these labels and options."""
    text, labels, options, tenant = case
    claim = dataclasses.replace(SUSPECT, tenant=tenant)
    documents = [Document(index, f"id {index}", text)]
    [key] = (
        (cache or make_cache(Down())).look_up(claim, documents, Tasks(labels), Options.model_validate(options)).keys
    )
    return key


@given(CASES, CASES, st.sampled_from(["text", "labels", "order", "options", "tenant"]))
def test_a_difference_makes_another_key(first: Case, second: Case, part: str) -> None:
    """Two documents share a key only if text, labels in their order, every option and the tenant are equal."""
    text, labels, options, tenant = (
        theirs if part == name else ours
        for name, ours, theirs in zip(("text", "labels", "options", "tenant"), first, second, strict=True)
    )
    if part == "order":
        labels = dict(reversed(first[1].items()))
    other: Case = (text, labels, options, tenant)

    def parts(case: Case) -> tuple[Any, ...]:
        # The model's threshold is 0.5; thresholds of other labels have no effect.
        options = Options.model_validate(case[2]).with_default(case[1], 0.5)
        return case[0], list(case[1].items()), options, case[3]

    assert (cache_key(first) == cache_key(other)) == (parts(first) == parts(other))


@given(CASES, st.integers(1, 1000))
def test_its_place_in_a_job_is_not_part_of_a_question(case: Case, index: int) -> None:
    """Index and id are the new document's; and its own labels and options count like a job's."""
    text, labels, options, tenant = case
    assert cache_key(case, index=index) == cache_key(case)
    documents = [Document(0, "0", text, labels=labels, options=options)]
    claim = dataclasses.replace(SUSPECT, tenant=tenant)
    assert make_cache(Down()).look_up(claim, documents, Tasks({"other": None}), Options()).keys == (
        cache_key(case),
    )


@pytest.mark.parametrize(
    "other",
    [
        {"secret": b""},
        {"model": "gleaner-large"},
        {"sentence_pass": False},
        {"spec": dataclasses.replace(SPEC, revision="newer")},
        {"spec": dataclasses.replace(SPEC, runtime="onnx")},
        {"spec": dataclasses.replace(SPEC, precision="bf16")},
        {"spec": dataclasses.replace(SPEC, calibration=((0.5, 0.5),))},
    ],
)
def test_another_reader_is_asked_another_question(other: dict[str, Any]) -> None:
    """Whatever of the worker its answers depend on; and who lacks the secret cannot try texts."""
    case: Case = ("Anna", {"person": None}, {}, "t1")
    assert cache_key(case, make_cache(Down(), **other)) != cache_key(case)


def test_what_cannot_be_answered_asks_nothing() -> None:
    """A document that fails before it is read, or that no JSON holds, has no question."""
    refused = DocumentError(DocumentErrorCode.DOCUMENT_TOO_LARGE, "")
    documents = [
        Document(0, "0", "", error=refused),
        Document(1, "1", "\ud800"),
        Document(2, "2", "Anna", options={"threshold": 7}),
    ]
    assert make_cache(Down()).look_up(SUSPECT, documents, Tasks({"person": None}), Options()).keys == ("", "", "")


# Results


@pytest.fixture
def worker(ledger_url: str, broker_url: str) -> Iterator[InProcessWorker]:
    """Return a worker with the fake engine, and a cache."""
    with running_worker(ledger_url, broker_url, FakeEngine(), cache=make_cache, redact_secret="x" * 32) as running:
        yield running


def run_job(
    worker: InProcessWorker, job: str, *texts: str | Document, **how: Any
) -> tuple[list[DocumentResult], Sequence[int]]:
    """Run a job; return its results, and the number of forward passes and hits."""
    engine, hits = worker.batcher._engine, count_lookups(worker.metrics)["hit"]
    assert isinstance(engine, FakeEngine)
    passes = len(engine.forwards)
    assert worker.runner.extract_shard(worker.submit(job, *texts, **how)) == "stored"
    return list(worker.results(job)), (
        len(engine.forwards) - passes,
        int(count_lookups(worker.metrics)["hit"] - hits),
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"explain": True},
        {"return_text": True, "offset_unit": "utf16"},
        {"redact": True},
        {"redact": {"mode": "hash"}, "explain": True},
        {"long_text": "truncate"},
    ],
)
def test_the_same_again_is_answered_without_the_model(worker: InProcessWorker, options: dict[str, Any]) -> None:
    """The very answer that the model gave, whatever was asked for; usage and counts too."""
    texts = ("Anna 😀 of Berlin", "nobody", *(() if "long_text" in options else (LONG,)))
    first, cost = run_job(worker, "job_1", *texts, options=options)
    again, later = run_job(worker, "job_2", *texts, options=options)
    assert cost[0] > 0
    assert later == (0, len(texts))
    assert [result.to_dict() for result in again] == [result.to_dict() for result in first]
    assert first[0].entities
    assert worker.get_job("job_2").usage == worker.get_job("job_1").usage
    assert worker.get_job("job_2").counts == worker.get_job("job_1").counts


def test_known_and_new_documents_share_a_shard(worker: InProcessWorker) -> None:
    """Results keep their order, with the new documents' ids; only new documents go to the model, and once."""
    run_job(worker, "job_1", "Anna", "Berlin", "Otto")
    mixed = [Document(0, "a", "Rio"), Document(1, "b", "Otto"), Document(2, "c", "Delta"), Document(3, "d", "Anna")]
    results, (passes, hits) = run_job(worker, "job_2", *mixed)
    assert [(result.index, result.id, result.entities[0].text) for result in results] == [
        (0, "a", "Rio"), (1, "b", "Otto"), (2, "c", "Delta"), (3, "d", "Anna"),
    ]  # fmt: skip
    assert (passes, hits) == (1, 2)
    assert run_job(worker, "job_3", "Rio", "Delta")[1] == (0, 2)


def test_what_failed_is_asked_again(worker: InProcessWorker) -> None:
    """An error is no answer."""
    texts = (f"{FaultWord.error}", "", "Anna")
    for job, hits in (("job_1", 0), ("job_2", 1)):
        results, (passes, hit_count) = run_job(worker, job, *texts)
        assert [result.error and result.error.code for result in results] == [
            DocumentErrorCode.INFERENCE_FAILED, DocumentErrorCode.EMPTY_TEXT, None,
        ]  # fmt: skip
        assert passes > 0
        assert hit_count == hits


@pytest.mark.parametrize("other", [{"tenant": "t2"}, {"labels": {"place": None}}, {"options": {"threshold": 0.9}}])
def test_another_tenant_or_question_is_answered_by_the_model(
    worker: InProcessWorker, other: dict[str, Any]
) -> None:
    """And from then on has its own answer."""
    run_job(worker, "job_1", "Anna")
    assert run_job(worker, "job_2", "Anna", **other)[1] == (1, 0)
    assert run_job(worker, "job_3", "Anna", **other)[1] == (0, 1)


def test_a_forged_place_leads_to_nobody_elses_answer(worker: InProcessWorker) -> None:
    """A forged pointer from a key to another tenant's result is a miss."""
    run_job(worker, "job_1", "Anna")
    [key] = worker.client.keys(KEYS)
    run_job(worker, "job_2", "Secret", tenant="t2")
    worker.client.set(key, "job_2:0:0")
    assert run_job(worker, "job_3", "Anna")[1] == (1, 0)


def test_deleting_a_job_deletes_what_it_was_answered(worker: InProcessWorker) -> None:
    """The cache keeps nothing of a deleted job; another job that was answered from it keeps its results."""
    run_job(worker, "job_1", "Anna")
    results, _ = run_job(worker, "job_2", "Anna")
    assert worker.store.run(ledger.purge_job("job_1")) == "purged"
    assert run_job(worker, "job_3", "Anna")[1] == (1, 0)
    assert list(worker.results("job_2")) == results
    assert run_job(worker, "job_4", "Anna")[1] == (0, 1)


def test_an_answer_is_given_for_its_time_and_no_longer(ledger_url: str, broker_url: str) -> None:
    """From when the model gave it, however often it was given since."""

    def brief(store: Ledger, metrics: WorkerMetrics) -> ResultCache:
        return make_cache(store, metrics, ttl_s=0.3)

    with running_worker(ledger_url, broker_url, FakeEngine(), cache=brief) as worker:
        run_job(worker, "job_1", "Anna")
        [key] = worker.client.keys(KEYS)
        assert 0 < worker.client.pttl(key) <= 300
        run_job(worker, "job_2", "Anna")
        assert worker.client.get(key) in (b"job_1:0:0", None)
        wait_for(lambda: not worker.client.exists(key), 5, "its time is over")
        assert run_job(worker, "job_3", "Anna")[1] == (1, 0)


def test_without_a_cache_nothing_is_looked_up_or_kept(ledger_url: str, broker_url: str) -> None:
    """Off is off."""
    with running_worker(ledger_url, broker_url, FakeEngine()) as worker:
        for job in ("job_1", "job_2"):
            assert run_job(worker, job, "Anna")[1] == (1, 0)
        assert worker.client.keys(KEYS) == []
        assert "find_cached_results" not in worker.store.ran


def test_a_shard_is_looked_up_in_one_call(worker: InProcessWorker) -> None:
    """However many documents, and places they lie in; keeping them costs none."""
    for number in range(5):
        run_job(worker, f"job_{number}", f"Anna {number}")
    worker.store.ran.clear()
    run_job(worker, "job_9", *(f"Anna {number}" for number in range(8)))
    assert worker.store.ran.count("find_cached_results") == 1
    assert set(worker.store.ran) <= {
        "create_job",
        "claim_shard",
        "find_cached_results",
        "set_crash_suspects",
        "complete_shard",
        "read_page",
    }


def test_a_suspect_is_read_anew(worker: InProcessWorker) -> None:
    """A crash suspect runs alone, document by document, and its results are cached afterwards."""
    run_job(worker, "job_1", "Anna")
    message = worker.crash_workers(worker.submit("job_2", "Anna", "Otto"), deaths=1)
    assert worker.runner.extract_shard(message) == "stored"
    assert count_lookups(worker.metrics)["hit"] == 0
    assert run_job(worker, "job_3", "Anna", "Otto")[1] == (0, 2)


def test_answers_of_a_shard_that_is_no_longer_ours_are_not_kept(worker: InProcessWorker) -> None:
    """No key leads to a result that is not stored."""
    message = worker.submit("job_1", "Anna")

    def lose() -> None:
        [lease] = worker.leases._leases
        worker.store.run(ledger.release_shard("job_1", 0, lease.nonce))

    worker.store.before["complete_shard"] = lose
    assert worker.runner.extract_shard(message) == "stale"
    assert worker.client.keys(KEYS) == []


def test_a_store_that_is_half_full_keeps_its_room_for_jobs(worker: InProcessWorker) -> None:
    """Above half of maxmemory nothing is kept for the cache; everything completes."""
    used = int(worker.client.info("memory")["used_memory"])
    limit = int(worker.client.config_get("maxmemory")["maxmemory"])
    try:
        worker.client.config_set("maxmemory", int(used * 1.7))
        forget_memory(worker.client)
        assert run_job(worker, "job_1", "Anna")[1] == (1, 0)
        assert worker.client.keys(KEYS) == []
        worker.client.config_set("maxmemory", used * 10)
        forget_memory(worker.client)
        run_job(worker, "job_2", "Anna")
        assert len(worker.client.keys(KEYS)) == 1
    finally:
        worker.client.config_set("maxmemory", limit)


def test_a_full_store_still_answers(worker: InProcessWorker) -> None:
    """Accepted jobs complete, with cached results and new ones."""
    run_job(worker, "job_1", "Anna")
    message = worker.submit("job_2", "Anna", "Otto")
    limit = int(worker.client.config_get("maxmemory")["maxmemory"])
    try:
        worker.client.config_set("maxmemory", 1_000_000)
        assert worker.runner.extract_shard(message) == "stored"
    finally:
        worker.client.config_set("maxmemory", limit)
    assert count_lookups(worker.metrics)["hit"] == 1
    assert [result.status for result in worker.results("job_2")] == [DocumentStatus.SUCCEEDED] * 2


def test_a_store_that_does_not_let_the_cache_write_loses_nothing(worker: InProcessWorker) -> None:
    """A user without the right to these keys completes its shards."""
    name = "narrow"
    worker.client.execute_command(
        "ACL", "SETUSER", name, "on", "nopass", "+@all", "resetkeys", "~{gleaner}:", "resetchannels", "&*",
        *(f"~{{gleaner}}:{kind}*" for kind in ("job", "sh", "in", "out", "part", "ids", "open", "pub", "q", "run")),
        *(f"~{{gleaner}}:{kind}*" for kind in ("work", "mod", "ten", "dead", "pur", "sys", "ep", "due", "dlv")),
        *(f"~{{gleaner}}:{kind}*" for kind in ("flight", "wait", "hungry", "asked", "kept", "texts", "event")),
    )  # fmt: skip
    message = worker.submit("job_1", "Anna")
    try:
        worker.client.execute_command("AUTH", name, "")
        assert worker.runner.extract_shard(message) == "stored"
    finally:
        worker.client.execute_command("AUTH", "default", "")
        worker.client.execute_command("ACL", "DELUSER", name)
    assert worker.get_job("job_1").counts.succeeded == 1
    assert count_lookups(worker.metrics) == {"hit": 0, "miss": 0, "unread": 1}


def test_a_cache_that_does_not_answer_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """The cache tries once, then not for some seconds; it logs one event, without the text."""
    now, store, metrics = [100.0], Down(), WorkerMetrics(CollectorRegistry())
    cache = make_cache(store, metrics, clock=lambda: now[0])

    def look_up_twice() -> None:
        documents = [Document(0, "0", "Anna"), Document(1, "1", "Otto")]
        cached = cache.look_up(Claim(ClaimOutcome.RUN, tenant="t1"), documents, Tasks({"person": None}), Options())
        assert cached.select_missing(documents) == documents

    for _ in range(3):
        look_up_twice()
    assert store.tries == 1
    now[0] += QUIET_S
    look_up_twice()
    assert store.tries == 2
    assert count_lookups(metrics) == {"hit": 0, "miss": 0, "unread": 8}
    assert [record.message for record in caplog.records] == ["cache.lookup_failed"]
    assert "Anna" not in caplog.text


def test_an_answer_that_cannot_be_read_is_a_miss(worker: InProcessWorker) -> None:
    """Damaged, or sealed with a key that is gone; so is one that lies in a shard of fewer results."""
    run_job(worker, "job_1", "Anna")
    [key] = worker.client.keys(KEYS)
    worker.client.set(key, "job_1:0:5")
    assert run_job(worker, "job_2", "Anna")[1] == (1, 0)
    for job in ("job_1", "job_2"):
        worker.client.hset(f"{{gleaner}}:out:{job}", "0", b"\x00damaged")
    assert run_job(worker, "job_3", "Anna")[1] == (1, 0)
    assert count_lookups(worker.metrics)["unread"] == 0


def test_what_is_read_at_once_is_bounded(worker: InProcessWorker) -> None:
    """Answers that lie scattered over many large shards are found up to a size; the model gives the others."""
    jobs = [f"job_{number}" for number in range(4)]
    for job in jobs:
        run_job(worker, job, job, "Anna " * 50)
    keys = [key.decode().rpartition(":")[2] for key in worker.client.keys(KEYS)]
    size = max(len(worker.client.hget(f"{{gleaner}}:out:{job}", "0") or b"") for job in jobs)
    bounded = worker.store.run(ledger.find_cached_results("t1", keys, max_bytes=size + 1))
    assert len({answer.job for answer in bounded if answer}) == 2
    unbounded = worker.store.run(ledger.find_cached_results("t1", keys))
    assert len({answer.job for answer in unbounded if answer}) == 4


def test_the_store_learns_no_text_from_the_cache(ledger_url: str, broker_url: str) -> None:
    """Sealed, an answer has no readable copy: the key is a keyed hash, and its value a job's name."""
    codec = Codec([base64.b64encode(os.urandom(32)).decode()])

    def sealed(store: Ledger, metrics: WorkerMetrics) -> ResultCache:
        return make_cache(store, metrics, codec=codec)

    with running_worker(ledger_url, broker_url, FakeEngine(), codec=codec, cache=sealed) as worker:
        run_job(worker, "job_1", "Zyxwmarker", labels={"Zyxwmarker": None})
        results, cost = run_job(worker, "job_2", "Zyxwmarker", labels={"Zyxwmarker": None})
        assert cost == (0, 1)
        assert results[0].entities[0].text == "Zyxwmarker"
        [key] = worker.client.keys(KEYS)
        assert worker.client.get(key) == b"job_1:0:0"
        stored = b"".join(name + (worker.client.dump(name) or b"") for name in worker.client.keys("*"))
        assert b"Zyxwmarker" not in stored


def test_keys_of_cached_results_outlive_renamed_fields() -> None:
    """The model is described in the names of the first version, so that an update keeps the cached results."""
    assert list(describe_spec(SPEC))[:4] == ["max_words", "max_pieces", "max_width", "special_pieces"]
    assert "tasks" not in describe_spec(SPEC)
    assert "tasks" in describe_spec(ALL_TASKS)


TONE = Classification(labels={"good": None, "bad": None})
KNOWS = RelationType(head=("person",))
PERSON: Labels = {"person": None}
QUESTIONS: list[tuple[Tasks, dict[str, Any]]] = [
    (Tasks(PERSON), {}),
    (Tasks(PERSON, {"knows": KNOWS}), {}),
    (Tasks(PERSON, {"knows": KNOWS}), {"relation_threshold": 0.4}),
    (Tasks(PERSON, {"knows": RelationType()}), {}),
    (Tasks(PERSON, {"knows": KNOWS, "met": KNOWS}), {}),
    (Tasks(PERSON, {"met": KNOWS, "knows": KNOWS}), {}),
    (Tasks(PERSON, {}, {"tone": TONE}), {}),
    (Tasks(PERSON, {}, {"tone": TONE}), {"class_aggregation": "max"}),
    (Tasks(PERSON, {}, {"tone": Classification(labels={"bad": None, "good": None})}), {}),
]


def test_every_question_is_part_of_the_key() -> None:
    """The same of a document as of its job; options of tasks that are not asked are no part."""

    def make_key(tasks: Tasks, document: Document, options: dict[str, Any]) -> str:
        return make_cache(Down()).look_up(SUSPECT, [document], tasks, Options.model_validate(options)).keys[0]

    plain = Document(0, "0", "Anna")
    keys = [make_key(tasks, plain, options) for tasks, options in QUESTIONS]
    assert len(set(keys)) == len(QUESTIONS)
    for key, (tasks, options) in zip(keys, QUESTIONS, strict=True):
        naming = dataclasses.replace(plain, relations=tasks.relations, classifications=tasks.classifications)
        assert make_key(Tasks(PERSON), naming, options) == key
        assert make_key(Tasks(PERSON), plain, options) == keys[0]
