"""The chart rendered by a real Helm engine, its manifests validated against the real schemas."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celpy
import celpy.adapter
import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
import yaml
from helm_python import _native

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "gleaner"
SCHEMAS = Path(os.environ.get("GLEANER_SCHEMAS", ROOT / ".." / "shared" / "crds"))
"""CRDs and schemas of other projects; too large and too foreign to be copied into this one."""
OVERLAYS = ("dev", "staging", "prod", "aws", "gcp", "azure", "onprem")

OPERATORS = (
    "keda.sh/v1alpha1",
    "monitoring.coreos.com/v1",
    "cert-manager.io/v1",
    "external-secrets.io/v1",
    "argoproj.io/v1alpha1",
    "gateway.networking.k8s.io/v1",
)
"""What `.Capabilities.APIVersions` has where every operator is installed."""
CLUSTER = "v1/Secret"
"""What it has where Helm talks to a cluster: kinds, of which `helm template` knows none."""

Manifest = dict[str, Any]


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it, a bare `=` is a string; in C, which takes a tenth of the time."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def read_overlay(name: str) -> dict[str, Any]:
    """Values of an overlay."""
    values: dict[str, Any] = yaml.safe_load((CHART / f"values-{name}.yaml").read_text())
    return values


def merge_values(*layers: dict[str, Any]) -> dict[str, Any]:
    """Merge values in order, as Helm does."""
    values: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(values.get(key), dict)
            values[key] = merge_values(values[key], value) if both else value
    return values


def render_templates(
    values: dict[str, Any] | None = None,
    apis: tuple[str, ...] = OPERATORS,
    chart: Path = CHART,
    release: str = "gleaner",
    namespace: str = "gleaner",
) -> dict[str, str]:
    """Template path -> text.

    Args:
        values: the user's.
        apis: the API versions that the cluster has besides Kubernetes' own.
        chart: the chart's folder.
        release: its name.
        namespace: where it is installed.

    Raises:
        helm.HelmError: the values or a template are refused.
    """
    options = {"name": release, "namespace": namespace, "api_versions": list(apis)}
    with helm.Chart.load(str(chart)) as loaded:
        # `Chart.render` cannot say what a cluster has; the function below it can.
        text = _native.call_string("helm_render", loaded._raw(), json.dumps(values or {}), json.dumps(options))
    rendered: dict[str, str] = json.loads(text)
    return rendered


def render_manifests(
    values: dict[str, Any] | None = None,
    apis: tuple[str, ...] = OPERATORS,
    chart: Path = CHART,
    release: str = "gleaner",
    namespace: str = "gleaner",
) -> list[Manifest]:
    """Render the manifests that Helm would apply."""
    return parse_templates(render_templates(values, apis, chart, release, namespace))


def parse_templates(rendered: dict[str, str]) -> list[Manifest]:
    """Parse the manifests of rendered templates, in the order of their paths."""
    texts = (text for path, text in sorted(rendered.items()) if not path.endswith("NOTES.txt"))
    return [document for text in texts for document in yaml.load_all(text, _Loader) if document]


def render_notes(values: dict[str, Any] | None = None, apis: tuple[str, ...] = OPERATORS) -> str:
    """Render what Helm shows after an installation."""
    [notes] = [text for path, text in render_templates(values, apis).items() if path.endswith("NOTES.txt")]
    return notes


def select_kinds(documents: list[Manifest], *kinds: str) -> list[Manifest]:
    """Those of some kinds."""
    return [document for document in documents if document["kind"] in kinds]


def find_manifest(documents: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the manifest of this kind and name."""
    [manifest] = [document for document in select_kinds(documents, kind) if document["metadata"]["name"] == name]
    return manifest


