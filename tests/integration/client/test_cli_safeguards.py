"""The commands where files go in and out: nothing is overwritten, skipped or shifted in silence."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gleaner.cli.app import app
from gleaner.cli.files.outputs import LINES, PART, STATE, helper_path
from tests.support.processes.echo_gateway import EchoGateway
from tests.support.processes.local_stack import COMMAND, command_environment


@pytest.fixture
def gateway() -> Iterator[EchoGateway]:
    """Return a gateway that finds `Ada`."""
    with EchoGateway().running() as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(gateway: EchoGateway, command: str, *arguments: str, stdin: str | bytes | None = None) -> Result:
    """Run the command; fail on a traceback."""
    result = CliRunner().invoke(app, [command, *arguments, "--url", gateway.url], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def started(gateway: EchoGateway, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Start the command as a process, to test its streams."""
    return subprocess.Popen(
        [*COMMAND, *arguments, "--url", gateway.url], env=command_environment(), stderr=subprocess.PIPE, **streams
    )


def lines(path: str | Path) -> list[dict[str, Any]]:
    """JSON lines, read."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def links(name: str) -> list[str]:
    """Names of the same file."""
    Path("sub").mkdir(exist_ok=True)
    os.link(name, "hard")
    Path("soft").symlink_to(name)
    return [name, f"./{name}", f"sub/../{name}", str(Path(name).resolve()), "hard", "soft"]


@pytest.mark.parametrize("command", ["extract", "redact"])
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_an_output_that_is_an_input_is_refused(gateway: EchoGateway, command: str, more: list[str]) -> None:
    """By whatever name, `--overwrite` or not: the originals stay, and nothing is submitted."""
    Path("in.jsonl").write_text('{"text": "Ada"}\n')
    Path("b.jsonl").write_text('"Ada"\n')
    for name in links("in.jsonl"):
        for inputs in (["in.jsonl"], ["*.jsonl"], ["b.jsonl", "in.jsonl"]):
            result = ran(gateway, command, *inputs, "-l", "x", "-o", name, *more)
            assert (result.exit_code, "would replace it" in result.stderr) == (2, True), (
                name,
                inputs,
                result.stderr,
            )
    assert Path("in.jsonl").read_text() == '{"text": "Ada"}\n'
    assert not gateway.submitted


def test_what_is_kept_with_an_output_replaces_no_input(gateway: EchoGateway) -> None:
    """Nor do the labels, nor a file that standard input comes from."""
    for suffix in (STATE, LINES, PART):
        name = f"out{suffix}"
        Path(name).write_text('"Ada"\n')
        result = ran(gateway, "extract", name, "--format", "jsonl", "-l", "x", "-o", "out", "--overwrite")
        assert (result.exit_code, Path(name).read_text()) == (2, '"Ada"\n'), result.stderr
        Path(name).unlink()
        assert (
            "reserved for helper files" in ran(gateway, "extract", "-", "-l", "x", "-o", name, stdin="Ada").stderr
        )
    Path("labels.txt").write_text("x\n")
    Path("in.txt").write_text("Ada")
    for option in ([], ["--overwrite"]):
        result = ran(gateway, "extract", "in.txt", "--labels-file", "labels.txt", "-o", "labels.txt", *option)
        assert (result.exit_code, Path("labels.txt").read_text()) == (2, "x\n")
    with open("in.txt", "rb") as file:  # noqa: PTH123
        process = started(gateway, "extract", "-", "-l", "x", "-o", "in.txt", "--overwrite", stdin=file)
        assert b"would replace it" in process.communicate()[1]
    assert Path("in.txt").read_text() == "Ada"


def test_an_input_that_is_printed_to_is_refused(gateway: EchoGateway) -> None:
    """`>> in.jsonl` would read its own output."""
    Path("in.jsonl").write_text('"Ada"\n')
    with open("in.jsonl", "ab") as file:  # noqa: PTH123
        process = started(gateway, "extract", "in.jsonl", "-l", "x", stdout=file)
        assert b"both an input and standard output" in process.communicate()[1]
    assert (process.returncode, Path("in.jsonl").read_text()) == (2, '"Ada"\n')


@pytest.mark.parametrize("name", ["/dev/null", "sub"])
def test_an_output_that_is_no_file_is_told(gateway: EchoGateway, name: str) -> None:
    """A folder, a device."""
    Path("sub").mkdir()
    result = ran(gateway, "extract", "-", "-l", "x", "-o", name, stdin="Ada")
    assert (result.exit_code, "a folder" in result.stderr or "not a regular file" in result.stderr) == (2, True)


def test_evaluate_overwrites_no_gold(gateway: EchoGateway) -> None:
    """Neither by the picture nor by the calibration, which are two files."""
    gold = '{"text": "Ada", "entities": [{"start": 0, "end": 3, "label": "x"}]}\n'
    Path("gold.jsonl").write_text(gold)
    for options in (
        ["--plot", "gold.jsonl"],
        ["--calibration", "gold.jsonl"],
        ["--plot", "a", "--calibration", "a"],
    ):
        result = ran(gateway, "evaluate", "gold.jsonl", *options)
        assert (result.exit_code, "read and written" in result.stderr) == (2, True), result.stderr
    assert ran(gateway, "evaluate", "*.jsonl", "--plot", "gold.jsonl").exit_code == 2
    assert Path("gold.jsonl").read_text() == gold


def test_results_leave_a_runs_output_alone(gateway: EchoGateway) -> None:
    """A run of `extract` goes on by it; other files are replaced, whole."""
    Path("in.txt").write_text("Ada")
    assert ran(gateway, "extract", "in.txt", "-l", "x", "-o", "out").exit_code == 0
    job = json.loads(helper_path(Path("out"), STATE).read_text().splitlines()[1])["job"]
    assert "can resume" in ran(gateway, "results", job, "-o", "out").stderr
    Path("free").write_text("before")
    assert ran(gateway, "results", job, "-o", "free").exit_code == 0
    assert lines("free")[0]["entities"][0]["text"] == "Ada"


def test_the_same_pattern_goes_on_although_it_matches_the_output(gateway: EchoGateway) -> None:
    """The run's output is skipped with a message, also if the shell expanded the pattern."""
    for name in ("a", "b"):
        Path(f"{name}.jsonl").write_text("".join(f'"Ada {number}"\n' for number in range(300)))
    command = ["extract", "*.jsonl", "-l", "x", "-o", "found.jsonl"]
    gateway.refuse_from = 5
    assert ran(gateway, *command).exit_code == 3
    assert not Path("found.jsonl").exists()
    gateway.refuse_from = None
    result = ran(gateway, *command)
    assert (result.exit_code, "Resuming: " in result.stderr) == (0, True), result.stderr
    assert len(lines("found.jsonl")) == 600
    shell = sorted(path.name for path in Path().glob("*.jsonl"))
    for files in (["*.jsonl"], shell):
        result = ran(gateway, "extract", *files, "-l", "x", "-o", "found.jsonl")
        assert (result.exit_code, "already complete" in result.stderr) == (0, True), result.stderr
        assert "found.jsonl: skipped" in result.stderr
    assert ran(gateway, *command, "--overwrite").exit_code == 0
    assert len(lines("found.jsonl")) == 600
    assert ran(gateway, "extract", *shell, "-l", "x", "-o", "found.jsonl", "--overwrite").exit_code == 2


