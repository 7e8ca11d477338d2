"""Write the files that are derived from the chart: `make chart-sync`; `--check` lists outdated files and fails.

values.yaml (its comments) and the settings classes -> values.schema.json and README.md; alerts/ -> the chart's
files/, because Helm reads only inside a chart; docs/reference/security-redis.md and deploy/valkey/start.sh -> its
Valkey's start script; the chart's default render -> keda/*.yaml.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

from gateway.courier.app import CourierSettings
from gateway.settings import GatewaySettings
from jobs.queue.flower import FlowerSettings
from jobs.settings import Settings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "gleaner"
CLASSES: dict[str, type[Settings]] = {
    cls.__name__: cls for cls in (Settings, GatewaySettings, WorkerSettings, CourierSettings, FlowerSettings)
}
BY_TEMPLATE = {
    *("redis_url", "broker_url", "models", "encryption_keys", "redact_key", "metrics_host", "metrics_port"),
    *("host", "port", "auth", "keys_file", "model", "model_source", "model_revision", "model_cache"),
    *("flower_host", "flower_port", "flower_password", "gpu_shared_by"),
}
"""Settings that templates or images set, from other values or because a container has no choice."""
SECRET = {"webhook_proxy"}
"""Settings that may hold a credential: they come by `extraEnv` from a Secret."""
NAME = {"pattern": "^[^,|=]+$"}
"""A model's name has no character of GLEANER_MODELS' own."""
KEY = re.compile(r"^(?P<indent> *)(?P<name>[\w.-]+):(?: +(?P<value>.*))?$")


@dataclass
class Value:
    """A documented value: its path, its meaning and its allowed values."""

    path: tuple[str, ...]
    doc: str = ""
    kind: str = "plain"  # plain, open, settings, models, splits, like
    more: dict[str, Any] = field(default_factory=dict)


def list_settings(name: str) -> dict[str, Any]:
    """Return the settings that the values of one process may set, shared ones included, as JSON schema."""
    cls = CLASSES[name]
    properties = cls.model_json_schema()["properties"]
    settings = {}
    for key in sorted(set(cls.model_fields) - BY_TEMPLATE - SECRET):
        described = {
            k: v for k, v in properties[key].items() if k in ("description", "type", "enum", "items", *BOUNDS)
        }
        if "type" not in described and "anyOf" in properties[key]:
            described["type"] = "string"
        settings[key] = described
    return settings


BOUNDS = ("minimum", "maximum", "exclusiveMinimum")


def parse_values(text: str) -> Iterator[Value]:
    """Yield every key of values.yaml with the comments above it."""
    stack: list[tuple[int, str]] = []
    doc, kind, more = "", "plain", {}
    opaque: int | None = None
    for line in text.splitlines():
        comment = line.strip()
        if comment.startswith("# -- "):
            doc = comment.removeprefix("# -- ")
        elif doc and comment.startswith("# ") and not comment.startswith("# @"):
            doc += " " + comment.removeprefix("# ")
        elif comment.startswith("# @schema "):
            more = json.loads(comment.removeprefix("# @schema "))
        elif comment.startswith("# @"):
            kind = comment.removeprefix("# @")
        elif (match := KEY.match(line)) and not comment.startswith("#"):
            indent = len(match["indent"])
            if opaque is not None and indent > opaque:
                continue
            opaque = None
            stack = [(i, n) for i, n in stack if i < indent] + [(indent, match["name"])]
            yield Value(tuple(name for _, name in stack), doc, kind, more)
            if kind != "plain" and not kind.startswith("like "):
                opaque = indent
            doc, kind, more = "", "plain", {}


def build_schema(values: dict[str, Any], notes: dict[tuple[str, ...], Value]) -> dict[str, Any]:
    """Return values.schema.json: only the keys of values.yaml, with the types they have there."""
    top = _build_schema((), values, notes)
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart gleaner", **top}


def _build_schema(path: tuple[str, ...], value: Any, notes: dict[tuple[str, ...], Value]) -> dict[str, Any]:
    note = notes.get(path, Value(path))
    schema: dict[str, Any] = {"description": note.doc} if note.doc else {}
    kind, _, name = note.kind.partition(" ")
    if kind == "settings":
        return {**schema, "type": "object", "additionalProperties": False, "properties": list_settings(name)}
    if kind == "models":
        return {
            **schema,
            "type": "object",
            "minProperties": 1,
            "propertyNames": NAME,
            "additionalProperties": _defaults_schema("worker", notes),
        }
    if kind == "splits":
        weights = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "integer", "minimum": 0}}
        return {**schema, "type": "object", "propertyNames": NAME, "additionalProperties": weights}
    if kind == "open":
        return {**schema, "type": "array" if isinstance(value, list) else "object"}
    if isinstance(value, dict):
        properties = {key: _build_schema((*path, key), item, notes) for key, item in value.items()}
        if kind == "like":
            properties = _defaults_schema(name, notes)["properties"] | properties
        return {**schema, "type": "object", "additionalProperties": False, "properties": properties, **note.more}
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    schema = {**schema, "type": names[type(value)], **note.more}
    return {k: v for k, v in schema.items() if not (k == "type" and "enum" in schema)}


def _defaults_schema(name: str, notes: dict[tuple[str, ...], Value]) -> dict[str, Any]:
    """Return the schema of a top-level value that others take their keys from."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    return _build_schema((name,), values[name], notes)


