"""Fills the service's wheel: its packages and the shipped model, from the top of the repository.

A hook, because hatchling's `force-include` would copy them for an editable installation too, where the copies would
hide the files that are being edited.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ServiceWheel(BuildHookInterface[Any]):
    """Adds the files that the service consists of."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Include the packages, unless the installation is editable."""
        if version == "standard":
            build_data["force_include"] |= {
                f"{self.root}/../{name}": name for name in ("gateway", "jobs", "worker")
            }
            build_data["force_include"][f"{self.root}/../models/gleaner-small"] = "worker/shipped/gleaner-small"