def test_a_pipe_is_read_once(gateway: EchoGateway) -> None:
    """A pipe such as the shell's `<( … )` is read completely, and its run can be resumed."""
    os.mkfifo("pipe.jsonl")
    for _ in range(2):
        feeding = subprocess.Popen(["sh", "-c", 'printf \'"Ada"\\n"Ada"\\n\' > pipe.jsonl'])
        result = ran(gateway, "extract", "pipe.jsonl", "-l", "x", "-o", "out")
        assert (result.exit_code, feeding.wait(10), len(lines("out"))) == (0, 0, 2), result.stderr
    assert "already complete" in result.stderr


@pytest.mark.parametrize("name", ["w.txt", "w.md", "-"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("unit", ["codepoint", "utf16", "byte"])
def test_offsets_fit_the_file(gateway: EchoGateway, name: str, mark: str, unit: str) -> None:
    """CRLF, CR, a byte order mark, wide characters; bytes are the file's, characters count from behind the mark."""
    content = (mark + "é😀\r\nb\rAda\r\n\r\nAda").encode()
    Path("w.txt").write_bytes(content)
    Path("w.md").write_bytes(content)
    command = ["extract", name, "-l", "x", "--offset-unit", unit, "--return-text"]
    line = json.loads(ran(gateway, *command, stdin=content).stdout)
    decoded = content.decode("utf-8-sig")
    whole = {"codepoint": decoded, "utf16": decoded.encode("utf-16-le"), "byte": content}[unit]
    wide = 2 if unit == "utf16" else 1
    extracted = [whole[wide * entity["start"] : wide * entity["end"]] for entity in line["entities"]]
    assert extracted == [{"codepoint": "Ada", "utf16": "Ada".encode("utf-16-le"), "byte": b"Ada"}[unit]] * 2
    assert line["text"] == (content.decode() if unit == "byte" else decoded)


def test_redaction_keeps_every_other_character(gateway: EchoGateway) -> None:
    """Line ends among them."""
    Path("w.txt").write_bytes(b"a\r\nb\rAda\x0b\xc2\x85\n")
    assert ran(gateway, "redact", "w.txt", "-l", "x", "-o", "out.jsonl").exit_code == 0
    assert lines("out.jsonl")[0]["redacted_text"] == "a\r\nb\r[X]\x0b\x85\n"


def test_explanations_are_asked_for(gateway: EchoGateway) -> None:
    """With `redact --explain` the job has the option."""
    Path("w.txt").write_text("Ada")
    assert ran(gateway, "redact", "w.txt", "-l", "x", "--explain", "-o", "out.jsonl").exit_code == 0
    assert [options["explain"] for options in gateway.options] == [True]


def bad_files() -> list[str]:
    """Files of which some are none, with rows of which some are none: 8 documents, 6 faults."""
    Path("1.txt").write_text("Ada")
    Path("2.txt").write_bytes(b"Zo\xeb")
    Path("3.csv").write_text('id,text\na,Ada\nb,Ada, again\nc,"Ada\nd,Ada\n')
    Path("4.jsonl").write_text('{"text": "Ada"}\n{"body": "Ada"}\n{"text": null}\n{"text": 5}\n')
    Path("5.parquet").write_text("no")
    Path("6.csv").write_text("body\nAda\n")
    Path("7.txt").write_text("Ada")
    return [f"{name}" for name in ("1.txt", "2.txt", "3.csv", "4.jsonl", "5.parquet", "6.csv", "7.txt")]


def test_everything_that_is_wrong_is_told_at_once(gateway: EchoGateway) -> None:
    """With file and line, before anything is submitted, and how to mend it."""
    result = ran(gateway, "extract", *bad_files(), "-l", "x")
    assert (result.exit_code, gateway.submitted) == (2, [])
    for location in (
        "2.txt: not",
        "3.csv, line 3:",
        "3.csv, line 4:",
        "4.jsonl, line 2:",
        "5.parquet: ",
        "6.csv: ",
    ):
        assert f"  {location}" in result.stderr
    assert "6 lines, rows or files are not valid documents" in result.stderr
    assert "--on-bad-line skip" in result.stderr


@pytest.mark.parametrize("command", ["extract", "redact"])
def test_bad_lines_are_skipped_by_choice(gateway: EchoGateway, command: str) -> None:
    """And counted, and listed at the end; the exit code is 1."""
    result = ran(gateway, command, *bad_files(), "-l", "x", "--on-bad-line", "skip", "-o", "out")
    assert (result.exit_code, "7 documents" in result.stderr, "6 skipped" in result.stderr) == (1, True, True)
    assert "skipped: 3.csv, line 3: 3 cells" in result.stderr
    extracted = lines("out")
    assert [line["id"] for line in extracted] == ["1.txt", "a", "d", "1", "3", "4", "7.txt"]
    assert [line["index"] for line in extracted] == list(range(7))
    assert (
        extracted[5]["error"]["code"] == "invalid_document"
    )  # a number is no text: its document's matter, as null is


def test_bad_lines_fail_as_documents_by_choice(gateway: EchoGateway) -> None:
    """In their places, with the gateway's own code and the reason."""
    command = ["extract", *bad_files(), "-l", "x", "--on-bad-line", "fail_document", "-o", "out.csv", "--json"]
    result = ran(gateway, *command)
    summary = json.loads(result.stdout)
    assert (result.exit_code, summary["documents"], summary["failed"]) == (1, 13, 8)
    assert summary["errors"] == {"invalid_document": 7, "empty_text": 1}
    rows = Path("out.csv").read_text().splitlines()
    assert rows[2] == "1,2.txt,failed,,,,,,invalid_document"
    assert "already complete" in ran(gateway, *command).stderr


def test_a_long_list_of_faults_is_cut(gateway: EchoGateway) -> None:
    """Of a file with another shape every line is one."""
    Path("a.jsonl").write_text('{"content": "Ada"}\n' * 5000)
    result = ran(gateway, "extract", "a.jsonl", "-l", "x")
    assert (result.exit_code, "and 4980 more" in result.stderr, len(result.stderr) < 5000) == (2, True, True)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('{"text": "Ada"}\n{"text": "Ada"}\n', "jsonl"),
        ('[{"text": "Ada"}]', "json"),
        ('[\n {"text": "Ada"}]', "json"),
        ("id,text\n1,Ada\n", "csv"),
        ("id\ttext\n1\tAda\n", "tsv"),
        ("<!doctype html><p>Ada", "html"),
    ],
)
def test_standard_input_of_another_form_is_told(gateway: EchoGateway, content: str, kind: str) -> None:
    """It would be one text in silence; said to be one, it is."""
    result = ran(gateway, "extract", "-", "-l", "x", stdin=content)
    assert (result.exit_code, f"--format {kind}" in result.stderr) == (2, True), result.stderr
    assert not gateway.submitted
    assert ran(gateway, "extract", "-", "-l", "x", "--format", "txt", stdin=content).exit_code == 0
    assert ran(gateway, "extract", "-", "-l", "x", "--format", kind, stdin=content).exit_code == 0
    assert ran(gateway, "extract", "-", "-l", "x", stdin="Ada, {and} [Grace]\nid, text").exit_code == 0


