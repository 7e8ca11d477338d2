from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from threading import Event, current_thread
from time import monotonic

import pytest

from jobs.schema import Document, DocumentErrorCode
from jobs.tasks import Tasks
from tests.support.engine import FakeEngine, FaultWord, small_engine
from worker.batching.batcher import MicroBatcher
from worker.batching.observer import Observer
from worker.batching.waiting_list import LOOK_AHEAD
from worker.protocols import Dropped, EngineBroken, Failed, ShardRef, Span, Window, row_length
from worker.text.windows import JobContext, cut_document

WAIT_S = 10.0


def make_window(text: str, job: str = "job", shard: int = 0, document: int = 0) -> Window:
    """Return a window as `cut_document` makes it."""
    words = tuple(text.split())
    tokens = 5 + sum(FakeEngine().count(words))
    return Window(ShardRef(job, shard), document, words, ("name",), (0.5,), True, False, tokens)


def span_starts(outcome: object) -> list[int]:
    """Return the first words of an outcome's spans."""
    assert isinstance(outcome, tuple)
    return [span.start for span in outcome]


class Numbers(Observer):
    """Collects the micro-batcher's reports."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int, int]] = []
        self.stages: list[str] = []
        self.memory: list[str] = []

    def record_batch(self, windows: int, jobs: int, real: int, padded: int) -> None:
        """Note a micro-batch."""
        self.batches.append((windows, jobs, real, padded))

    def record_stage(self, stage: str, seconds: float) -> None:
        """Note a stage."""
        assert seconds >= 0
        self.stages.append(stage)

    def record_out_of_memory(self, action: str) -> None:
        """Note a full device."""
        self.memory.append(action)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """Return an engine that no test leaves hanging."""
    engine = FakeEngine()
    yield engine
    engine.hold.set()


def run_together(engine: FakeEngine, texts: list[str], **options: object) -> tuple[list[object], Numbers]:
    """Run each text as a job; all wait before the model starts, so that they meet in one micro-batch."""
    observed = Numbers()
    batcher = MicroBatcher(engine, 2048, observer=observed, **options)  # type: ignore[arg-type]
    futures = [batcher.submit(f"job{i}", [make_window(text, f"job{i}")]) for i, text in enumerate(texts)]
    with batcher:
        return [future.result(WAIT_S)[0] for future in futures], observed


def test_each_shard_gets_its_own_windows_back_in_order(engine: FakeEngine) -> None:
    """Windows of several lengths and jobs run together and come back to their owners, in order."""
    with MicroBatcher(engine, 64) as batcher:
        futures = [
            batcher.submit(f"job{job}", [make_window("a " * n + "Ada", f"job{job}") for n in range(job, job + 5)])
            for job in range(5)
        ]
        starts = [[span_starts(outcome) for outcome in future.result(WAIT_S)] for future in futures]

    assert [[[n] for n in range(job, job + 5)] for job in range(5)] == starts


def test_jobs_meet_in_one_forward_and_numbers_say_so(engine: FakeEngine) -> None:
    """Windows that wait together run together; windows, jobs and tokens are reported."""
    outcomes, observed = run_together(engine, ["Ada is here", "so is Bob now"])

    assert [span_starts(outcome) for outcome in outcomes] == [[0], [2]]
    assert observed.batches == [(2, 2, 17, 2 * row_length(9))]
    assert observed.stages == ["collate", "forward", "decode"]


@pytest.mark.parametrize("fault", [FaultWord.error, FaultWord.collate_error, FaultWord.decode_error])
def test_a_bad_document_fails_alone_without_its_text(
    engine: FakeEngine, fault: FaultWord, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in any stage ends at its own window; the neighbours succeed; no message quotes the text."""
    with caplog.at_level(logging.DEBUG):
        outcomes, _ = run_together(engine, ["Ada", "Bob", f"x {fault}", "Cid", "Dan"])

    bad = outcomes.pop(2)
    assert Failed(DocumentErrorCode.INFERENCE_FAILED, "The model failed on this document (ValueError).") == bad
    assert [span_starts(outcome) for outcome in outcomes] == [[0]] * 4
    assert "secret" not in caplog.text


