"""`gleaner webhooks` against the real local stack."""

from __future__ import annotations

import json
import subprocess

import pytest

from gleaner import Client, NotFound, ValidationError
from gleaner.webhook_listener import Listener
from gleaner.webhooks import new_secret
from tests.support.processes.local_stack import COMMAND, RunningStack, command_environment, gleaner

pytestmark = pytest.mark.timeout(120)


def at(stack: RunningStack) -> tuple[str, str]:
    """Return the option that selects the stack, its URL and its key."""
    return "--data-dir", str(stack.directory)


def test_listen_prints_what_comes(stack: RunningStack, client: Client) -> None:
    """An endpoint for as long as it runs; verified events as JSON lines; gone afterwards."""
    listening = subprocess.Popen(
        [*COMMAND, "webhooks", "listen", "--count", "1", *at(stack)],
        env=command_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert listening.stderr is not None
    assert "listening at http://127.0.0.1:" in listening.stderr.readline()
    job = client.submit(["Ada Lovelace met Charles Babbage in London."], ["person"]).wait()
    output, errors = listening.communicate(timeout=30)
    assert listening.returncode == 0, errors
    event = json.loads(output)
    assert (event["type"], event["data"]["job_id"]) == ("job.succeeded", job.id)
    assert event["data"]["results_url"] == f"{stack.url}/v1/jobs/{job.id}/results"
    assert client.webhooks.list() == ()


def test_endpoints_from_creation_to_deletion(stack: RunningStack, client: Client) -> None:
    """Create shows the secret, list does not; test shows the receiver's response; rotate and delete work."""
    secret = new_secret()
    with Listener(secret) as listener:
        ran = gleaner(
            "webhooks", "endpoints", "create", listener.url, "--event", "job.failed", "--json", *at(stack)
        )
        created = json.loads(ran.stdout)
        assert created["secret"].startswith("whsec_")
        listed = gleaner("webhooks", "endpoints", "list", "--json", *at(stack))
        assert json.loads(listed.stdout) == {name: value for name, value in created.items() if name != "secret"}
        assert created["id"] in gleaner("webhooks", "endpoints", "list", *at(stack)).stdout
        refused = gleaner("webhooks", "endpoints", "test", created["id"], *at(stack))
        assert (refused.returncode, refused.stdout.split(" after")[0]) == (1, "failed: status 401")
        assert client.webhooks.rotate(created["id"], secret) == secret
        taken = gleaner("webhooks", "endpoints", "test", created["id"], *at(stack))
        assert (taken.returncode, taken.stdout.split(" after")[0]) == (0, "delivered: status 204")
        event = listener.next(5)
        assert event is not None
        assert event["type"] == "webhook.test"
    rotated = gleaner("webhooks", "endpoints", "rotate", created["id"], *at(stack))
    assert rotated.stdout.strip().startswith("whsec_")
    assert gleaner("webhooks", "endpoints", "delete", created["id"], *at(stack)).returncode == 0
    with pytest.raises(NotFound):
        client.webhooks.test(created["id"])
    with pytest.raises(ValidationError) as forbidden:
        client.webhooks.create("https://10.0.0.1/")
    assert forbidden.value.code == "webhook_url_forbidden"
    assert gleaner("webhooks", "endpoints", "create", "x", *at(stack)).returncode == 3
