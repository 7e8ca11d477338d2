"""An accepted job, as routes report it."""

from __future__ import annotations

from gateway.submission.types import AcceptedJob


def test_only_a_job_that_was_just_created_has_to_be_confirmed() -> None:
    """A replay's job was confirmed when it was created, and may be deleted by now."""
    assert AcceptedJob("job_1", lambda: b"").created == "job_1"
    assert AcceptedJob("job_1", lambda: b"", is_replay=True).created == ""
