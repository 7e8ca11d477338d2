"""The chart rendered by Helm against an API server that has some objects, so that `lookup` finds them.

Helm and its discovery are the real ones. The server answers GETs with the objects that it was given; it admits and
stores nothing.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import helm_python as helm
import yaml
from helm_python import _native

from tests.support import chart

KINDS = {"v1": ("Secret",), "apps/v1": ("Deployment",), "argoproj.io/v1alpha1": ("Rollout",)}
"""What the chart looks up, by API version."""


def _path(version: str, kind: str, name: str) -> str:
    root = "/api" if version == "v1" else "/apis"
    return f"{root}/{version}/namespaces/gleaner/{kind.lower()}s/{name}"


def _discovery(version: str) -> chart.Manifest:
    """Return the list of a version's kinds."""
    resources = [
        {"name": f"{kind.lower()}s", "kind": kind, "namespaced": True, "verbs": ["get"]} for kind in KINDS[version]
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _answers(objects: list[chart.Manifest]) -> dict[str, chart.Manifest]:
    """Return what the server returns, by path; every other path is 404."""
    answers = {("/api/" if version == "v1" else "/apis/") + version: _discovery(version) for version in KINDS}
    for document in objects:
        if document["kind"] in sum(KINDS.values(), ()):
            answers[_path(document["apiVersion"], document["kind"], document["metadata"]["name"])] = document
    return answers


def render_live(
    objects: list[chart.Manifest],
    values: dict[str, object] | None = None,
    apis: tuple[str, ...] = (*chart.OPERATORS, chart.CLUSTER),
) -> list[chart.Manifest]:
    """Render the manifests that Helm would apply to a cluster with these objects.

    Raises:
        helm.HelmError: the values are refused, or something is missing.
    """
    answers = _answers(objects)

    class Handler(BaseHTTPRequestHandler):
        """Answers GETs."""

        def do_GET(self) -> None:
            """Send the object or 404, as Kubernetes does."""
            absent = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            document = answers.get(self.path.partition("?")[0])
            body = json.dumps(document or absent).encode()
            self.send_response(200 if document else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        return render_at(_make_kubeconfig(f"http://127.0.0.1:{server.server_port}"), values or {}, apis)
    finally:
        server.shutdown()
        server.server_close()


def _make_kubeconfig(url: str) -> str:
    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
    }  # fmt: skip
    return yaml.safe_dump(kubeconfig)


def render_at(kubeconfig: str, values: dict[str, object], apis: tuple[str, ...]) -> list[chart.Manifest]:
    """Render the manifests that Helm would apply to the cluster of a kubeconfig, given as text.

    Raises:
        helm.HelmError: the values are refused, or something is missing.
    """
    options = json.dumps({"name": "gleaner", "namespace": "gleaner", "api_versions": list(apis)})
    with (
        helm.Config(kubeconfig_content=kubeconfig, namespace="gleaner") as config,
        helm.Chart.load(str(chart.CHART)) as loaded,
    ):
        # `Config.render` cannot say which operators there are; the function below it can.
        rendered = _native.call_string(
            "helm_render_with_config", config._raw(), loaded._raw(), json.dumps(values), options
        )
    return chart.parse_templates(json.loads(rendered))
