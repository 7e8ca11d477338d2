"""Entities drawn in their text: overlaps, other scripts, control characters, abridged texts."""

from __future__ import annotations

from rich.text import Text

from gleaner.demo.highlight import Part, assign_colours, excerpt_around, highlight
from gleaner.demo.samples import load_samples
from gleaner.models import Entity

PALETTE = assign_colours(["person", "city", "place"])


def entity(text: str, inside: str, label: str) -> Entity:
    """Return the first occurrence of a text as an entity."""
    start = inside.index(text)
    return Entity(start, start + len(text), text, label, 0.9)


def styled(shown: Text, word: str) -> set[str]:
    """Styles on the first occurrence of a word."""
    at = shown.plain.index(word)
    return {str(span.style) for span in shown.spans if span.start <= at and at + len(word) <= span.end}


def test_each_entity_is_coloured_and_named() -> None:
    """The label stands behind the entity; the rest of the text is as it was."""
    text = "Zoë met 李明 😀 in Tokyo."
    entities = [entity("Zoë", text, "person"), entity("李明", text, "person"), entity("Tokyo", text, "city")]
    shown = highlight(text, entities, PALETTE, [Part(0, len(text))])

    assert shown.plain == "Zoë[person] met 李明[person] 😀 in Tokyo[city]."
    assert styled(shown, "Zoë") == {f"bold {PALETTE['person']}"}
    assert styled(shown, "Tokyo") == {f"bold {PALETTE['city']}"}


def test_overlapping_entities_are_all_there() -> None:
    """Nested, crossing and equal spans: every label appears, and shared characters are underlined."""
    text = "University of New York City"
    entities = [
        entity("University of New York", text, "place"),
        entity("New York", text, "city"),
        entity("New York City", text, "place"),
        entity("New York City", text, "city"),
    ]
    shown = highlight(text, entities, PALETTE, [Part(0, len(text))])

    assert shown.plain == "University of New York[city][place] City[place][city]"
    assert styled(shown, "New York") == {f"bold {PALETTE['city']} underline"}
    assert styled(shown, "University of ") == {f"bold {PALETTE['place']}"}


def test_control_characters_do_not_reach_the_terminal() -> None:
    """Escape sequences and newlines in a text are drawn, not obeyed; offsets stay right."""
    text = "a\x1b[2J\nAda\tb"
    shown = highlight(text, [entity("Ada", text, "person")], PALETTE, [Part(0, len(text))])

    assert shown.plain == "a\N{REPLACEMENT CHARACTER}[2J Ada[person] b"


def test_a_long_text_is_abridged_around_its_entities() -> None:
    """Parts keep to the limit, are cut between words, hold whole entities, and gaps are marked."""
    text = "word " * 100 + "Ada Lovelace" + " word" * 100 + " Berlin" + " word" * 100
    entities = [entity("Ada Lovelace", text, "person"), entity("Berlin", text, "city")]
    parts = excerpt_around(text, entities, 300)
    shown = highlight(text, entities, PALETTE, parts)

    assert sum(part.end - part.start for part in parts) <= 300
    assert "Ada Lovelace[person]" in shown.plain
    assert "Berlin[city]" in shown.plain
    assert shown.plain.startswith("… word")
    assert shown.plain.endswith("word …")
    assert " … " in shown.plain
    assert set(shown.plain.replace("…", "").split()) == {"word", "Ada", "Lovelace[person]", "Berlin[city]"}


def test_neighbouring_parts_join() -> None:
    """Entities close to each other share one part."""
    text = "word " * 100 + "Ada and Grace" + " word" * 100
    assert len(excerpt_around(text, [entity("Ada", text, "x"), entity("Grace", text, "x")], 500)) == 1


def test_without_entities_the_beginning_is_shown() -> None:
    """A long text in which nothing was found is cut after the limit."""
    assert excerpt_around("word " * 100, [], 52) == [Part(0, 49)]


def test_the_samples_are_as_promised() -> None:
    """About ten documents with separate labels, one over 2,000 words, one with emoji and other scripts."""
    shown = load_samples()

    assert len(shown) == 10
    assert len({sample.id for sample in shown}) == 10
    assert max(len(sample.text.split()) for sample in shown) > 2000
    assert any("😀" in sample.text and "東" in sample.text for sample in shown)
    assert len({tuple(sample.labels) for sample in shown}) > 6
