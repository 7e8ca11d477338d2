"""Routes of label sets: which status a PUT gets, and what a list shows."""

from __future__ import annotations

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.label_sets import LabelSets
from gateway.routes.dependencies import Services
from gateway.routes.label_sets import list_label_sets, put_label_set
from gateway.settings import GatewaySettings
from gateway.submission.accept import Submissions
from gateway.submission.body_memory import BodyMemory
from jobs.codec import Codec
from jobs.ledger.label_sets import LabelSetVersions, ListedLabelSet, PutLabelSet, StoredLabelSet
from jobs.ledger.outcomes import LabelSetOutcome
from jobs.observability.metrics import GatewayMetrics
from tests.support.fakes.label_sets import stored_label_set
from tests.support.fakes.routes import FakeBarrier, make_http_request, make_services
from tests.support.fakes.scripted_ledger import ScriptedLedger
from tests.support.fakes.submissions import CALLER, make_open_authenticator

pytestmark = pytest.mark.anyio

SETTINGS = GatewaySettings(auth="off")


def services_with(ledger: ScriptedLedger) -> Services:
    """Return the services that the routes use."""
    memory = BodyMemory(1 << 20)
    return make_services(
        settings=SETTINGS,
        barrier=FakeBarrier(),
        authenticator=make_open_authenticator(ledger, GatewayMetrics(CollectorRegistry())),
        label_sets=LabelSets(ledger, Codec()),
        submissions=Submissions(SETTINGS, None, memory, *[None] * 7),  # type: ignore[arg-type]  # only the memory
    )


@pytest.mark.parametrize(("version", "status"), [(3, 200), (0, 201)])
async def test_a_put_tells_whether_it_made_a_version(version: int, status: int) -> None:
    """It is confirmed before it is answered."""
    latest = stored_label_set("drugs", version, {"drug": None})
    reply = PutLabelSet(LabelSetOutcome.OK, LabelSetVersions(1, range(1, 2)), 2_000)
    ledger = ScriptedLedger(
        read_label_set=latest if version else StoredLabelSet(LabelSetVersions(0, range(0))), put_label_set=reply
    )
    services = services_with(ledger)
    headers = {"Content-Type": "application/json"}
    request = make_http_request("PUT", headers=headers, body=b'{"labels":["drug"]}')
    response = await put_label_set(request, services, CALLER, "drugs")
    body = orjson.loads(response.body)
    assert (response.status_code, body["version"], body["size"]) == (status, version or 1, 1)
    assert services.barrier.confirmed == 1  # type: ignore[attr-defined]


async def test_a_list_shows_each_set_without_labels() -> None:
    """Its latest version and the stored ones."""
    listed = ListedLabelSet("drugs", LabelSetVersions(12, range(3, 13)), 1500, 1_000)
    [item] = (await list_label_sets(services_with(ScriptedLedger(list_label_sets=(listed,))), CALLER)).data
    assert (item.name, item.version, item.versions[0], item.size) == ("drugs", 12, 3, 1500)
    assert item.created_at == "1970-01-01T00:00:01.000Z"
