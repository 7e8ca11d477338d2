"""Words, labels and characters as people and PDFs write them, through the service and the real model."""

from __future__ import annotations

import unicodedata

import pytest

from gleaner import Client

TEXT = "José Martínez met Zoë Ångström in London, and Ada Lovelace wrote to François Müller."


def test_both_forms_of_accents_are_read_and_hidden_alike(client: Client) -> None:
    """NFD as macOS and PDFs write it: the same entities, exact offsets, and no half of a name stays."""
    forms = [unicodedata.normalize(form, TEXT) for form in ("NFC", "NFD")]
    composed, decomposed = client.extract(forms, ["person", "city"])
    assert len(composed.entities) >= 4
    assert [unicodedata.normalize("NFC", entity.text) for entity in decomposed.entities] == [
        entity.text for entity in composed.entities
    ]
    for entity in decomposed.entities:
        assert forms[1][entity.start : entity.end] == entity.text
    first, second = client.extract(forms, ["person", "city"], redact=True)
    assert first.redacted_text == second.redacted_text
    assert not any(map(unicodedata.combining, second.redacted_text or ""))


@pytest.mark.parametrize(
    "label", ["<<ENT>>", "<<SEP>>", "[SEP]", "[CLS] [PAD]", "[MASK]", "<<ENT>> <<SEP>>", "[UNK]"]
)
def test_a_label_of_special_tokens_takes_nobodys_answers(client: Client, label: str) -> None:
    """It is not asked for, which a warning says; the others are found as without it."""
    [alone] = client.extract([TEXT], ["person", "city"])
    [beside] = client.extract([TEXT], ["person", label, "city"])
    assert [entity.to_json() for entity in beside.entities] == [entity.to_json() for entity in alone.entities]
    assert any("cannot read" in warning for warning in beside.warnings)
    [failed] = client.extract([TEXT], [label])
    assert failed.error is not None
    assert failed.error.code == "invalid_document"


def test_control_characters_are_read_past(client: Client) -> None:
    """A NUL from a PDF fails nothing; a name with one inside is hidden whole."""
    text = "\x00Ada Lovelace\x01 lived in London.\x00"
    [result] = client.extract([text], ["person", "city"])
    assert [entity.text for entity in result.entities] == ["Ada Lovelace", "London"]
    [hidden] = client.extract([text], ["person", "city"], redact=True)
    assert "Lovelace" not in (hidden.redacted_text or "")
