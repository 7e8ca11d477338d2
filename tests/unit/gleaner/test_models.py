"""The gateway's JSON as values: unknown fields are ignored, missing and null ones have defaults."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.models import (
    ClassScore,
    Counts,
    DocumentError,
    Entity,
    Explanation,
    JobInfo,
    Limits,
    Model,
    Rate,
    Relation,
    Result,
    Usage,
    parse_fields,
)

SHARES = st.floats(0, 1)
ENTITIES = st.builds(
    Entity,
    *(st.integers(0, 99), st.integers(0, 99), st.text(), st.text(), SHARES),
    redacted=st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99)),
    explain=st.none()
    | st.builds(
        Explanation,
        st.lists(st.tuples(st.text(), SHARES)).map(tuple),
        st.tuples(st.integers(0, 99), st.integers(0, 99)),
        st.none() | SHARES,
    ),
)
RESULTS = st.builds(
    Result,
    *(st.integers(0, 99), st.text(), st.sampled_from(["succeeded", "failed"])),
    entities=st.lists(ENTITIES, max_size=3).map(tuple),
    windows=st.integers(0, 9),
    truncated=st.booleans(),
    warnings=st.lists(st.text()).map(tuple),
    attempts=st.integers(0, 9),
    error=st.none() | st.builds(DocumentError, st.text(), st.text(), st.booleans()),
    text=st.none() | st.text(),
    redacted_text=st.none() | st.text(),
    relations=st.none()
    | st.lists(st.builds(Relation, st.text(), st.integers(0, 2), st.integers(0, 2), SHARES), max_size=2).map(tuple),
    classifications=st.none()
    | st.dictionaries(
        st.text(), st.lists(st.builds(ClassScore, st.text(), SHARES), max_size=2).map(tuple), max_size=2
    ),
)


@given(RESULTS)
def test_a_result_is_read_as_it_is_written(result: Result) -> None:
    """Through JSON, whatever its options."""
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_optional_parts_are_not_written() -> None:
    """A text that was not asked for has no field; an error always has one."""
    body = Result(0, "0", "succeeded", (Entity(0, 3, "Ada", "person", 0.9),)).to_json()

    assert list(body) == [
        *("index", "id", "status", "entities", "windows", "truncated", "warnings", "attempts", "error"),
    ]
    assert list(body["entities"][0]) == ["start", "end", "text", "label", "score"]


def test_answers_of_tasks_are_none_unless_requested() -> None:
    """Nothing found is empty; not requested, or an older gateway's result, is None and yields no relation."""
    body = Result(0, "0", "succeeded").to_json()
    plain, empty = Result.from_json(body), Result.from_json({**body, "relations": [], "classifications": {}})
    assert (plain.relations, plain.classifications, list(plain.relation_entities())) == (None, None, [])
    assert (empty.relations, empty.classifications) == ((), {})


def test_a_models_tasks() -> None:
    """Empty before a worker announced them, and with an older gateway."""
    assert Model.from_json({"name": "m", "tasks": ["entities", "relations"]}).tasks == ("entities", "relations")
    assert Model.from_json({"name": "m"}).tasks == ()


def test_a_job_of_another_version() -> None:
    """Fields of a newer gateway are ignored, those of an older one missing; null is as good as missing."""
    body = {"id": "job_1", "status": "queued", "progress": None, "model": None, "of_tomorrow": 1, "counts": None}

    assert JobInfo.from_json(body) == JobInfo("job_1", "queued", counts=Counts(), usage=Usage())


def test_a_job_with_everything() -> None:
    """Times are datetimes with a zone, error codes a mapping."""
    info = JobInfo.from_json(
        {
            "id": "job_1",
            "status": "failed",
            "model": "m",
            "progress": 1.0,
            "metadata": {"a": "b"},
            "counts": {"total": 2, "failed": 2, "of_tomorrow": 0},
            "usage": {"characters": 9},
            "created_at": "2026-01-02T03:04:05Z",
            "finished_at": None,
            "error_summary": [{"code": "empty_text", "count": 2}],
        }
    )

    assert info.done
    assert info.counts.finished == 2
    assert info.usage.characters == 9
    assert (info.created_at, info.finished_at) == (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None)
    assert info.error_summary == {"empty_text": 2}


@pytest.mark.parametrize(
    ("body", "name"), [({"name": "m"}, "m"), ({"id": "m"}, "m"), ({"id": "i", "name": "m"}, "m")]
)
def test_a_model_has_a_name(body: dict[str, Any], name: str) -> None:
    """Older gateways called it id."""
    assert Model.from_json({**body, "workers": None}) == Model(name)


def test_limits() -> None:
    """Each rate is a value; None is no limit."""
    rate = {
        "name": "key/requests",
        "measure": "requests",
        "scope": "key",
        "limit": 9,
        "window_s": 1,
        "remaining": 8,
        "resets_in_s": 1,
        "of_tomorrow": True,
    }
    limits = Limits.from_json(
        {"tenant": "t", "key_id": "k", "role": "admin", "rates": [rate], "open": {"jobs": None}}
    )

    assert limits.rates == (Rate("key/requests", "requests", "key", 9, 1, 8, 1),)
    assert limits.open == {"jobs": None}
    assert limits.request == {}


def test_a_required_field_that_is_missing_is_an_error() -> None:
    """The client then reports a response that it cannot parse."""
    with pytest.raises(TypeError, match="status"):
        parse_fields(JobInfo, {"id": "job_1"})
