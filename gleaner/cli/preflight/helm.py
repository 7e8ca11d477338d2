"""Values -> manifests, with `helm template`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gleaner.cli.exit_codes import CommandError

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Release:
    """Arguments of the `helm install` that is checked."""

    name: str
    chart: str
    namespace: str
    values: tuple[Path, ...] = ()
    settings: tuple[str, ...] = ()


def render_release(release: Release, kube_version: str, apis: Iterable[tuple[str, str, str]]) -> str:
    """Return the manifests as YAML.

    Args:
        release: chart and values.
        kube_version: the server's version; "" for helm's default.
        apis: group, version and kind of what the cluster serves, for charts that ask.

    Raises:
        CommandError: helm is missing, or refuses the chart or the values.
    """
    program = shutil.which("helm")
    if program is None:
        raise CommandError("helm is not on the PATH; install it, or pass its output with --manifest")
    command = [program, "template", release.name, release.chart, "--namespace", release.namespace, "--include-crds"]
    for path in release.values:
        command += ["--values", str(path)]
    for setting in release.settings:
        command += ["--set", setting]
    if kube_version:
        command += ["--kube-version", kube_version]
    served = {f"{group}/{version}" for group, version, _ in apis} | {"/".join(api) for api in apis}
    # With v1/Secret the chart renders as on a cluster: it makes the Secrets that are missing. Its own check of the
    # cluster would stop at the first gap.
    for api in sorted({*served, "v1/Secret"}):
        command += ["--api-versions", api]
    command += ["--set", "preflight=false"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise CommandError(f"helm template did not end within {TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        raise CommandError(f"helm template failed: {done.stderr.strip()}")
    return done.stdout


def parse_manifests(text: str) -> list[dict[str, Any]]:
    """Return the documents of YAML or JSON; the items of a List one by one.

    Raises:
        CommandError: PyYAML, which YAML needs, is not installed; or the text does not contain Kubernetes objects.
    """
    flat: list[dict[str, Any]] = []
    for document in _parse_documents(text):
        if not isinstance(document, dict) or "kind" not in document:
            raise CommandError("the manifests contain something that is not a Kubernetes object")
        flat += document["items"] if document["kind"] == "List" else [document]
    return flat


def _parse_documents(text: str) -> list[Any]:
    try:
        if text.lstrip().startswith("{"):
            return [json.loads(text)]
        import yaml
    except json.JSONDecodeError as error:
        raise CommandError(f"the manifests are not JSON: {error}") from None
    except ImportError:
        raise CommandError(
            "reading YAML requires the extra: pip install 'gleaner-ner[preflight]'; or pass JSON with --manifest"
        ) from None
    try:
        return [document for document in yaml.safe_load_all(text) if document]
    except yaml.YAMLError as error:
        raise CommandError(f"the manifests are not YAML: {error}") from None
