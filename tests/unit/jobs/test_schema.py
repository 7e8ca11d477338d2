"""Options of jobs and documents."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from jobs.schema import DEFAULT_THRESHOLD, JobStatus, Options, Redact


def test_an_option_of_a_document_replaces_the_jobs() -> None:
    """All others stay; without options it has the job's."""
    job = Options(threshold=0.3, flat=False)
    assert job.with_overrides(None) is job
    assert job.with_overrides({"threshold": 0.9}) == Options(threshold=0.9, flat=False)
    assert job.with_overrides({"flat": True}) == Options(threshold=0.3)


@pytest.mark.parametrize(
    ("options", "thresholds"),
    [
        (Options(), (0.7, 0.7)),
        (Options(threshold=0.2), (0.2, 0.2)),
        (Options(threshold={"a": 0.1}), (0.1, 0.7)),
    ],
)
def test_the_models_threshold_is_for_labels_without_one(options: Options, thresholds: tuple[float, ...]) -> None:
    """A request's own threshold goes first."""
    assert options.with_default("ab", 0.7).label_thresholds("ab") == thresholds
    assert Options().label_thresholds("a") == (DEFAULT_THRESHOLD,)


@pytest.mark.parametrize(
    "refused",
    [
        {"threshold": None},
        {"threshold": 2},
        {"redact": True, "return_text": True},
        {"redact": {"mode": "mask", "numbered": True}},
        {"redact": {"mode": "label", "length": 3}},
        {"redact": {"mode": "mask", "character": " "}},
        {"unknown": 1},
    ],
)
def test_options_that_contradict_each_other_are_refused(refused: dict[str, object]) -> None:
    """A request with them gets its errors, and no default in their place."""
    with pytest.raises(ValidationError):
        Options.model_validate(refused)


def test_a_redaction_covers_its_labels() -> None:
    """All, where it names none; `true` is the default redaction, `false` none."""
    assert Redact().covers("person")
    assert [Redact(labels=["person"]).covers(label) for label in ("person", "city")] == [True, False]
    assert Options(redact=True).redaction == Redact()
    assert Options().redaction is None


def test_a_job_ends_once() -> None:
    """A job that waits or runs has not ended."""
    assert {status.value for status in JobStatus if not status.is_terminal} == {"queued", "running", "cancelling"}
