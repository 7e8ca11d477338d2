"""The folders of a pod's volumes, with Secrets and ConfigMaps as files that follow their objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ship.bench.cluster.containers import ConfigError, Image, Objects, Placement, read_data

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Clock:
    """Time that passes `pace` times as fast wherever only time passes."""

    pace: float = 1.0

    def now(self) -> float:
        """Return the cluster's time (seconds)."""
        return time.monotonic() * self.pace

    def shorten(self, seconds: float) -> float:
        """Return the real seconds of a wait."""
        return seconds / self.pace


@dataclass(frozen=True)
class Node:
    """State that the pods of all nodes share.

    Attributes:
        folder: for volumes, claims and logs.
        find_image: gives the image of a name.
        read_objects: gives the cluster's objects now.
        localise: replaces names of Services by addresses.
    """

    folder: Path
    clock: Clock
    find_image: Callable[[str], Image]
    read_objects: Callable[[], Objects]
    localise: Callable[[str], str]


@dataclass
class Volumes:
    """The folders of a pod's volumes.

    Attributes:
        folder: contains them and the logs.
        mounts: path in the container -> folder.
    """

    name: str
    address: str
    spec: Manifest
    shared: Node
    mounts: dict[str, str] = field(default_factory=dict)
    _written: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the folders."""
        self.folder = self.shared.folder / "pods" / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sources = {volume["name"]: volume for volume in self.spec.get("volumes") or ()}
        for container in (*(self.spec.get("initContainers") or ()), *self.spec["containers"]):
            for mount in container.get("volumeMounts") or ():
                folder = self._find_folder(mount["name"]) / mount.get("subPath", "")
                self.mounts[mount["mountPath"]] = str(folder)

    def _find_folder(self, volume: str) -> Path:
        claim = self._sources[volume].get("persistentVolumeClaim")
        folder = self.shared.folder / "claims" / claim["claimName"] if claim else self.folder / volume
        if not claim:
            folder.mkdir(exist_ok=True)
        return folder

    def refresh(self) -> None:
        """Write the Secrets and ConfigMaps that changed since the last call, as kubelet does.

        Raises:
            ConfigError: one does not exist, or the claim of a volume is not there.
        """
        objects = self.shared.read_objects()
        for name, volume in self._sources.items():
            if claim := volume.get("persistentVolumeClaim"):
                if name not in self._written and ("PersistentVolumeClaim", claim["claimName"]) not in objects:
                    raise ConfigError(f"PersistentVolumeClaim {claim['claimName']} not found")
                self._written[name] = {}
                continue
            source = volume.get("secret") or volume.get("configMap")
            if source is None:
                continue
            kind, key = ("Secret", "secretName") if "secret" in volume else ("ConfigMap", "name")
            if name in self._written and (kind, source[key]) not in objects:
                continue  # deleted later: the files stay
            content = read_data(kind, source[key], objects)
            if "items" in source:
                content = {item["path"]: content[item["key"]] for item in source["items"]}
            if self._written.get(name) != content:
                self._write(self.folder / name, content)
                self._written[name] = content

    def _write(self, folder: Path, content: Mapping[str, str]) -> None:
        placement = Placement(self.name, self.address, "", self.mounts, self.shared.localise)
        for path in folder.iterdir():
            if path.name not in content:
                path.unlink()
        for name, text in content.items():
            draft = folder / f".{name}"
            draft.write_text(placement.translate(text))
            draft.replace(folder / name)