def test_out_of_memory_halves_until_it_fits(engine: FakeEngine) -> None:
    """A micro-batch too large for the device is halved until it fits; nothing fails."""
    engine.memory_tokens = 20
    outcomes, observed = run_together(engine, [f"Ada {letter}" for letter in "abcdefghijklmnop"])

    assert [span_starts(outcome) for outcome in outcomes] == [[0]] * 16
    assert {"split"} == set(observed.memory)
    assert engine.released == len(observed.memory)


def test_a_window_that_fits_no_device_fails_alone(engine: FakeEngine) -> None:
    """Out of memory with one window left is that document's error only."""
    outcomes, observed = run_together(engine, ["Ada", f"x {FaultWord.out_of_memory}", "Bob"])

    failed = outcomes.pop(1)
    assert isinstance(failed, Failed)
    assert DocumentErrorCode.OUT_OF_MEMORY is failed.code
    assert [span_starts(outcome) for outcome in outcomes] == [[0], [0]]
    assert observed.memory.count("failed") == 1


def test_isolated_windows_run_with_nothing_else(engine: FakeEngine) -> None:
    """A suspect's windows have every forward pass to themselves."""
    batcher = MicroBatcher(engine, 2048)
    isolated = batcher.submit("suspect", [make_window("Ada"), make_window("Bob")], isolated=True)
    unrelated = batcher.submit("others", [make_window(f"Cid {i}") for i in range(5)])
    with batcher:
        isolated.result(WAIT_S)
        unrelated.result(WAIT_S)

    assert sorted(len(batch) for batch in engine.forwards) == [1, 1, 5]


def test_the_hook_knows_the_shards_of_every_forward(engine: FakeEngine) -> None:
    """Before each pass, halves included, the callback gets its shards."""
    seen: list[frozenset[ShardRef]] = []
    run_together(engine, ["Ada", f"x {FaultWord.error}"], before_forward=seen.append)

    both = frozenset({ShardRef("job0", 0), ShardRef("job1", 0)})
    assert [both, frozenset({ShardRef("job0", 0)}), frozenset({ShardRef("job1", 0)})] == seen


def test_what_the_hook_raises_goes_to_its_shards(engine: FakeEngine) -> None:
    """If the part in a crash cannot be noted, the windows do not run, and their shards learn why."""

    def hook(_: frozenset[ShardRef]) -> None:
        raise ConnectionError

    with MicroBatcher(engine, 2048, before_forward=hook) as batcher:
        future = batcher.submit("job", [make_window("Ada")])
        with pytest.raises(ConnectionError):
            future.result(WAIT_S)
        assert engine.forwards == []


def test_drop_forgets_what_has_not_started(engine: FakeEngine) -> None:
    """A cancelled job's waiting windows go, its future says so, another job's stay."""
    batcher = MicroBatcher(engine, 2048)
    gone = batcher.submit("gone", [make_window("Ada", "gone")] * 3)
    remaining = batcher.submit("kept", [make_window("Bob", "kept")])

    assert batcher.drop("gone") == 3
    with pytest.raises(Dropped):
        gone.result(0)
    with batcher:
        remaining.result(WAIT_S)
    assert sum(len(batch) for batch in engine.forwards) == 1


def test_a_drop_waits_for_what_is_in_the_model(engine: FakeEngine) -> None:
    """A window that may end the process still has its owner, which can be blamed for it."""
    entered = Event()
    batcher = MicroBatcher(engine, 8, before_forward=lambda _: entered.set())
    future = batcher.submit("job", [make_window(f"Ada {FaultWord.hang}"), make_window("Bob")])
    with batcher:
        assert entered.wait(WAIT_S)
        assert batcher.drop("job") == 1
        assert not future.done()
        engine.hold.set()
        assert isinstance(future.exception(WAIT_S), Dropped)


def test_drop_can_name_one_shard(engine: FakeEngine) -> None:
    """A lost lease drops its own shard's windows, not the job's others."""
    batcher = MicroBatcher(engine, 2048)
    first = batcher.submit("job", [make_window("Ada", "job", 0)])
    second = batcher.submit("job", [make_window("Bob", "job", 1)])

    assert batcher.drop("job", 0) == 1
    with batcher:
        second.result(WAIT_S)
    assert isinstance(first.exception(0), Dropped)


