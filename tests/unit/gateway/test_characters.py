from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.characters import control_error, label_error, label_key, string_error

INVISIBLE = (
    "\u200b|\ufeff|\u2060\u200d|\ufe0f|\U000e0100|\u0301|\u00ad|\u034f|\u115f|\u3164|\uffa0|\u2800|\u202e|\U000e0041|\u0378|"
    " \u200b |\u3000\u200c|\u180e|\U000e01ef\ufe00"
)
CONTROLS = "a\x07|\x1b[31m|a\nb|a\r\nb|a\tb|\x85a|a\x7f|a\u2028b|a\u2029"
LABELS = "person|名前|é|e\u0301|☎️|👩\u200d🔬|\u0646\u0627\u0645\u200c\u0647\u0627|C++|\u00bf|प्र"


@pytest.mark.parametrize("label", INVISIBLE.split("|"))
def test_a_label_that_nobody_sees_is_none(label: str) -> None:
    """Zero-width characters, selectors, marks alone, fillers, unassigned code points."""
    assert label_error(label, 128) == "must have a visible character"


@pytest.mark.parametrize("label", CONTROLS.split("|"))
def test_control_characters_and_line_breaks_are_refused(label: str) -> None:
    """In labels, ids and names; the character is named by its number."""
    for error in (string_error(label, 128), label_error(label, 128), control_error(label)):
        assert error is not None
        assert error.startswith("must not contain control characters or line breaks (U+")


@pytest.mark.parametrize("label", LABELS.split("|"))
def test_labels_of_all_scripts_are_labels(label: str) -> None:
    """Also with joiners and marks inside of them."""
    assert label_error(label, 128) is None


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20))
def test_labels_that_look_the_same_have_the_same_key(label: str) -> None:
    """However they are composed, and whatever invisible or blank stands around them."""
    same = [unicodedata.normalize(form, label) for form in ("NFC", "NFD")]
    same += [f" {label}\t", f"\u200b{label}\ufe0f", f"{label}\u00ad"]

    assert {label_key(other) for other in same} == {label_key(label)}