def test_suggesting_thresholds_tells_of_failures(gateway: EchoGateway) -> None:
    """The number of failed documents, their error codes and the exit code say so; bad lines as for `extract`."""
    Path("a.jsonl").write_text('{"text": "Ada"}\n{"text": ""}\n{"body": 1}\n')
    assert ran(gateway, "suggest-thresholds", "a.jsonl", "-l", "x").exit_code == 2
    result = ran(gateway, "suggest-thresholds", "a.jsonl", "-l", "x", "--on-bad-line", "skip")
    assert (result.exit_code, "2 documents, 1 failed (1 x empty_text), 1 skipped" in result.stdout) == (1, True)
    result = ran(gateway, "suggest-thresholds", "-", "--format", "lines", "-l", "x", stdin="Ada\nAda\n")
    assert (result.exit_code, "2 documents; " in result.stdout) == (0, True), result.stderr


def test_all_faults_of_gold_are_told_at_once(gateway: EchoGateway) -> None:
    """Of all files, patterns filled in, deep nesting and bytes that are no UTF-8 among them."""
    deep = b"[" * 100_000
    Path("a.jsonl").write_bytes(b"{}\n" + deep + b'\n{"text": "Zo\xeb"}\n')
    Path("b.jsonl").write_text('{"text": "Ada", "entities": [{"start": false, "end": true, "label": "x"}]}\n')
    result = ran(gateway, "evaluate", "*.jsonl", "missing.jsonl")
    for location in (
        "a.jsonl, line 1: ",
        "a.jsonl, line 2: ",
        "a.jsonl, line 3: ",
        "b.jsonl, line 1: ",
        "missing.jsonl: ",
    ):
        assert location in result.stderr
    assert result.exit_code == 2