def pod_specs(documents: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Every pod that the manifests make: its maker's kind and name, and its spec."""
    for document in documents:
        spec = document.get("spec", {})
        label = f"{document['kind']} {document['metadata']['name']}"
        if document["kind"] == "Pod":
            yield label, spec
        elif document["kind"] == "CronJob":
            yield label, spec["jobTemplate"]["spec"]["template"]["spec"]
        elif "template" in spec and document["kind"] in ("Deployment", "StatefulSet", "Rollout", "Job"):
            yield label, spec["template"]["spec"]


def read_environment(spec: Manifest) -> dict[str, Any]:
    """Return the first container's environment: name -> value, or its source."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in spec["containers"][0]["env"]}


def validate_manifest(document: Manifest, version: str) -> None:
    """Validate a manifest against Kubernetes' strict schema, or its CRD's.

    Raises:
        kubernetes_validate.ValidationError, jsonschema.ValidationError: it would be refused.
    """
    if is_core(document):
        kubernetes_validate.validate(document, version, strict=True)
        return
    schema, rules = load_crd(document["apiVersion"], document["kind"])
    _build_validator(document["apiVersion"], document["kind"]).validate(document)
    stored = _with_defaults(document, schema)
    for path, rule, message in rules:
        for field in _places(stored, path):
            if not _holds(rule, field):
                raise jsonschema.ValidationError(f"{message or rule} at {'.'.join(path)}")


def is_core(document: Manifest) -> bool:
    """Return whether Kubernetes itself defines the kind."""
    group = str(document["apiVersion"]).partition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and group != "gateway.networking.k8s.io")


def require_schemas() -> Path:
    """Return the folder of schemas; skip the test where it is absent."""
    if not SCHEMAS.is_dir():
        pytest.skip(f"schemas not here: {SCHEMAS.name}/ (set GLEANER_SCHEMAS to the folder of CRDs)")
    return SCHEMAS


@functools.cache
def load_crd(api_version: str, kind: str) -> tuple[dict[str, Any], tuple[tuple[tuple[str, ...], str, str], ...]]:
    """Return a custom resource's JSON schema without unknown fields, and its CEL rules: path, rule, message."""
    group, version = api_version.split("/")
    for path in require_schemas().glob("*.yaml"):
        text = path.read_text()
        if f"group: {group}" not in text or f"kind: {kind}\n" not in text:
            continue
        for definition in yaml.load_all(text, _Loader):  # a safe loader
            if definition["spec"]["group"] == group and definition["spec"]["names"]["kind"] == kind:
                [served] = [entry for entry in definition["spec"]["versions"] if entry["name"] == version]
                schema = served["schema"]["openAPIV3Schema"]
                rules = tuple(_rules(schema, ()))
                schema["properties"]["metadata"] = {"type": "object"}
                return _strict(schema), rules
    raise LookupError(f"no CRD for {api_version} {kind} among the schemas")


@functools.cache
def _build_validator(api_version: str, kind: str) -> Any:
    """Return the validator of a custom resource's schema, which is checked once: that takes longer than its use."""
    schema, _ = load_crd(api_version, kind)
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    return validator(schema)


def _strict(schema: Any) -> Any:
    """Convert an OpenAPI v3 schema to a JSON schema that refuses the fields which Kubernetes would prune."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    strict = {key: _strict(value) for key, value in schema.items() if not key.startswith("x-")}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not open_ended:
        strict["additionalProperties"] = False
    if isinstance(strict.get("pattern"), str):
        strict["pattern"] = strict["pattern"].replace("^(?i)", "(?i)^")  # Go takes a flag anywhere, Python in front
    if schema.get("nullable") and "type" in strict:
        strict["type"] = [strict["type"], "null"]
    return strict


def _with_defaults(value: Any, schema: Any) -> Any:
    """Return the value with defaults as the API server stores it; CEL rules apply to that."""
    if isinstance(value, dict) and "properties" in schema:
        inner = schema["properties"]
        fields = {name: field["default"] for name, field in inner.items() if "default" in field} | value
        return {name: _with_defaults(item, inner.get(name, {})) for name, item in fields.items()}
    if isinstance(value, list) and "items" in schema:
        return [_with_defaults(item, schema["items"]) for item in value]
    return value


def _rules(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    if isinstance(schema, dict):
        for rule in schema.get("x-kubernetes-validations", ()):
            if "oldSelf" not in rule["rule"]:
                yield path, rule["rule"], rule.get("message", "")
        for name, inner in schema.get("properties", {}).items():
            yield from _rules(inner, (*path, name))


def _places(document: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if not path:
        yield document
    elif isinstance(document, dict) and path[0] in document:
        yield from _places(document[path[0]], path[1:])


def _holds(rule: str, value: Any) -> bool:
    return bool(_compile_rule(rule).evaluate({"self": celpy.adapter.json_to_cel(value)}))


@functools.cache
def _compile_rule(rule: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def keda_parameters(trigger: str) -> set[str]:
    """Return the metadata names that KEDA's scaler of this type reads; the CRD accepts any."""
    listed = json.loads((require_schemas() / "keda__scalers-schema.json").read_text())["scalers"]
    [scaler] = [entry for entry in listed if entry["type"] == trigger]
    return {entry["name"] for entry in scaler["parameters"] if entry.get("metadataVariableReadable")}