def test_a_lost_device_fails_everything_at_once(engine: FakeEngine) -> None:
    """After EngineBroken no document is blamed: futures raise it, new ones too, and the process can be ended."""
    batcher = MicroBatcher(engine, 8)
    futures: list[Future[object]] = [
        batcher.submit("a", [make_window(f"x {FaultWord.broken}")]),  # type: ignore[list-item]
        batcher.submit("b", [make_window("Ada")]),  # type: ignore[list-item]
    ]
    with batcher:
        assert all(isinstance(future.exception(WAIT_S), EngineBroken) for future in futures)
        assert batcher.is_broken
        assert isinstance(batcher.submit("c", [make_window("Bob")]).exception(WAIT_S), EngineBroken)


def test_a_device_that_is_lost_while_scores_travel_is_no_documents_fault(engine: FakeEngine) -> None:
    """A broken device is noticed in the decoder as in the model's thread."""
    with MicroBatcher(engine, 8) as batcher:
        future = batcher.submit("a", [make_window(f"x {FaultWord.broken_late}"), make_window("Ada")])
        assert isinstance(future.exception(WAIT_S), EngineBroken)
        assert batcher.is_broken


def test_a_hung_model_stops_the_tick(engine: FakeEngine) -> None:
    """While a model call hangs, `last_tick` stops and the backlog shows the running windows."""
    entered = Event()
    now = [0.0]
    batcher = MicroBatcher(engine, 2048, before_forward=lambda _: entered.set(), clock=lambda: now[0])
    with batcher:
        future = batcher.submit("job", [make_window(f"Ada {FaultWord.hang}")])
        assert entered.wait(WAIT_S)
        now[0] = 100.0
        assert batcher.last_tick == 0.0
        assert batcher.window_counts == (0, 1)
        engine.hold.set()
        future.result(WAIT_S)


def test_close_finishes_what_was_accepted(engine: FakeEngine) -> None:
    """Closing drains the queue, then refuses."""
    batcher = MicroBatcher(engine, 8).start()
    future = batcher.submit("job", [make_window("Ada")] * 20)

    assert batcher.close(WAIT_S)
    assert len(future.result(0)) == 20
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit("job", [make_window("Ada")])


def test_no_windows_no_wait(engine: FakeEngine) -> None:
    """A shard of refused documents has its answer at once."""
    assert MicroBatcher(engine, 8).submit("job", []).result(0) == ()


def test_the_same_question_in_flight_is_answered_once(engine: FakeEngine) -> None:
    """Three jobs have equal windows, a fourth another threshold: two rows run, all get their spans."""
    batcher = MicroBatcher(engine, 2048)
    other = replace(make_window("Ada of Rome", "job3"), thresholds=(0.6,))
    futures = [batcher.submit(f"job{i}", [make_window("Ada of Rome", f"job{i}")]) for i in range(3)]
    futures.append(batcher.submit("job3", [other, make_window("Ada of Rome", "job3")]))
    assert batcher.window_counts == (2, 0)
    with batcher:
        results = [[span_starts(outcome) for outcome in future.result(WAIT_S)] for future in futures]

    assert results == [[[0, 2]]] * 3 + [[[0, 2]] * 2]
    assert [len(rows) for rows in engine.forwards] == [2]


def test_who_shares_an_answer_survives_the_others_cancellation(engine: FakeEngine) -> None:
    """The one that would have run is dropped, and so is one that shared with it; the third is run."""
    batcher = MicroBatcher(engine, 2048)
    futures = [batcher.submit(f"job{i}", [make_window("Ada of Rome", f"job{i}")]) for i in range(3)]
    assert batcher.drop("job0") == batcher.drop("job2") == 1
    with batcher:
        assert span_starts(futures[1].result(WAIT_S)[0]) == [0, 2]

    for gone in (futures[0], futures[2]):
        with pytest.raises(Dropped):
            gone.result(0)
    assert len(engine.forwards) == 1


