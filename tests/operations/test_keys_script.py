"""`deploy/keys.sh` with the real `gleaner keys`, and a kubectl whose cluster is a folder with one Secret."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import api_keys
from jobs.api_keys import Role
from tests.conftest import ROOT
from tests.ship.test_pipeline import RELEASE, add_program

KEYS = ROOT / "deploy" / "keys.sh"
KUBECTL = """shift 2; cd "{folder}"
case "$*" in
  "get deployment/gleaner-gateway "*) echo "gleaner-keys /etc/gleaner/keys.json" ;;
  "get secret gleaner-test-key "*) cat gleaner-test-key ;;
  "get secret gleaner-keys "*resourceVersion*) echo "7 $(cat owner) $(base64 -w 0 keys.json)" ;;
  "get secret gleaner-keys "*) cat keys.json ;;
  "exec --stdin deployment/gleaner-gateway -- "*) shift 4; exec "$@" ;;
  "patch secret gleaner-keys --patch-file /dev/stdin")
    patch=$(cat)
    case $patch in *'"resourceVersion": "7"'*) ;; *) exit 1 ;; esac
    echo "$patch" | sed -n 's/.*"keys.json": "\\([^"]*\\)".*/\\1/p' | base64 -d > keys.json ;;
  "create secret generic gleaner-test-key"*) cat > gleaner-test-key ;;
esac"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """Return a cluster with a keys file that has one key."""
    add_program(tmp_path / "programs", "kubectl", KUBECTL.format(folder=tmp_path))
    add_program(tmp_path / "programs", "helm")
    api_keys.create_key(tmp_path / "keys.json", tenant="first", role=Role.ADMIN)
    (tmp_path / "owner").write_text("nobody")
    return tmp_path


def run(cluster: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the cluster's kubectl and our `gleaner`."""
    path = f"{cluster / 'programs'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(cluster)}
    return subprocess.run(["bash", *command], capture_output=True, text=True, env=environment, check=False)


def test_the_command_of_the_page_makes_a_key_that_the_gateway_takes(cluster: Path) -> None:
    """The key is printed once, stands in no argument and no file, and the keys from before are still there."""
    page = (ROOT / "docs" / "how-to" / "deployment.md").read_text()
    [command] = re.findall(r"^deploy/keys.sh (gleaner gleaner-gateway create --tenant [^#\n]*)", page, re.MULTILINE)
    ran = run(cluster, str(KEYS), *command.split())
    assert ran.returncode == 0, ran.stderr
    [key] = re.findall(r"gl_\S+", ran.stdout)
    verified = api_keys.KeyRing(cluster / "keys.json").verify(key)
    assert verified is not None
    tenants = [record.tenant for record in api_keys.list_keys(cluster / "keys.json")]
    assert tenants == ["first", verified.tenant]
    assert key not in (cluster / "programs" / "calls").read_text() + (cluster / "keys.json").read_text()


def test_a_key_is_rotated_and_revoked(cluster: Path) -> None:
    """Every command of `gleaner keys` works; one that changes nothing writes nothing."""
    [record] = api_keys.list_keys(cluster / "keys.json")
    assert record.key_id in run(cluster, str(KEYS), "gleaner", "gleaner-gateway", "list").stdout
    assert "patch" not in (cluster / "programs" / "calls").read_text()
    for verb, keys in (("rotate", 2), ("revoke", 2)):
        ran = run(cluster, str(KEYS), "gleaner", "gleaner-gateway", verb, record.key_id)
        assert ran.returncode == 0, ran.stderr
        assert len(api_keys.list_keys(cluster / "keys.json")) == keys
    assert api_keys.list_keys(cluster / "keys.json")[0].revoked_at is not None


def test_what_would_be_undone_or_lost_is_refused(cluster: Path) -> None:
    """External Secrets writes the Secret again, `gleaner keys` refuses a command, or somebody else was faster."""
    before = (cluster / "keys.json").read_bytes()
    create = (str(KEYS), "gleaner", "gleaner-gateway", "create", "--tenant", "acme")
    (cluster / "owner").write_text("ExternalSecret")
    refused = run(cluster, *create)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "edit the keys file in its store" in refused.stderr
    (cluster / "owner").write_text("nobody")
    assert run(cluster, *create, "--role", "king").returncode != 0
    script = cluster / "programs" / "kubectl"
    script.write_text(script.read_text().replace('echo "7 ', 'echo "6 '))
    raced = run(cluster, *create)
    assert raced.returncode != 0
    assert raced.stdout == ""
    assert (cluster / "keys.json").read_bytes() == before


def test_the_key_of_the_smoke_test_is_made_once(cluster: Path) -> None:
    """A key is added to a keys file of the operator, and again to one that replaces it without that key."""
    original = (cluster / "keys.json").read_bytes()
    for content in (original, None, original):
        if content is not None:
            (cluster / "keys.json").write_bytes(content)
        ran = run(cluster, str(RELEASE), "smoke", "staging")
        assert ran.returncode == 0, ran.stderr
        key = (cluster / "gleaner-test-key").read_text()
        assert [(record.tenant, record.name) for record in api_keys.list_keys(cluster / "keys.json")] == [
            ("first", ""), ("smoke", "helm test"),
        ]  # fmt: skip
        assert api_keys.KeyRing(cluster / "keys.json").verify(key) is not None
        assert key not in (cluster / "programs" / "calls").read_text()
