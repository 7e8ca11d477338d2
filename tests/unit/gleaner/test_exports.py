"""Results as spaCy documents, IOB2 tags and Label Studio tasks: nested and overlapping entities, offset units."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin

from gleaner import exports
from gleaner.dataframes import MissingExtraError
from gleaner.models import ClassScore, DocumentError, Entity, Relation, Result

TEXT = "😀 The University of London's library, Zoë said."
UNIVERSITY, LONDON, ZOE = "University of London", "London", "Zoë"


def measured(text: str, unit: str) -> int:
    """Return the length of a text in a unit."""
    return {"codepoint": len(text), "utf16": len(text.encode("utf-16-le")) // 2, "byte": len(text.encode())}[unit]


def entity(text: str, label: str, unit: str = "codepoint") -> Entity:
    """Return a part of TEXT as an entity."""
    start = measured(TEXT[: TEXT.index(text)], unit)
    return Entity(start, start + measured(text, unit), text, label, 0.5 + len(text) / 100)


def result(*entities: Entity, text: str | None = None) -> Result:
    """Return a document's result."""
    return Result(0, "a", "succeeded", entities, text=text)


def nested(unit: str = "codepoint") -> Result:
    """Return a result with one entity inside another, and one next to them."""
    return result(entity(UNIVERSITY, "school", unit), entity(LONDON, "city", unit), entity(ZOE, "person", unit))


FAILED = Result(1, "b", "failed", error=DocumentError("empty_text", "it is empty"))

every_unit = pytest.mark.parametrize("unit", ["codepoint", "utf16", "byte"])


@every_unit
def test_a_doc_has_every_entity_in_spans_and_the_longer_ones_in_ents(unit: exports.OffsetUnit) -> None:
    """Nested entities are kept in doc.spans with their scores; doc.ents cannot hold them and keeps the longer."""
    [doc] = exports.docs([nested(unit)], [TEXT], offset_unit=unit)

    group = doc.spans[exports.SPANS_KEY]
    assert [(span.text, span.label_) for span in group] == [
        (UNIVERSITY, "school"),
        (LONDON, "city"),
        (ZOE, "person"),
    ]
    assert group.attrs["scores"] == pytest.approx([0.7, 0.56, 0.53])
    assert [(span.text, span.label_) for span in doc.ents] == [(UNIVERSITY, "school"), (ZOE, "person")]
    assert doc.user_data["id"] == "a"


def test_an_entity_within_a_token_takes_the_token() -> None:
    """A tokenizer that cuts otherwise than the model moves the entity's ends outwards, never inwards."""
    [doc] = exports.docs([result(Entity(0, 3, "New", "x", 0.9))], ["NewYork is big"], nlp=spacy.blank("en"))
    assert [span.text for span in doc.ents] == ["NewYork"]


def test_a_docbin_comes_back_from_disk(tmp_path: Path) -> None:
    """The file for `spacy train` has entities, spans and ids; failed documents are omitted."""
    exports.docbin([nested(), FAILED], [TEXT, ""]).to_disk(tmp_path / "a.spacy")

    [doc] = DocBin(store_user_data=True).from_disk(tmp_path / "a.spacy").get_docs(spacy.blank("xx").vocab)
    assert [span.label_ for span in doc.ents] == ["school", "person"]
    assert (len(doc.spans[exports.SPANS_KEY]), doc.user_data["id"]) == (3, "a")


@every_unit
def test_iob2_has_one_tag_a_token(unit: exports.OffsetUnit) -> None:
    """The longer of two overlapping entities has the tokens; adjacent entities each begin with B."""
    [pairs] = exports.iob2([nested(unit)], [TEXT], offset_unit=unit)

    assert [pair for pair in pairs if pair[1] != "O"] == [
        ("University", "B-school"),
        ("of", "I-school"),
        ("London", "I-school"),
        ("Zoë", "B-person"),
    ]
    assert [token for token, _ in pairs] == [
        *("😀", "The", "University", "of", "London", "'", "s", "library", ",", "Zoë", "said", ".")
    ]