def build_readme(values: dict[str, Any], notes: list[Value]) -> str:
    """Return the chart's README: how to install it, then every value."""
    rows = []
    for note in notes:
        value = _value_at(values, note.path)
        if note.kind == "plain" and isinstance(value, dict) and value:
            continue
        shown = json.dumps(value, ensure_ascii=False)
        nested = note.kind.startswith("like ") and bool(value)
        shown = shown if len(shown) <= 60 and not nested else "see values.yaml"
        choices = ", ".join(str(choice).lower() for choice in note.more.get("enum", ()))
        doc = f"{note.doc} (one of {choices})" if choices else note.doc
        rows.append(f"| `{'.'.join(note.path)}` | `{shown}` | {doc} |")
    lead = (CHART / "README.lead.md").read_text()
    by_place = "\n".join(list_place_rows({note.path: note for note in notes}))
    table = "| Value | Default | Meaning |\n|---|---|---|\n" + "\n".join(rows)
    return f"{lead}\n## Values by place\n\n{PLACES_LEAD}\n{by_place}\n\n## Values\n\n{table}\n"


PLACES = {"aws": "AWS", "gcp": "Google Cloud", "azure": "Azure", "onprem": "on premises"}
PLACES_LEAD = f"""The overlays of places set these; replace accounts, projects, networks and names by yours.

| Value | {" | ".join(PLACES.values())} |
|---{"|---" * len(PLACES)}|"""


def list_place_rows(notes: dict[tuple[str, ...], Value]) -> Iterator[str]:
    """Yield a row for each value that the overlay of a place sets, with its value in each of them."""
    overlays = {
        name: dict(_flatten((), yaml.safe_load((CHART / f"values-{name}.yaml").read_text()), notes))
        for name in PLACES
    }
    for path in sorted({path for values in overlays.values() for path in values}):
        cells = (_show_cell(name, values, path) for name, values in overlays.items())
        yield f"| `{'.'.join(path)}` | {' | '.join(cells)} |"


