"""The `gleaner` command against the real service, as a shell would run it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from gleaner import AuthenticationError, Client
from tests.support.processes.local_stack import COMMAND, RunningStack, command_environment, gleaner, until

pytestmark = pytest.mark.timeout(300)
TEXT = "Ada Lovelace met Charles Babbage in London."


def lines(text: str) -> list[dict[str, Any]]:
    """JSON lines, read."""
    return [json.loads(line) for line in text.splitlines()]


def at(stack: RunningStack) -> tuple[str, str]:
    """Return the option that selects the stack, its URL and its key."""
    return "--data-dir", str(stack.directory)


def test_extract_files_of_several_kinds(stack: RunningStack, tmp_path: Path) -> None:
    """Output has one line per document, in the order of the files, with the ids of the files."""
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.jsonl").write_text(json.dumps({"id": "b1", "text": TEXT}) + "\n")
    (tmp_path / "c.csv").write_text(f'id,text\nc1,"{TEXT}"\n')
    files = [str(tmp_path / name) for name in ("a.txt", "b.jsonl", "c.csv")]
    output = tmp_path / "out.jsonl"
    ran = gleaner("extract", *files, "-l", "person", "-l", "city", "-o", str(output), *at(stack))

    assert (ran.returncode, ran.stdout) == (0, "")
    assert "3 documents, 9 entities, 0 failed" in ran.stderr
    results = lines(output.read_text())
    assert [line["id"] for line in results] == [files[0], "b1", "c1"]
    assert [entity["text"] for entity in results[2]["entities"]] == ["Ada Lovelace", "Charles Babbage", "London"]


def test_extract_pages_by_a_pattern_to_parquet(stack: RunningStack, tmp_path: Path) -> None:
    """HTML files come from a quoted pattern, labels with thresholds from a file; the summary is JSON."""
    (tmp_path / "in").mkdir()
    for name in ("a.html", "b.html"):
        (tmp_path / "in" / name).write_text(
            f"<style>x</style><h1>{name}</h1><p>Ada <b>Lovelace</b> met Charles Babbage in London."
        )
    (tmp_path / "labels.txt").write_text("person\ncity: a town or village\n")
    output = tmp_path / "out.parquet"
    command = ["extract", f"{tmp_path}/**/*.html", "--labels-file", str(tmp_path / "labels.txt")]
    command += ["--threshold", "0.4", "--threshold", "city=1.0", "-o", str(output), "--json", *at(stack)]
    ran = gleaner(*command)

    assert ran.returncode == 0, ran.stderr
    summary = {"documents": 2, "entities": 4, "failed": 0, "errors": {}, "output": str(output)}
    assert lines(ran.stdout) == [summary]
    rows = parquet.read_table(output).to_pylist()
    assert [(row["index"], row["text"]) for row in rows] == [
        (index, name) for index in (0, 1) for name in ("Ada Lovelace", "Charles Babbage")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("in", "labels.txt", "out.parquet", "out.parquet.gleaner-state")
    ]
    again = gleaner(*command)
    assert (again.returncode, lines(again.stdout), "already complete" in again.stderr) == (0, [summary], True)


def test_extract_from_stdin_to_stdout_with_a_failure(stack: RunningStack) -> None:
    """`-` reads standard input; without -o results are printed; a failed document makes the exit code 1."""
    documents = f'{json.dumps({"text": TEXT})}\n{{"text": ""}}\n'
    ran = gleaner("extract", "-", "--format", "jsonl", "-l", "person", *at(stack), stdin=documents)

    assert ran.returncode == 1
    assert [line["status"] for line in lines(ran.stdout)] == ["succeeded", "failed"]
    assert "1 x empty_text" in ran.stderr


def test_a_killed_extract_goes_on_without_doubles(stack: RunningStack, tmp_path: Path) -> None:
    """SIGKILL in the middle, the same command again: every document once, in order; then nothing more to do."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"id": f"d{number}", "text": f"{TEXT} {number}"} for number in range(768)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["extract", str(source), "-l", "person", "-l", "city", "-o", str(output), *at(stack)]
    process = subprocess.Popen([*COMMAND, *command], env=command_environment(), stderr=subprocess.PIPE)
    state = tmp_path / "out.jsonl.gleaner-state"
    until(lambda: state.exists() and '"written"' in state.read_text(), 120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    jobs_before = state.read_text().count('"job"')

    ran = gleaner(*command, limit_s=240)

    assert ran.returncode == 0, ran.stderr
    assert "Resuming: " in ran.stderr
    assert [line["id"] for line in lines(output.read_text())] == [row["id"] for row in rows]
    assert jobs_before > 0
    assert state.read_text().count('"job"') == 3
    again = gleaner(*command)
    assert (again.returncode, "already complete" in again.stderr) == (0, True)


def _heed_interrupts() -> None:
    """Restore SIGINT, which a shell's background job (a pipeline may be one) ignores and passes to children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_extract_says_how_to_go_on(stack: RunningStack, tmp_path: Path) -> None:
    """Ctrl-C exits 130."""
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(f"{TEXT * 10} {number}") + "\n" for number in range(800)))
    command = ["extract", str(source), "-l", "person", "-o", str(tmp_path / "out"), *at(stack)]
    process = subprocess.Popen(
        [*COMMAND, *command],
        env=command_environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    )
    state = tmp_path / "out.gleaner-state"
    until(lambda: state.exists() and '"job"' in state.read_text(), 60)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "run the same command again to resume" in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["extract", "no-such.txt", "-l", "x", "--url", "http://127.0.0.1:9"], 2, "No such file"),
        (["extract", "-", "-l", "x", "--data-dir", "no-such"], 3, "gleaner up"),
        (["models", "--url", "http://127.0.0.1:9"], 3, "cannot be reached: http://127.0.0.1:9/v1/models"),
        (["keys", "list", "--data-dir", "no-such"], 2, "keys file"),
        (["no-such-command"], 2, "No such command"),
        (["extract", "no-such/*.txt", "-l", "x", "--url", "http://127.0.0.1:9"], 2, "no file matches"),
        (["extract", "-", "-l", "x", "--threshold", "2", "--url", "http://127.0.0.1:9"], 2, "write 0.6"),
        (["extract", "-", "--labels-file", "no.txt", "--url", "http://127.0.0.1:9"], 2, "no.txt: No such file"),
        (["results", "job_1", "--format", "parquet", "--url", "http://127.0.0.1:9"], 2, "name a file with -o"),
        (["webhooks", "recover", "ep_1", "--since", "soon", "--url", "http://127.0.0.1:9"], 2, "write 90d"),
    ],
)
def test_errors_say_what_to_do(arguments: list[str], code: int, said: str) -> None:
    """Usage errors exit 2, a gateway that is not there 3, with a sentence and no traceback."""
    ran = gleaner(*arguments, stdin=TEXT)

    assert ran.returncode == code
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_wrong_key_is_refused(stack: RunningStack) -> None:
    """The error names the option and the variable."""
    ran = gleaner("--url", stack.url, "--key", "gl_wrong", "models")

    assert (ran.returncode, "GLEANER_API_KEY" in ran.stderr) == (3, True)


def test_keys_of_a_running_gateway(stack: RunningStack) -> None:
    """Created keys work within two seconds, rotation overlaps, revocation ends them; no list shows a key."""

    def works(key: str) -> bool:
        try:
            with Client(stack.url, key) as client:
                return bool(client.models())
        except AuthenticationError:
            return False

    created = json.loads(
        gleaner("keys", "create", "--tenant", "t", "--role", "viewer", "--json", *at(stack)).stdout
    )
    assert set(created) == {"key_id", "key", "tenant", "role", "expires_at"}
    until(lambda: works(created["key"]), 3)
    rotated = json.loads(gleaner("keys", "rotate", created["key_id"], "--json", *at(stack)).stdout)
    until(lambda: works(rotated["key"]), 3)
    assert works(created["key"])
    assert gleaner("keys", "revoke", rotated["key_id"], *at(stack)).returncode == 0
    until(lambda: not works(rotated["key"]), 3)
    shown = gleaner("keys", "list", *at(stack)).stdout
    assert "revoked" in shown
    assert created["key"] not in shown


def test_a_jobs_life_by_commands(stack: RunningStack, client: Client) -> None:
    """models, jobs JOB, results, cancel and purge."""
    job = client.submit([TEXT], ["person"]).wait(timeout=120)

    assert "gleaner-small" in gleaner("models", *at(stack)).stdout
    assert "succeeded" in gleaner("jobs", job.id, *at(stack)).stdout
    (line,) = lines(gleaner("results", job.id, *at(stack)).stdout)
    assert line["entities"][0]["text"] == "Ada Lovelace"
    watched = gleaner("watch", job.id, "--json", *at(stack))
    assert (watched.returncode, [line["status"] for line in lines(watched.stdout)]) == (0, ["succeeded"])
    assert "1/1 finished" in gleaner("watch", job.id, *at(stack)).stdout
    assert gleaner("results", job.id, "--format", "csv", *at(stack)).stdout.startswith("index,id,status,start")
    assert lines(gleaner("limits", "--json", *at(stack)).stdout)[0]["request"]["documents"] == 10_000
    assert "documents" in gleaner("limits", *at(stack)).stdout
    assert gleaner("cancel", job.id, *at(stack)).returncode == 0
    assert gleaner("purge", job.id, *at(stack)).returncode == 0
    assert gleaner("jobs", job.id, *at(stack)).returncode == 3


def test_watch_says_how_it_ended(stack: RunningStack, client: Client) -> None:
    """A job that did not succeed is exit code 1, one that takes longer than --timeout is 3; the job goes on."""
    failed = client.submit([""], ["person"]).wait(timeout=60)
    watched = gleaner("watch", failed.id, *at(stack))
    assert (watched.returncode, "1 failed, 1 x empty_text" in watched.stdout) == (1, True)
    slow = client.submit([f"{TEXT * 20} {number}" for number in range(500)], ["person"])
    late = gleaner("watch", slow.id, "--timeout", "0.1", *at(stack))
    slow.cancel()
    assert (late.returncode, "still" in late.stderr) == (3, True)
