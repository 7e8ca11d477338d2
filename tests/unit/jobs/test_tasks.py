"""Tasks of a document: which are asked, and how they travel with a job."""

from __future__ import annotations

import orjson
import pytest
from pydantic import ValidationError

from jobs import shards
from jobs.schema import Document, DocumentResult, DocumentStatus, Entity
from jobs.tasks import Classification, ClassScore, Relation, RelationType, Task, Tasks

RELATIONS = {
    "works for": RelationType(head=("person",), threshold=0.3),
    "near": RelationType(description="close to"),
}
CLASSIFICATIONS = {
    "topic": Classification(labels={"sport": None, "politics": "about elections"}),
    "mood": Classification(labels={"angry": None}, multi_label=True, threshold=0.2),
}


@pytest.mark.parametrize(
    ("tasks", "requested"),
    [
        (Tasks(), set()),
        (Tasks({"person": None}), {Task.ENTITIES}),
        (Tasks({"person": None}, RELATIONS), {Task.ENTITIES, Task.RELATIONS}),
        (Tasks(classifications=CLASSIFICATIONS), {Task.CLASSIFICATIONS}),
    ],
)
def test_an_empty_field_is_not_asked(tasks: Tasks, requested: set[Task]) -> None:
    """Only the fields that have questions count as requested tasks."""
    assert tasks.requested == requested


@pytest.mark.parametrize("tasks", [Tasks({"person": "a human"}), Tasks({}, RELATIONS, CLASSIFICATIONS)])
def test_tasks_are_stored_and_read_back(tasks: Tasks) -> None:
    """Tasks survive JSON."""
    assert Tasks.from_wire(orjson.loads(orjson.dumps(tasks.to_wire()))) == tasks


def test_a_job_with_labels_alone_is_stored_as_older_workers_read_it() -> None:
    """A job that asks for entities alone has no field that older workers reject."""
    assert Tasks({"person": None}).to_wire() == {"labels": {"person": None}}


def test_the_tasks_of_a_document_replace_those_of_its_job_one_by_one() -> None:
    """A document's own labels, relations or classifications replace the job's; the others stay."""
    job = Tasks({"person": None}, RELATIONS, CLASSIFICATIONS)
    assert Document(0, "0", "text").choose_tasks(job) is job
    assert Document(0, "0", "text", relations={}).choose_tasks(job) == Tasks(job.labels, {}, CLASSIFICATIONS)
    assert Document(0, "0", "text", {"city": None}).choose_tasks(job).labels == {"city": None}


def test_documents_and_results_keep_tasks_and_answers_on_the_wire() -> None:
    """Shards keep questions and answers, and say that they need a newer worker."""
    document = Document(0, "a", "text", relations=RELATIONS, classifications=CLASSIFICATIONS)
    assert shards.decode_documents(shards.encode_documents([document])) == (document,)
    assert shards.wire_version([document]) == 4
    assert shards.wire_version((), None, Tasks({}, RELATIONS)) == 4
    result = DocumentResult(
        0,
        "a",
        DocumentStatus.SUCCEEDED,
        entities=(Entity(0, 4, "text", "thing", 0.9),),
        relations=(Relation("near", 0, 0, 0.5),),
        classifications={"topic": (ClassScore("sport", 0.75), ClassScore("politics", 0.25)), "mood": ()},
    )
    [decoded] = shards.decode_results(shards.encode_results([result]))
    assert decoded == result
    assert decoded.to_dict()["relations"] == [{"label": "near", "head": 0, "tail": 0, "score": 0.5}]
    assert decoded.to_dict()["classifications"]["topic"][0] == {"label": "sport", "score": 0.75}


def test_a_classification_needs_a_class() -> None:
    """A classification without classes is refused."""
    with pytest.raises(ValidationError):
        Classification(labels={})
