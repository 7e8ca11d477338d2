"""The demo's documents."""

from __future__ import annotations

from gleaner.demo.samples import Sample, load_samples


def test_samples_are_complete() -> None:
    """Ids are unique, every text has labels, and exactly the last is long enough for several windows."""
    samples = load_samples()

    assert len({sample.id for sample in samples}) == len(samples) == 10
    assert all(sample.labels and sample.text.strip() == sample.text for sample in samples[:-1])
    assert [sample.id for sample in samples if len(sample.text) > 2000] == ["long-railway"]


def test_a_document_has_options_only_if_the_sample_differs() -> None:
    """Labels keep their form: a list, or descriptions."""
    described = {"disease": "a disorder"}

    assert Sample("a", ["person"], "x").to_document() == {"id": "a", "text": "x", "labels": ["person"]}
    assert Sample("b", described, "y", 0.6).to_document() == {
        "id": "b",
        "text": "y",
        "labels": described,
        "options": {"threshold": 0.6},
    }
    assert [sample.threshold for sample in load_samples() if sample.threshold is not None] == [0.6]
