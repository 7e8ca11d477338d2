"""Events of a stack, and why it does not start; the programs are states that a test sets."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from gleaner.localstack import StackOptions, local
from gleaner.localstack.datadir import Lock
from gleaner.localstack.errors import AlreadyRunning, Interrupted, MissingExtra, StackError, StartFailed
from gleaner.localstack.local import Event, LocalStack
from gleaner.localstack.plan import StackPlan
from gleaner.localstack.programs import Program
from gleaner.localstack.server import RedisUrls
from gleaner.localstack.supervisor import ProgramState

GATEWAY = Program("gateway", "gateway", (), 40)


class States:
    """A supervisor whose answers are given; None is no answer."""

    def __init__(self, *answers: dict[str, ProgramState] | None) -> None:
        self.launched: list[str] = []
        self.is_alive = False
        self._answers = list(answers)

    def launch_program(self, name: str) -> None:
        self.launched.append(name)

    def list_children(self) -> dict[str, ProgramState] | None:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def state(pid: int, failures: int = 0) -> dict[str, ProgramState]:
    """Return the gateway's state."""
    return {"gateway": ProgramState("gateway", pid, failures)}


def make_stack(folder: Path, states: States, **options: object) -> tuple[LocalStack, list[Event]]:
    """Return a stack of one program under a supervisor with these states, and its events."""
    events: list[Event] = []
    stack = LocalStack(StackOptions(folder, **options), on_event=events.append)  # type: ignore[arg-type]
    stack.directory.create_folders()
    stack._supervisor = states  # type: ignore[assignment]
    stack._plan = StackPlan((GATEWAY,), RedisUrls("redis://a/1", "redis://a/0"), {"gateway_url": "http://g"}, {})
    return stack, events


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (state(5), state(5), []),
        (state(5), state(6), [("restarted", "exited, restarted as process 6; log: ")]),
        (state(5), state(0), [("ended", "exited, will be restarted; log: ")]),
        (state(0), state(6), [("restarted", "restarted as process 6")]),
        (state(0, 5), state(0, 6), [("given_up", "failed several times; next attempt in 30 s; last lines")]),
        (state(0, 6), state(0, 7), []),
    ],
)
def test_changes_are_events(
    tmp_path: Path, before: dict[str, ProgramState], now: dict[str, ProgramState], expected: list[tuple[str, str]]
) -> None:
    """Each once; stack.json has the new process id."""
    stack, events = make_stack(tmp_path, States(before, now))
    stack.check_children()
    stack.check_children()

    assert [event.kind for event in events] == [kind for kind, _ in expected]
    assert all(event.text.startswith(text) for event, (_, text) in zip(events, expected, strict=True))
    content = stack.directory.read_stack()
    if before["gateway"].pid != now["gateway"].pid:
        assert content is not None
        assert content["pids"]["gateway"] == [pid for pid in [now["gateway"].pid] if pid]
        assert content["gateway_url"] == "http://g"
    else:
        assert content is None


def test_a_supervisor_that_ended_is_an_error(tmp_path: Path) -> None:
    """A supervisor that is only late is no error."""
    states = States(None)
    stack, events = make_stack(tmp_path, states)
    states.is_alive = True
    stack.check_children()
    states.is_alive = False
    with pytest.raises(StackError, match="the supervisor exited"):
        stack.check_children()
    assert events == []


def test_programs_are_started_and_awaited(tmp_path: Path) -> None:
    """Ready once the check says so."""
    states = States(state(5))
    stack, events = make_stack(tmp_path, states)
    ready = iter([False, True])
    stack._launch_programs([GATEWAY], lambda _program: next(ready))

    assert states.launched == ["gateway"]
    assert [event.kind for event in events] == ["starting", "ready"]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ((None,), "the supervisor exited"),
        ((state(0),), "gateway exited during start-up; last lines of .*:\n  the reason"),
        ((state(5), state(6)), "gateway exited during start-up"),
    ],
)
def test_a_program_that_ends_while_starting_fails_the_start(
    tmp_path: Path, answers: tuple[dict[str, ProgramState] | None, ...], message: str
) -> None:
    """Also if the supervisor has started it again; the end of its log is in the message."""
    stack, _ = make_stack(tmp_path, States(*answers))
    stack.directory.log_path("gateway").write_text("the reason\n")
    with pytest.raises(StartFailed, match=message):
        stack._launch_programs([GATEWAY], lambda _program: False)


def test_a_start_has_a_time_limit_and_can_be_interrupted(tmp_path: Path) -> None:
    """The programs that are late are named."""
    stack, _ = make_stack(tmp_path, States(state(5)), ready_timeout_s=-1.0)
    with pytest.raises(StartFailed, match="not ready after -1 s: gateway"):
        stack._launch_programs([GATEWAY], lambda _program: False)

    stopping = threading.Event()
    stopping.set()
    stack = LocalStack(StackOptions(tmp_path), stop_requested=stopping)
    stack._supervisor = States(state(5))  # type: ignore[assignment]
    with pytest.raises(Interrupted):
        stack._launch_programs([GATEWAY], lambda _program: False)


def test_a_directory_has_one_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second start is refused before anything is touched."""
    stack = LocalStack(StackOptions(tmp_path))
    stack.directory.create_folders()
    stack.directory.stack_file.write_text(json.dumps({"pids": {}}))
    other = Lock(stack.directory.run / "stack.lock")
    assert other.acquire()
    with pytest.raises(AlreadyRunning, match="--data-dir"):
        stack.start()
    assert stack.directory.read_stack() == {"pids": {}}
    other.release()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that has it."""
    monkeypatch.setattr(local, "find_spec", lambda name: None if name == "celery" else name)
    with pytest.raises(MissingExtra, match=r"celery: pip install 'gleaner-ner\[all\]'"):
        LocalStack(StackOptions(tmp_path)).start()


def test_nothing_is_known_before_the_start(tmp_path: Path) -> None:
    """Neither addresses nor programs; stopping and killing do nothing."""
    stack = LocalStack(StackOptions(tmp_path))
    stack.stop()
    stack.kill()
    with pytest.raises(StackError, match="not started"):
        _ = stack.facts
    with pytest.raises(StackError, match="not running"):
        stack.check_children()
