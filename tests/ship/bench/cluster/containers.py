"""A rendered container, the objects that it refers to, and its image -> a command that runs here.

Images are known by the end of their repository. Those of this repository have the ENV, ENTRYPOINT and CMD of their
Dockerfile, with this machine's Python.
"""

from __future__ import annotations

import base64
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from gleaner.cli.preflight.quantities import parse_quantity
from tests.ship.bench.cluster.network import localise_paths
from tests.support.chart import ROOT

Manifest = Mapping[str, Any]
Objects = Mapping[tuple[str, str], Manifest]


OF_THIS_MACHINE = {"PATH", "PYTHONPATH"}
"""Variables of images whose paths are not the container's."""


class ConfigError(Exception):
    """A Secret, a ConfigMap or a key of one is missing: CreateContainerConfigError."""


@dataclass(frozen=True)
class Image:
    """The program of an image.

    Attributes:
        environment: name -> value, before paths and addresses are local.
        entrypoint: put before `args`.
        command: the default `args`.
    """

    environment: Mapping[str, str]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placement:
    """Node and addresses of a pod, as its containers see them.

    Attributes:
        mounts: path in the container -> folder here.
        localise: replaces names of Services by addresses.
    """

    name: str
    address: str
    node: str
    mounts: Mapping[str, str] = field(default_factory=dict)
    localise: Callable[[str], str] = str

    def translate(self, text: str) -> str:
        """Make paths and addresses local."""
        return localise_paths(self.localise(text), self.mounts).replace("0.0.0.0", self.address)


def read_image(dockerfile: str, **more: str) -> Image:
    """Return the image that a Dockerfile of this repository describes, run from the working tree.

    Args:
        dockerfile: its name.
        more: environment that tests add.
    """
    text = re.sub(r"\\\n\s*", " ", (ROOT / dockerfile).read_text())
    runtime = text.partition("\nFROM ${BASE} AS runtime")[2] or text.rpartition("\nFROM ${BASE}")[2]
    environment = dict(
        word.split("=", 1)
        for line in re.findall(r"^ENV (.*)$", runtime, re.MULTILINE)
        for word in shlex.split(line)
    )
    for name in ("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"):
        environment.pop(name, None)
    [entrypoint] = re.findall(r'^ENTRYPOINT \["(.*)"\]', runtime, re.MULTILINE)
    [command] = re.findall(r"^CMD (\[.*\])$", runtime, re.MULTILINE)
    assert entrypoint == "python", dockerfile
    ours = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONFAULTHANDLER": "1",
    }
    words = tuple(re.findall(r'"([^"]*)"', command))
    return Image(environment | ours | more, (sys.executable,), words)


def build_command(container: Manifest, image: Image, objects: Objects, placement: Placement) -> list[str]:
    """Return the command line of a container.

    Raises:
        ConfigError: something that its environment refers to is missing.
    """
    environment = build_environment(container, image, objects, placement)
    arguments = container.get("args") or (() if container.get("command") else image.command)
    words = [expand_variables(word, environment) for word in (*(container.get("command") or ()), *arguments)]
    entrypoint = () if container.get("command") else image.entrypoint
    return [*entrypoint, *map(placement.translate, words)]


def build_environment(container: Manifest, image: Image, objects: Objects, placement: Placement) -> dict[str, str]:
    """Return the environment of a container, as kubelet makes it.

    Raises:
        ConfigError: something that it refers to is missing.
    """
    environment = dict(image.environment)
    for source in container.get("envFrom") or ():
        kind = "Secret" if "secretRef" in source else "ConfigMap"
        reference = source.get("secretRef") or source["configMapRef"]
        environment |= {
            source.get("prefix", "") + key: value
            for key, value in read_data(kind, reference["name"], objects).items()
        }
    for entry in container.get("env") or ():
        if "valueFrom" in entry:
            value = _resolve(entry["valueFrom"], container, objects, placement)
        else:
            value = expand_variables(str(entry.get("value", "")), environment)
        if value is not None:
            environment[entry["name"]] = value
    untouched = {name: value for name, value in image.environment.items() if name in OF_THIS_MACHINE}
    # The address is for images of programs that would listen on every one.
    return (
        {name: placement.translate(value) for name, value in environment.items()}
        | untouched
        | {"POD_ADDRESS": placement.address}
    )


def expand_variables(text: str, environment: Mapping[str, str]) -> str:
    """Replace `$(NAME)` where that variable is defined, as kubelet does."""
    return re.sub(r"\$\((\w+)\)", lambda match: environment.get(match[1], match[0]), text)


def _resolve(source: Manifest, container: Manifest, objects: Objects, placement: Placement) -> str | None:
    if "fieldRef" in source:
        fields = {
            "metadata.name": placement.name,
            "metadata.namespace": "gleaner",
            "status.podIP": placement.address,
            "status.hostIP": placement.address,
            "spec.nodeName": placement.node,
        }
        return fields[source["fieldRef"]["fieldPath"]]
    if "resourceFieldRef" in source:
        kind, _, name = source["resourceFieldRef"]["resource"].partition(".")
        quantity = parse_quantity(str(container["resources"][kind][name]))
        divisor = parse_quantity(str(source["resourceFieldRef"].get("divisor") or 1))
        return str((quantity / divisor).to_integral_value(rounding="ROUND_CEILING"))
    kind, reference = (
        ("Secret", source["secretKeyRef"]) if "secretKeyRef" in source else ("ConfigMap", source["configMapKeyRef"])
    )
    try:
        data = read_data(kind, reference["name"], objects)
        if reference["key"] not in data:
            raise ConfigError(f"{kind} {reference['name']} has no key {reference['key']}")
    except ConfigError:
        if reference.get("optional"):
            return None
        raise
    return data[reference["key"]]


def read_data(kind: str, name: str, objects: Objects) -> dict[str, str]:
    """Return the decoded content of a Secret or ConfigMap.

    Raises:
        ConfigError: it does not exist.
    """
    manifest = objects.get((kind, name))
    if manifest is None:
        raise ConfigError(f"{kind} {name} not found")
    data = manifest.get("data") or {}
    if kind == "Secret":
        decoded = {key: base64.b64decode(value).decode() for key, value in data.items()}
        return decoded | dict(manifest.get("stringData") or {})
    return dict(data)


def count_requests(spec: Manifest, resource: str) -> Decimal:
    """Return the sum over a pod's containers of what they request of a resource, such as `nvidia.com/gpu`."""
    total = Decimal(0)
    for container in spec["containers"]:
        resources = container.get("resources") or {}
        amounts = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        total += parse_quantity(str(amounts.get(resource, 0)))
    return total