@pytest.mark.parametrize("fault", [FaultWord.error, FaultWord.decode_error, FaultWord.broken])
def test_who_shares_an_answer_shares_its_failure(engine: FakeEngine, fault: FaultWord) -> None:
    """Nobody waits for a window that failed; only the one that ran was at risk."""
    seen: list[frozenset[ShardRef]] = []
    batcher = MicroBatcher(engine, 2048, before_forward=seen.append)
    futures = [batcher.submit(f"job{i}", [make_window(f"Ada {fault}", f"job{i}")]) for i in range(3)]
    with batcher:
        if fault is FaultWord.broken:
            assert all(isinstance(future.exception(WAIT_S), EngineBroken) for future in futures)
        else:
            assert all(isinstance(future.result(WAIT_S)[0], Failed) for future in futures)

    assert seen == [frozenset({ShardRef("job0", 0)})]


def test_an_urgent_or_suspect_window_shares_with_nobody_that_it_would_wait_for(engine: FakeEngine) -> None:
    """An interactive one does not wait for a standard one's turn; one that may end the process runs isolated."""
    batcher = MicroBatcher(engine, 2048)
    text = "Ada of Rome"
    batcher.submit("standard", [make_window(text, "standard")])
    batcher.submit("urgent", [make_window(text, "urgent")], interactive=True)
    batcher.submit("suspect", [make_window(text, "suspect")], isolated=True)
    assert batcher.window_counts == (3, 0)
    batcher.submit("urgent too", [make_window(text, "urgent too")], interactive=True)
    with batcher:
        pass

    assert engine.forwards[0][0].owner.job_id == "urgent"
    assert sorted(len(rows) for rows in engine.forwards) == [1] * len(engine.forwards)


def test_lanes_run_micro_batches_beside_each_other(engine: FakeEngine) -> None:
    """While one lane's pass hangs the other reads on, and the shards of both passes were reported before."""
    engine.lanes = 2
    entered = Event()
    seen: list[frozenset[ShardRef]] = []

    def hook(shards: frozenset[ShardRef]) -> None:
        seen.append(shards)
        entered.set()

    with MicroBatcher(engine, 2048, before_forward=hook) as batcher:
        hanging = batcher.submit("slow", [make_window(f"Ada {FaultWord.hang}", "slow")])
        assert entered.wait(WAIT_S)
        for i in range(3):
            assert span_starts(
                batcher.submit(f"job{i}", [make_window(f"Bob {i}", f"job{i}")]).result(WAIT_S)[0]
            ) == [0]
        assert not hanging.done()
        assert batcher.window_counts == (0, 1)
        engine.hold.set()
        hanging.result(WAIT_S)

    assert seen == [frozenset({ShardRef(job, 0)}) for job in ("slow", "job0", "job1", "job2")]


@pytest.mark.parametrize("express", [False, True], ids=["a lane", "the express"])
def test_one_of_two_that_hangs_stops_the_tick(engine: FakeEngine, express: bool) -> None:
    """A lane that reads on does not hide another lane, or the express, that hangs."""
    engine.lanes, engine.express_tokens = (1, 64) if express else (2, 0)
    entered = Event()
    now = [0.0]
    batcher = MicroBatcher(engine, 2048, before_forward=lambda _: entered.set(), clock=lambda: now[0])
    with batcher:
        hanging = batcher.submit("slow", [make_window(f"Ada {FaultWord.hang}", "slow")], interactive=express)
        assert entered.wait(WAIT_S)
        now[0] = 100.0
        batcher.submit("job", [make_window("Bob")]).result(WAIT_S)
        assert batcher.last_tick == 0.0
        engine.hold.set()
        hanging.result(WAIT_S)

    assert batcher.last_tick > 0.0


def test_close_waits_for_every_stream(engine: FakeEngine) -> None:
    """Closing finishes the micro-batches of all lanes, and windows that a failed decoding puts back."""
    engine.lanes = 2
    batcher = MicroBatcher(engine, 8).start()
    futures = [
        batcher.submit("job", [make_window(text)] * 5) for text in ("Ada", f"x {FaultWord.decode_error}", "Bob")
    ]

    assert batcher.close(WAIT_S)
    assert [len(future.result(0)) for future in futures] == [5, 5, 5]


