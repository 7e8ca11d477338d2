"""Rules of the model that runs a job, from what its workers have announced."""

from __future__ import annotations

from gateway.settings import GatewaySettings
from gateway.submission.parsing.models import ModelRules, TenantModels
from jobs.ledger import ModelFacts
from jobs.schema import Document
from jobs.tasks import Classification, RelationType, Task, Tasks

ALL = Tasks({"a": None}, {"b": RelationType()}, {"c": Classification(labels={"d": None})})
SETTINGS = GatewaySettings(auth="off", models="m,split=x:1|y:0", max_labels=10, max_model_labels=500)  # type: ignore[arg-type]


def test_a_model_without_facts_takes_everything() -> None:
    """Its worker fails the documents that it cannot do."""
    rules = TenantModels(SETTINGS).choose_model("m")
    assert rules == ModelRules("m", 10)
    assert rules.list_unsupported(ALL) == []


def test_rules_are_those_of_the_model_that_runs_the_job() -> None:
    """Also behind a split name; its label limit is at most that of the service."""
    facts = {
        "x": ModelFacts(tasks=(Task.ENTITIES, Task.RELATIONS), max_labels=2000),
        "y": ModelFacts(max_labels=20),
    }
    models = TenantModels(SETTINGS, "acme", facts)
    assert models.choose_model("split") == ModelRules("x", 500, frozenset({Task.ENTITIES, Task.RELATIONS}))
    assert models.document_cost > TenantModels(SETTINGS).document_cost


def test_each_task_that_a_model_cannot_do_is_named() -> None:
    """With the field that asks for it, and what the model can do."""
    rules = ModelRules("m", 10, frozenset({Task.CLASSIFICATIONS}))
    violations = rules.list_unsupported(ALL)
    assert violations == [
        ("/labels", "is not a task of the model m"),
        ("/relations", "is not a task of the model m"),
    ]
    assert rules.list_unsupported(Document(3, "3", "x", labels={"a": None}), ("documents", 3)) == [
        ("/documents/3/labels", "is not a task of the model m")
    ]
    assert rules.list_unsupported(Tasks({}, {}, ALL.classifications)) == []
    error = rules.unsupported_error(violations)
    assert (error.code, error.detail) == ("unsupported_task", "the model m can only do classifications")
