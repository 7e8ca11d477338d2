"""The running gateway against its own OpenAPI document: schemathesis holds it to it, a generated client uses it.

SCHEMA_S=n fuzzes for n seconds (`make contract`: several thousand cases); by default a short while.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.processes.gateways import running_gateway
from tests.support.processes.harness import Child

SCHEMA_S = int(os.environ.get("SCHEMA_S", "10"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
HOOKS = Path(__file__).parents[2] / "support" / "schemathesis_hooks.py"
ENVIRONMENT = {**os.environ, "NO_PROXY": "127.0.0.1"}
QUICK = {
    "GLEANER_MAX_WAIT_S": "0",
    "GLEANER_EXTRACT_WAIT_S": "0.02",
    "GLEANER_AUTH_FAILURES_PER_MINUTE": "0",
    "GLEANER_DURABILITY": "process",
}
"""Nobody works on the jobs, so that waiting for them would be all that the run does."""


@pytest.fixture
def gateway(ledger_url: str, broker_url: str, tmp_path: Path) -> Iterator[tuple[Child, str]]:
    """Run a gateway; yield it with an admin's key."""
    with running_gateway(tmp_path, ledger_url, broker_url, **QUICK) as running:
        yield running


@pytest.mark.timeout(60 + 4 * SCHEMA_S)
def test_every_answer_is_one_that_the_document_promises(gateway: tuple[Child, str], tmp_path: Path) -> None:
    """No 5xx, no undocumented status, media type or header, no body that breaks its schema."""
    child, key = gateway
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{child.url}/openapi.json"),
            *("--header", f"X-API-Key: {key}", "--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(SCHEMA_S)),
            *("--exclude-operation-id", "follow_job"),  # an open job's events do not end
            *("--warnings", "off", "--no-color", "--request-timeout", "20"),
            *("--suppress-health-check", "all", "--continue-on-failure"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "SCHEMATHESIS_HOOKS": str(HOOKS)},
        check=False,
    )
    report = run.stdout[-6000:]
    print(report[-1500:])  # noqa: T201
    assert run.returncode == 0, report
    assert re.search(r"\d+ generated", report), report
    assert child.alive()
    assert "Traceback" not in child.log.read_text()


USE = """
import sys
from client.api_config import APIConfig
from client.models import DocumentIn, JobRequest
from client.services.jobs_service import cancel_job, get_document, get_job, get_results, list_jobs
from client.services.jobs_service import retry_job, submit_job
from client.services.models_service import get_limits, list_models
from client.services.operations_service import get_queue

config = APIConfig(base_path=sys.argv[1], access_token=sys.argv[2])
request = JobRequest(labels=["person"], documents=[DocumentIn(id="a", text="Ada Lovelace lived in London.")])
job = submit_job(config, data=request, Idempotency_Key="k", Prefer="wait=0", Content_Encoding="identity")
assert get_job(config, job_id=job.id, If_None_Match="none").counts.queued == 1
assert cancel_job(config, job_id=job.id).status == "cancelled"
assert get_results(config, job_id=job.id).data[0].id == "a"
assert get_document(config, job_id=job.id, doc_id="a").status == "cancelled"
assert retry_job(config, job_id=job.id, Idempotency_Key="r").retry_of == job.id
assert [one.id for one in list_jobs(config).data][1] == job.id
assert list_models(config).data[0].name == "gleaner-small"
assert get_limits(config).tenant == "acme"
assert get_queue(config).data[0].open_jobs == 1
"""


def test_a_generated_client_works(gateway: tuple[Child, str], tmp_path: Path) -> None:
    """A client generated from the OpenAPI document, unchanged, talks to the gateway."""
    child, key = gateway
    document = tmp_path / "openapi.json"
    document.write_bytes(httpx.get(f"{child.url}/openapi.json", trust_env=False).content)
    for command in (
        ("-m", "openapi_python_generator", str(document), "client"),
        ("-c", USE, child.url, key),
    ):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False, env=ENVIRONMENT
        )
        assert done.returncode == 0, done.stderr[-3000:]