@pytest.mark.parametrize("name", ["WEIRD", "é", "a\nb", "[bold]x[red"])
def test_names_of_files_are_text(gateway: EchoGateway, name: str) -> None:
    """Not UTF-8, with line breaks, with text that looks like markup: read, shown, written."""
    odd = b"\xff\x1b[2J.txt" if name == "WEIRD" else f"{name}.txt".encode()
    Path(os.fsdecode(odd)).write_text("Ada")
    process = started(gateway, "extract", os.fsdecode(odd), "-l", "x", stdout=subprocess.PIPE)
    line, said = process.communicate()
    assert (process.returncode, json.loads(line)["id"]) == (0, os.fsdecode(odd)), said
    bad = started(gateway, "extract", os.fsdecode(odd) + "x", "-l", "x", stdout=subprocess.PIPE)
    said = bad.communicate()[1]
    assert (bad.returncode, b"Traceback" in said, b"\x1b" in said) == (2, False, False), said


@pytest.mark.parametrize("command", ["extract", "redact"])
def test_closed_streams_and_full_disks(gateway: EchoGateway, command: str) -> None:
    """A sentence and exit code 2; a reader that has enough ends the command quietly."""
    Path("in.jsonl").write_text('"Ada"\n' * 3000)
    arguments = [command, "in.jsonl", "-l", "x"]
    process = started(gateway, *arguments, stdout=None, preexec_fn=lambda: os.close(1))
    assert b"standard output is closed" in process.communicate()[1]
    assert process.returncode == 2
    process = started(gateway, command, "-", "-l", "x", "-o", "out1", preexec_fn=lambda: os.close(0))
    assert b"standard input is closed" in process.communicate()[1]
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        process = started(gateway, *arguments, stdout=full)
        said = process.communicate()[1]
    assert (process.returncode, b"No space left" in said, b"Traceback" in said) == (2, True, False), said
    process = started(gateway, *arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), said) == (1, b"") or b"Traceback" not in said