def _flatten(
    path: tuple[str, ...], value: Any, notes: dict[tuple[str, ...], Value]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield path and value of what an overlay sets; a map of the user's own keys is one value."""
    note = notes.get(path) or notes.get(("pods", *path[1:])) or Value(path)
    if isinstance(value, dict) and note.kind.partition(" ")[0] in ("plain", "like"):
        for name, item in value.items():
            yield from _flatten((*path, name), item, notes)
    else:
        yield path, value


def _show_cell(overlay: str, values: dict[tuple[str, ...], Any], path: tuple[str, ...]) -> str:
    if path not in values:
        return ""
    shown = json.dumps(values[path], ensure_ascii=False)
    return f"`{shown}`" if len(shown) <= 50 else f"[values-{overlay}.yaml](values-{overlay}.yaml)"


def _value_at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values[name]
    return values


def render_keda_manifests() -> dict[str, str]:
    """Return keda/*.yaml: the objects that KEDA reads, as the chart renders them where KEDA is installed."""
    with helm.Chart.load(str(CHART)) as chart:
        rendered = chart.render({"keda": {"enabled": True}}, name="gleaner", namespace="gleaner")
    manifests = {}
    head = "# Written by `make chart-sync` from charts/gleaner with its defaults; edit the chart.\n"
    for text in rendered.values():
        for document in text.split("\n---"):
            kind = re.search(r"^kind: (ScaledObject|TriggerAuthentication)$", document, re.MULTILINE)
            if kind:
                name = re.search(r"^  name: (\S+)$", document, re.MULTILINE)
                assert name
                file = f"{kind[1].lower()}-{name[1].removeprefix('gleaner-')}.yaml"
                manifests[file] = head + _strip_blank_lines(document)
    return manifests


def _strip_blank_lines(document: str) -> str:
    lines = document.strip().removeprefix("---").strip().splitlines()
    return "\n".join(line for line in lines if line.strip()) + "\n"


def read_documented_users() -> str:
    """Return the store's users as docs/reference/security-redis.md has them, one per line.

    Raises:
        LookupError: the page has no such block.
    """
    page = (ROOT / "docs" / "reference" / "security-redis.md").read_text()
    block = re.search(r"```acl\n(.*?)\n```", page, re.DOTALL)
    if block is None:
        raise LookupError("docs/reference/security-redis.md has no block ```acl")
    return block[1]


def derive_files() -> dict[Path, str]:
    """Return every derived file with its expected content."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    notes = list(parse_values(text))
    by_path = {note.path: note for note in notes}
    files = {
        CHART / "values.schema.json": json.dumps(build_schema(values, by_path), indent=1, ensure_ascii=False)
        + "\n",
        CHART / "README.md": build_readme(values, notes),
    }
    users = read_documented_users()
    for path in sorted((ROOT / "deploy" / "valkey").glob("*.sh")):
        if path.name == "grow-volume.sh":  # a person runs it, next to the chart
            continue
        files[CHART / "files" / "valkey" / path.name] = path.read_text().replace("@USERS@", users)
    files |= {ROOT / "keda" / name: manifest for name, manifest in render_keda_manifests().items()}
    alerts = ROOT / "alerts"
    for path in sorted(alerts.glob("rules/*.yml")):
        files[CHART / "files" / "alerts" / path.name] = path.read_text()
    for path in sorted(alerts.glob("dashboards/*.json")):
        files[CHART / "files" / "dashboards" / path.name] = path.read_text()
    return files


def find_stale() -> list[Path]:
    """Return files under the chart's files/ and keda/ that are no longer derived from anything."""
    expected = derive_files()
    present = [*(CHART / "files").glob("*/*"), *(ROOT / "keda").glob("*.yaml")]
    return [path for path in present if path not in expected]


def find_outdated() -> list[str]:
    """Return the derived files that are out of date."""
    changed = [path for path, text in derive_files().items() if not path.exists() or path.read_text() != text]
    return [str(path.relative_to(ROOT)) for path in (*changed, *find_stale())]


def main() -> int:
    """Write, or check."""
    if "--check" in sys.argv:
        print("\n".join(find_outdated()))
        return bool(find_outdated())
    # An old schema would refuse new values when keda/ is rendered.
    (CHART / "values.schema.json").unlink(missing_ok=True)
    for path, text in derive_files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in find_stale():
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
