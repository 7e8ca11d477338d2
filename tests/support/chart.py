"""The chart through a real Helm engine, and its manifests through the real schemas of what reads them."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celpy
import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "gleaner"
SCHEMAS = Path(os.environ.get("GLEANER_SCHEMAS", ROOT / ".." / "shared" / "crds"))
"""CRDs and schemas of other projects; too large and too foreign to be copied into this one."""
OVERLAYS = ("dev", "staging", "prod", "aws", "gcp", "azure", "onprem")

Manifest = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a bare `=` is a string."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def overlay(name: str) -> dict[str, Any]:
    """Values of an overlay."""
    values: dict[str, Any] = yaml.safe_load((CHART / f"values-{name}.yaml").read_text())
    return values


def merged(*layers: dict[str, Any]) -> dict[str, Any]:
    """Values laid over each other as Helm does it."""
    found: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = merged(found[key], value) if both else value
    return found


def rendered(values: dict[str, Any] | None = None, name: str = "gleaner") -> dict[str, str]:
    """Template path -> text.

    Raises:
        helm.HelmError: the values or a template are refused.
    """
    with helm.Chart.load(str(CHART)) as chart:
        return dict(chart.render(values or {}, name=name, namespace="gleaner"))


def manifests(values: dict[str, Any] | None = None) -> list[Manifest]:
    """What Helm would apply."""
    texts = (text for path, text in sorted(rendered(values).items()) if not path.endswith("NOTES.txt"))
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def of_kind(documents: list[Manifest], *kinds: str) -> list[Manifest]:
    """Those of some kinds."""
    return [document for document in documents if document["kind"] in kinds]


def named(documents: list[Manifest], kind: str, name: str) -> Manifest:
    """The one of this kind and name."""
    [found] = [document for document in of_kind(documents, kind) if document["metadata"]["name"] == name]
    return found


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


def environment(spec: Manifest) -> dict[str, Any]:
    """The first container's environment: value, or where it comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in spec["containers"][0]["env"]}


def check(document: Manifest, version: str) -> None:
    """Hold a manifest against Kubernetes' own strict schema, or its CRD's.

    Raises:
        kubernetes_validate.ValidationError, jsonschema.ValidationError: it would be refused.
    """
    if is_core(document):
        kubernetes_validate.validate(document, version, strict=True)
        return
    schema, rules = crd(document["apiVersion"], document["kind"])
    jsonschema.validate(document, schema)
    stored = _with_defaults(document, schema)
    for path, rule, message in rules:
        for place in _places(stored, path):
            if not _holds(rule, place):
                raise jsonschema.ValidationError(f"{message or rule} at {'.'.join(path)}")


def is_core(document: Manifest) -> bool:
    """True for what Kubernetes itself defines."""
    group = str(document["apiVersion"]).partition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and group != "gateway.networking.k8s.io")


def require_schemas() -> Path:
    """The folder of schemas, or a skip that says how to have it."""
    if not SCHEMAS.is_dir():
        pytest.skip(f"schemas not here: {SCHEMAS.name}/ (set GLEANER_SCHEMAS to the folder of CRDs)")
    return SCHEMAS


@functools.cache
def crd(api_version: str, kind: str) -> tuple[dict[str, Any], tuple[tuple[tuple[str, ...], str, str], ...]]:
    """A custom resource's JSON schema, strict about unknown fields, and its CEL rules: place, rule, message."""
    group, version = api_version.split("/")
    for path in require_schemas().glob("*.yaml"):
        text = path.read_text()
        if f"group: {group}" not in text or f"kind: {kind}\n" not in text:
            continue
        for definition in yaml.load_all(text, _Loader):  # a safe loader
            if definition["spec"]["group"] == group and definition["spec"]["names"]["kind"] == kind:
                [found] = [each for each in definition["spec"]["versions"] if each["name"] == version]
                schema = found["schema"]["openAPIV3Schema"]
                rules = tuple(_rules(schema, ()))
                schema["properties"]["metadata"] = {"type": "object"}
                return _strict(schema), rules
    raise LookupError(f"no CRD for {api_version} {kind} among the schemas")


def _strict(schema: Any) -> Any:
    """OpenAPI v3 as Kubernetes prunes by it -> JSON schema that refuses what would be pruned."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {key: _strict(value) for key, value in schema.items() if not key.startswith("x-")}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not open_ended:
        found["additionalProperties"] = False
    if isinstance(found.get("pattern"), str):
        found["pattern"] = found["pattern"].replace("^(?i)", "(?i)^")  # Go takes a flag anywhere, Python in front
    if schema.get("nullable") and "type" in found:
        found["type"] = [found["type"], "null"]
    return found


def _with_defaults(value: Any, schema: Any) -> Any:
    """As the API server stores it, which is what rules are about."""
    if isinstance(value, dict) and "properties" in schema:
        inner = schema["properties"]
        given = {name: each["default"] for name, each in inner.items() if "default" in each} | value
        return {name: _with_defaults(each, inner.get(name, {})) for name, each in given.items()}
    if isinstance(value, list) and "items" in schema:
        return [_with_defaults(each, schema["items"]) for each in value]
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
    environment = celpy.Environment()
    program = environment.program(environment.compile(rule))
    return bool(program.evaluate({"self": celpy.json_to_cel(value)}))


def keda_parameters(trigger: str) -> set[str]:
    """What KEDA's scaler of this type reads from a trigger's metadata; the CRD lets anything pass."""
    listed = json.loads((require_schemas() / "keda__scalers-schema.json").read_text())["scalers"]
    [scaler] = [each for each in listed if each["type"] == trigger]
    return {each["name"] for each in scaler["parameters"] if each.get("metadataVariableReadable")}
