"""Redaction, explanations and evaluation against the shipped model, through the whole stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from gleaner.client import Client
from gleaner.errors import ValidationError
from tests.support.processes.local_stack import RunningStack, gleaner

LABELS = ["person", "city"]
MARKED = [
    "<person>Ada Lovelace</person> lived in <city>London</city>.",
    "<person>Grace Hopper</person> joined the Navy in <city>New York</city>.",
    "<person>Marie Curie</person> worked in <city>Paris</city> for most of her life.",
    "The train to <city>Vienna</city> was late again.",
    "<person>Alan Turing</person> was born in <city>London</city>.",
    "Nobody came to the meeting.",
    "<person>Angela Merkel</person> met <person>Emmanuel Macron</person> in <city>Berlin</city>.",
    "In <city>Lisbon</city> it rained all week.",
    "The book was written by <person>Jane Austen</person>.",
    "<person>Emmy Noether</person> taught in <city>Göttingen</city>.",
]


def gold_line(marked: str) -> dict[str, Any]:
    """Convert a text with marked entities to a line of gold data."""
    text, entities = "", []
    for part in marked.replace("<", "\0").replace(">", "\0").split("\0"):
        if part in LABELS:
            entities.append({"start": len(text), "end": 0, "label": part})
        elif part.startswith("/"):
            entities[-1]["end"] = len(text)
        else:
            text += part
    return {"text": text, "entities": entities}


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    """Ten sentences of our own."""
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(json.dumps(gold_line(marked)) + "\n" for marked in MARKED))
    return path


def test_redacted_texts_come_back_and_nothing_else_is_kept(stack: RunningStack, client: Client) -> None:
    """The value of a hidden entity is in no answer, and, the job once done, nowhere in the store."""
    name = "Marguerite Duras"
    text = f"{name} wrote in Paris. Years later {name} came back."
    job = client.submit([text], LABELS, redact={"mode": "hash", "labels": ["person"]}).wait(30)
    [result] = job.results()

    assert result.redacted_text is not None
    assert name not in json.dumps(result.to_json())
    first, second = (entity for entity in result.entities if entity.label == "person")
    assert first.text == second.text
    assert first.text.startswith("[PERSON:")
    [city] = [entity for entity in result.entities if entity.label == "city"]
    for entity in result.entities:
        assert entity.redacted is not None
        assert result.redacted_text[slice(*entity.redacted)] == entity.text
    assert (city.text, text[city.start : city.end]) == ("Paris", "Paris")
    assert client.extract([name + " spoke."], LABELS, redact={"mode": "hash"})[0].entities[0].text == first.text
    assert _stored(stack, job.id) == [b"out"]


def _stored(stack: RunningStack, job_id: str) -> list[bytes]:
    """Return the kinds of blobs that are left of the job's documents."""
    with redis.from_url(stack.facts["redis_url"]) as store:
        kinds = [(kind, f"{{gleaner}}:{kind}:{job_id}") for kind in ("in", "part", "out")]
        return [kind.encode() for kind, key in kinds if store.exists(key)]


def test_a_text_cannot_be_hidden_and_returned(client: Client) -> None:
    """Requesting both is refused, for the job and for a single document."""
    with pytest.raises(ValidationError, match="return_text"):
        client.submit(["Ada"], LABELS, redact=True, return_text=True)
    with pytest.raises(ValidationError, match="return_text"):
        client.submit([{"text": "Ada", "options": {"redact": True}}], LABELS, return_text=True)


def test_an_entity_says_why_it_was_found(client: Client) -> None:
    """The other label scored less on the same words; the shipped model knows the precision of its scores."""
    text = "Ada Lovelace lived in London. " * 120
    [result] = client.extract([text], LABELS, explain=True)
    assert result.windows > 1
    assert len(result.entities) == 240
    for entity in result.entities:
        assert entity.explain is not None
        start, end = entity.explain.window
        assert start <= entity.start < entity.end <= end
        assert all(label in LABELS and label != entity.label for label, _ in entity.explain.runners_up)
        assert all(score <= entity.score for _, score in entity.explain.runners_up)
        assert entity.explain.confidence is not None
        assert abs(entity.explain.confidence - entity.score) < 0.2
    assert any(entity.explain and entity.explain.runners_up for entity in result.entities)
    [plain] = client.extract([text], LABELS)
    assert [e.text for e in plain.entities] == [e.text for e in result.entities]
    assert plain.entities[0].explain is None


