"""The models as one tenant's requests see them: which one runs a name, its tasks and its number of labels. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.errors import GatewayError
from gateway.settings import GatewaySettings
from gateway.submission.parsing.json_text import document_cost
from gateway.validation import Pointer, json_pointer
from jobs.ledger import ModelFacts
from jobs.schema import Document
from jobs.tasks import Task, Tasks

Violation = tuple[str, str]
"""JSON Pointer and message."""


@dataclass(frozen=True, slots=True)
class ModelRules:
    """Rules of the model that runs a job.

    Attributes:
        name: the model.
        max_labels: most labels of a text.
        tasks: the tasks that it can do; None: no worker has announced them, so none is refused.
    """

    name: str
    max_labels: int
    tasks: frozenset[Task] | None = None

    def list_unsupported(self, tasks: Tasks | Document, at: Pointer = ()) -> list[Violation]:
        """Return a violation for each of `tasks`, at location `at`, that the model cannot do."""
        if self.tasks is None:
            return []
        fields = {
            Task.ENTITIES: ("labels", tasks.labels),
            Task.RELATIONS: ("relations", tasks.relations),
            Task.CLASSIFICATIONS: ("classifications", tasks.classifications),
        }
        refused = [name for task, (name, value) in fields.items() if value and task not in self.tasks]
        return [(json_pointer(*at, name), f"is not a task of the model {self.name}") for name in refused]

    def unsupported_error(self, violations: Sequence[Violation]) -> GatewayError:
        """Return the error of a request with these violations."""
        tasks = " and ".join(sorted(self.tasks or ())) or "none of the tasks"
        return GatewayError("unsupported_task", f"the model {self.name} can only do {tasks}", violations)


@dataclass(frozen=True, slots=True)
class TenantModels:
    """The service's models for one tenant.

    Attributes:
        settings: models and limits of the service.
        tenant: chooses among the models of a split name.
        facts: as workers have announced them, by model; a model may be missing.
    """

    settings: GatewaySettings
    tenant: str = ""
    facts: Mapping[str, ModelFacts] = field(default_factory=dict)

    def choose_model(self, name: str) -> ModelRules:
        """Return the rules of the model that runs this tenant's jobs of a name."""
        model = self.settings.models.choose_model(name, self.tenant)
        facts = self.facts.get(model)
        if facts is None:
            return ModelRules(model, self.settings.label_limit(0))
        return ModelRules(model, self.settings.label_limit(facts.max_labels), frozenset(facts.tasks))

    @property
    def document_cost(self) -> int:
        """The largest cost of scanning a document's JSON, whichever model runs it."""
        limits = self.settings
        max_labels = limits.label_limit(max((facts.max_labels for facts in self.facts.values()), default=0))
        tasks = limits.max_relations + limits.max_classifications
        return document_cost(max(max_labels, limits.max_labels), tasks, limits.max_labels)