def test_a_device_lost_in_one_stream_is_lost_to_all(engine: FakeEngine) -> None:
    """The other lane still finishes its windows; waiting ones fail."""
    engine.lanes = 2
    entered = Event()
    batcher = MicroBatcher(engine, 8, before_forward=lambda _: entered.set())
    with batcher:
        running = batcher.submit("slow", [make_window(f"Ada {FaultWord.hang}", "slow")])
        assert entered.wait(WAIT_S)
        lost = [
            batcher.submit("a", [make_window(f"x {FaultWord.broken}")]),
            batcher.submit("b", [make_window("Bob")]),
        ]
        assert all(isinstance(future.exception(WAIT_S), EngineBroken) for future in lost)
        engine.hold.set()
        assert span_starts(running.result(WAIT_S)[0]) == [0]
        assert batcher.window_counts[1] == 0


class Decoding(FakeEngine):
    """Notes which thread decodes."""

    def __init__(self, lanes: int) -> None:
        super().__init__(lanes=lanes)
        self.decoders: list[str] = []

    def decode(self, batch: tuple[Window, ...], raw: tuple[Window, ...]) -> list[Sequence[Span]]:
        """Decode, and note the thread."""
        self.decoders.append(current_thread().name.partition("-")[0])
        return super().decode(batch, raw)


class Clock:
    """Says when all lanes wait for work, and which have looked for some since."""

    def __init__(self, lanes: int) -> None:
        self.looked: set[str] = set()
        self.all_wait = Event()
        self._lanes = lanes

    def __call__(self) -> float:
        """Monotonic seconds."""
        if (name := current_thread().name).startswith("model"):
            self.looked.add(name)
            if len(self.looked) == self._lanes:
                self.all_wait.set()
        return monotonic()


@pytest.mark.parametrize(("lanes", "by"), [(1, "decoder"), (2, "model")])
def test_a_lane_decodes_itself_only_while_another_stands_by(lanes: int, by: str) -> None:
    """A lone text is handed to no other thread, unless the next one would have to wait for its decoding."""
    engine, clock = Decoding(lanes), Clock(lanes)
    with MicroBatcher(engine, 2048, clock=clock) as batcher:
        assert clock.all_wait.wait(WAIT_S)
        batcher.submit("job", [make_window("Ada")]).result(WAIT_S)

    assert [by] == engine.decoders


def test_two_waiting_micro_batches_leave_decoding_to_the_decoder() -> None:
    """While more waits, the lanes go on with that."""
    engine = Decoding(2)
    batcher = MicroBatcher(engine, 8)
    future = batcher.submit("job", [make_window(f"Ada {i}") for i in range(20)])
    with batcher:
        future.result(WAIT_S)

    assert {"decoder"} == set(engine.decoders[:10])