def test_a_disk_that_is_full_costs_nothing_that_is_done(gateway: EchoGateway) -> None:
    """The same command goes on once there is room."""
    Path("in.jsonl").write_text("".join(f'"Ada {number}"\n' for number in range(1500)))

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = ["extract", "in.jsonl", "-l", "x", "-o", "out.jsonl"]
    process = started(gateway, *command, preexec_fn=little_room)
    said = process.communicate()[1]
    assert (process.returncode, b"Traceback" in said, b"run the same command again to resume" in said) == (
        2,
        False,
        True,
    ), said
    jobs = len(gateway.submitted)
    result = ran(gateway, *command)
    assert (result.exit_code, "Resuming: " in result.stderr) == (0, True), result.stderr
    assert [line["index"] for line in lines("out.jsonl")] == list(range(1500))
    assert jobs < len(gateway.submitted) == 1500


def test_proxy_variables_end_in_a_sentence(gateway: EchoGateway) -> None:
    """Whatever they hold."""
    for value in ("socks5://127.0.0.1:9", "nonsense"):
        environment = command_environment({"ALL_PROXY": value, "all_proxy": value})
        command = [*COMMAND, "models", "--url", "http://gleaner.example"]
        process = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert (process.returncode, b"Traceback" in process.stderr) == (3, False), process.stderr


def test_a_table_for_excel(gateway: EchoGateway) -> None:
    """Guarded cells unless raw ones are asked for, and a byte order mark where it is."""
    Path("in.jsonl").write_text('{"id": "=1+1", "text": "Ada"}\n')
    ran(gateway, "extract", "in.jsonl", "-l", "x", "-o", "a.csv")
    assert ",'=1+1," in Path("a.csv").read_text()
    ran(gateway, "extract", "in.jsonl", "-l", "x", "-o", "b.tsv", "--csv", "raw", "--bom")
    assert Path("b.tsv").read_bytes().startswith(b"\xef\xbb\xbfindex\t")
    assert "\t=1+1\t" in Path("b.tsv").read_text()
    assert ran(gateway, "extract", "in.jsonl", "-l", "x", "-o", "c.jsonl", "--bom").exit_code == 2
    assert "'=1+1" in ran(gateway, "redact", "in.jsonl", "-l", "x", "--output-format", "csv").stdout


def test_a_large_text_in_parts(gateway: EchoGateway) -> None:
    """Offsets are those of the whole text."""
    text = "\n\n".join(f"é Ada {number}" for number in range(100_000))
    Path("a.txt").write_text(text)
    assert ran(gateway, "extract", "a.txt", "-l", "x", "--split", "-o", "out").exit_code == 0
    extracted = lines("out")
    assert [line["id"] for line in extracted] == ["a.txt#1", "a.txt#2"]
    starts = [entity["start"] for line in extracted for entity in line["entities"]]
    assert len(starts) == 100_000
    assert {text[start : start + 3] for start in starts} == {"Ada"}


@pytest.mark.parametrize("option", ["--encoding=none", "--delimiter=ab", "--ignore-columns=id", "--encoding=hex"])
def test_options_that_cannot_be_are_told(gateway: EchoGateway, option: str) -> None:
    """Before any file is read."""
    result = ran(gateway, "extract", "in.csv", "-l", "x", option)
    assert (result.exit_code, option.partition("=")[0] in result.stderr) == (2, True)