def test_redact_writes_texts_and_goes_on(stack: RunningStack, tmp_path: Path) -> None:
    """A line a document, in order; the same command again finds its work done."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_text("id,text\na,Ada Lovelace lived in London.\nb,Grace Hopper lived in New York.\n")
    command = ("redact", str(source), "-l", "person", "-l", "city", "--hide", "person", "--numbered", "-o")
    environment = ("--data-dir", str(stack.directory))
    done = gleaner(*command, str(output), *environment)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(line["id"], line["redacted_text"]) for line in lines] == [
        ("a", "[PERSON_1] lived in London."),
        ("b", "[PERSON_1] lived in New York."),
    ]
    assert "Hopper" not in output.read_text()
    table = tmp_path / "out.csv"
    assert gleaner(*command, str(table), *environment).returncode == 0
    assert table.read_text().splitlines()[:2] == [
        "index,id,status,text,error",
        "0,a,succeeded,[PERSON_1] lived in London.,",
    ]
    assert "already complete" in gleaner(*command, str(output), *environment).stderr
    strange = gleaner("redact", str(source), "-l", "person", "--hide", "persn", *environment)
    assert strange.returncode == 2
    assert "not looked for: persn" in strange.stderr


def test_evaluate_measures_the_model(stack: RunningStack, gold: Path, tmp_path: Path) -> None:
    """The model is good on easy sentences; the printed thresholds can be passed to `extract` unchanged."""
    environment = ("--data-dir", str(stack.directory))
    plot = tmp_path / "sweep.png"
    done = gleaner("evaluate", str(gold), "--json", "--plot", str(plot), *environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["documents"], report["failed"]) == (10, 0)
    assert report["overall"]["all"]["strict"]["gold"] == 16
    assert report["overall"]["all"]["strict"]["f1"] > 0.8
    assert set(report["overall"]["labels"]) == set(LABELS)
    assert plot.stat().st_size > 10_000

    flags = report["flags"].split()
    again = gleaner("evaluate", str(gold), "--json", *flags, *environment)
    assert again.returncode == 0, again.stderr
    best = json.loads(again.stdout)["overall"]["all"]["strict"]["f1"]
    assert best >= report["overall"]["all"]["strict"]["f1"]
    table = gleaner("evaluate", str(gold), *environment)
    assert "precision" in table.stdout
    assert "flags:" in table.stdout


def test_thresholds_are_suggested_from_gold_alone(stack: RunningStack, gold: Path) -> None:
    """Without gold data the output shows how many entities remain, and that their precision is unknown."""
    environment = ("--data-dir", str(stack.directory))
    exact = gleaner("suggest-thresholds", str(gold), "--gold", "--precision", "1", "--json", *environment)
    assert exact.returncode == 0, exact.stderr
    suggestion = json.loads(exact.stdout)["best"]["person"]
    assert suggestion["precision"] == 1.0
    assert 0 < suggestion["threshold"] < 1

    blind = gleaner("suggest-thresholds", str(gold), "-l", "person", *environment)
    assert blind.returncode == 0, blind.stderr
    assert "does not show which entities are correct" in blind.stdout
    assert gleaner("suggest-thresholds", str(gold), *environment).returncode == 2
    assert gleaner("suggest-thresholds", str(gold), "-l", "x", "--precision", "1", *environment).returncode == 2


def test_adjacent_entities_become_one_where_asked(stack: RunningStack, client: Client, tmp_path: Path) -> None:
    """Adjacent entities merge in the client, for one document and in the command; others stay the same."""
    text = "Ada Lovelace Grace Hopper Marie Curie met."  # in which the model finds two persons, next to each other
    apart, *_ = client.extract([text], LABELS, merge_adjacent=False)
    pieces = {"text": text, "options": {"merge_adjacent": False}}
    merged, alone = client.extract([text, pieces], LABELS, merge_adjacent=True)
    usual, *_ = client.extract([text], LABELS)
    path, output = tmp_path / "text.txt", tmp_path / "out.jsonl"
    path.write_text(text)
    options = ("-l", "person", "-l", "city", "--merge-adjacent", "-o", str(output))
    run = gleaner("extract", str(path), *options, "--data-dir", str(stack.directory))

    assert [entity.text for entity in usual.entities] == ["Ada Lovelace Grace Hopper", "Marie Curie"]
    assert apart.entities == alone.entities == usual.entities
    [joined] = merged.entities
    assert (joined.text, joined.label) == (text.removesuffix(" met."), "person")
    assert joined.score == min(entity.score for entity in usual.entities)
    assert run.returncode == 0, run.stderr
    assert [entity["text"] for entity in json.loads(output.read_text())["entities"]] == [joined.text]