def test_a_lone_window_wakes_one_lane(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others sleep on: each that woke would take the interpreter from the one that has work."""
    monkeypatch.setattr("worker.batching.batcher.TICK_S", WAIT_S)
    engine.lanes = 4
    clock = Clock(engine.lanes)
    with MicroBatcher(engine, 2048, clock=clock) as batcher:
        assert clock.all_wait.wait(WAIT_S)
        clock.looked.clear()
        batcher.submit("job", [make_window("Ada")]).result(WAIT_S)
        woken = set(clock.looked)

    assert len(woken) == 1


def test_a_newcomer_is_seen_behind_all_that_a_large_job_has_waiting(engine: FakeEngine) -> None:
    """A choice looks at a part of the waiting windows, and at every job's oldest."""
    batcher = MicroBatcher(engine, 64)
    large = batcher.submit("large", [make_window(f"Ada {i}", "large") for i in range(3 * LOOK_AHEAD)])
    small = batcher.submit("small", [make_window("Bob", "small")])
    with batcher:
        small.result(WAIT_S)
        large.result(WAIT_S)

    assert "small" in {row.owner.job_id for rows in engine.forwards[:2] for row in rows}
    assert sum(map(len, engine.forwards)) == 3 * LOOK_AHEAD + 1


def test_an_urgent_job_fills_its_micro_batch_behind_all_that_a_large_job_has_waiting(engine: FakeEngine) -> None:
    """Its windows run together, not one at a time because only the first was looked at."""
    batcher = MicroBatcher(engine, 512)
    large = batcher.submit("large", [make_window(f"Ada {i}", "large") for i in range(3 * LOOK_AHEAD)])
    urgent = batcher.submit("urgent", [make_window(f"Bob {i}", "urgent") for i in range(8)], interactive=True)
    with batcher:
        urgent.result(WAIT_S)
        large.result(WAIT_S)

    assert [row.owner.job_id for row in engine.forwards[0]] == ["urgent"] * 8


def test_a_short_urgent_text_waits_for_no_stream(engine: FakeEngine) -> None:
    """Its express runs it while all lanes are taken; long and standard texts wait for a lane."""
    engine.express_tokens = 64
    entered = Event()
    with MicroBatcher(engine, 2048, before_forward=lambda _: entered.set()) as batcher:
        hanging = batcher.submit("slow", [make_window(f"Ada {FaultWord.hang}", "slow")])
        assert entered.wait(WAIT_S)
        standard = batcher.submit("job", [make_window("Bob")])
        long = batcher.submit("long", [make_window("Bob " * 100, "long")], interactive=True)
        for i in range(3):
            urgent = batcher.submit(f"urgent{i}", [make_window(f"Eve {i}", f"urgent{i}")], interactive=True)
            assert len(urgent.result(WAIT_S)) == 1
        many = batcher.submit("many", [make_window(f"Eve {i}", "many") for i in range(20)], interactive=True)
        assert not any(future.done() for future in (hanging, standard, long, many))
        engine.hold.set()
        for future in (hanging, standard, long, many):
            future.result(WAIT_S)


def test_what_does_not_fit_the_express_goes_to_the_lanes(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that come while the express is woken, and are too many for it, are not left to it alone."""
    monkeypatch.setattr("worker.batching.batcher.TICK_S", 1000.0)
    engine.express_tokens = 16
    clock = Clock(2)
    with MicroBatcher(engine, 2048, clock=clock) as batcher:
        assert clock.all_wait.wait(WAIT_S)
        for i in range(20):
            futures = [
                batcher.submit(f"job{n}", [make_window(f"Ada {i} {n} " + "Bob " * (n % 3))], interactive=True)
                for n in range(20)
            ]
            assert all(len(future.result(WAIT_S)) == 1 for future in futures)


def test_the_express_keeps_out_while_a_suspect_runs_isolated(engine: FakeEngine) -> None:
    """It waits for the end of the block, as the lanes do, and closing waits for it."""
    engine.express_tokens = 64
    with MicroBatcher(engine, 2048) as batcher:
        with batcher.run_isolated_only(lambda: False):
            urgent = batcher.submit("urgent", [make_window("Eve")], interactive=True)
            assert len(batcher.submit("suspect", [make_window("Ada")], isolated=True).result(WAIT_S)) == 1
            assert not urgent.done()
        urgent.result(WAIT_S)
    assert batcher.window_counts == (0, 0)


def test_the_express_leaves_the_turns_of_others_alone(engine: FakeEngine) -> None:
    """Tenants with a backlog go on taking turns, whatever passes them on the express."""
    engine.express_tokens = 64
    batcher = MicroBatcher(engine, 8)
    for tenant in ("a", "b"):
        batcher.submit(tenant, [make_window(f"{tenant} {i}", tenant) for i in range(20)], tenant=tenant)
    served: list[str] = []
    for i in range(6):
        urgent = batcher.submit(f"c{i}", [make_window(f"Eve {i}", "c")], tenant="c", interactive=True)
        assert [item.submission.future for item in batcher._next_express(1) or ()] == [urgent]
        served += sorted({item.waiting.tenant for item in batcher._next_batch(0) or ()})
    assert served == ["a", "b"] * 3


def test_a_micro_batch_has_fewer_rows_of_many_labels() -> None:
    """The cost of a token model's scorer, words times labels, is within the budget."""
    engine = small_engine(max_words=20, max_row_tokens=200)
    engine.spec = replace(engine.spec, labels_included=2)
    texts = [f"Anna met Bo in place {i}." for i in range(8)]
    plans = [
        cut_document(
            Document(i, str(i), text),
            JobContext(ShardRef("job", 0), Tasks({f"label {n}": None for n in range(8)})),
            engine,
        )
        for i, text in enumerate(texts)
    ]
    windows = [window for plan in plans for window in plan.windows]
    budget = 2 * windows[0].cost
    batcher = MicroBatcher(engine, budget)
    future = batcher.submit("job", windows)
    with batcher:
        future.result(timeout=10)

    assert {len(rows) for rows in engine.forwards} == {2}