def test_iob2_takes_another_tokenizer() -> None:
    """A token that an entity touches belongs to it, wherever the tokenizer cuts."""

    def halves(text: str) -> list[tuple[int, int]]:
        return [(0, 6), (6, len(text))]

    [pairs] = exports.iob2([result(Entity(4, 8, "x", "x", 0.9))], ["0123456789"], tokenize=halves)
    assert pairs == [("012345", "B-x"), ("6789", "I-x")]


@every_unit
def test_label_studio_counts_code_points(unit: exports.OffsetUnit) -> None:
    """Tasks have the text and every entity, with offsets that cut it in Python, whatever the job's unit."""
    [task] = exports.label_studio([nested(unit), FAILED], [TEXT, ""], offset_unit=unit, from_name="ner")

    [prediction] = task["predictions"]
    values = [region["value"] for region in prediction["result"]]
    assert [TEXT[value["start"] : value["end"]] for value in values] == [UNIVERSITY, LONDON, ZOE]
    assert {region["from_name"] for region in prediction["result"]} == {"ner"}
    assert len({region["id"] for region in prediction["result"]}) == 3
    assert prediction["score"] == pytest.approx(0.53)


def test_texts_may_come_with_the_results() -> None:
    """With return_text, texts are optional; without either, or with a wrong number of texts, it is an error."""
    [pairs] = exports.iob2([result(text="Ada")])
    assert pairs == [("Ada", "O")]
    with pytest.raises(ValueError, match="return_text=True"):
        list(exports.iob2([result()]))
    with pytest.raises(ValueError, match="shorter"):
        list(exports.iob2([result(), result()], ["Ada"]))


def test_without_spacy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to install the library."""
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtraError, match=r"gleaner-ner\[spacy\]"):
        list(exports.docs([], []))


def with_tasks() -> Result:
    """Return a result with a relation and the classes of two classifications."""
    scores = {
        "topic": (ClassScore("library", 0.75), ClassScore("sport", 0.25)),
        "mood": (ClassScore("calm", 0.75), ClassScore("kind", 0.625)),
        "tone": (),
    }
    return replace(nested(), relations=(Relation("works for", 2, 0, 0.5),), classifications=scores)


def test_a_doc_has_relations_and_classes() -> None:
    """They survive a DocBin; a document for which none were requested has neither."""
    [doc] = exports.docbin([with_tasks()], [TEXT]).get_docs(spacy.blank("xx").vocab)
    [relation] = doc.user_data["relations"]
    spans = doc.spans[exports.SPANS_KEY]
    assert (spans[relation["head"]].text, relation["label"], spans[relation["tail"]].text) == (
        ZOE,
        "works for",
        UNIVERSITY,
    )
    assert doc.cats == {"topic/library": 0.75, "topic/sport": 0.25, "mood/calm": 0.75, "mood/kind": 0.625}
    [plain] = exports.docs([nested()], [TEXT])
    assert ("relations" in plain.user_data, plain.cats) == (False, {})


def test_label_studio_has_relations_and_choices() -> None:
    """The best class is chosen, or every class of a classification that allows several."""
    [task] = exports.label_studio([with_tasks()], [TEXT], multi_label=["mood", "tone"])
    regions = task["predictions"][0]["result"]
    assert regions[3:] == [
        {
            "type": "relation",
            "from_id": regions[2]["id"],
            "to_id": regions[0]["id"],
            "direction": "right",
            "labels": ["works for"],
            "score": 0.5,
        },
        {
            "from_name": "topic",
            "to_name": "text",
            "type": "choices",
            "score": 0.75,
            "value": {"choices": ["library"]},
        },
        {
            "from_name": "mood",
            "to_name": "text",
            "type": "choices",
            "score": 0.625,
            "value": {"choices": ["calm", "kind"]},
        },
    ]
