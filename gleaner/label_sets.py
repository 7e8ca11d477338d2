"""Label sets, as `client.label_sets`: requests are built here and sent by the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from gleaner.client.arguments import hold_labels
from gleaner.client.calls import Call, Labels, drop_missing
from gleaner.client.json_values import encode_json
from gleaner.models import parse_fields

if TYPE_CHECKING:
    from gleaner.aio import AsyncClient
    from gleaner.client import Client

_PATH = "/v1/label-sets"


@dataclass(frozen=True, slots=True)
class LabelSet:
    """A version of a label set.

    Attributes:
        versions: numbers of the versions that are stored.
        size: number of labels.
        created_at: time when this version was stored.
        labels: label -> description or None; None in the responses of `put` and `list`.
    """

    name: str
    version: int
    versions: tuple[int, ...]
    size: int
    created_at: datetime
    labels: Mapping[str, str | None] | None = None

    @property
    def reference(self) -> str:
        """The version as a job's `label_set`."""
        return f"{self.name}@{self.version}"

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> LabelSet:
        """Parse a label set; unknown fields are ignored."""
        created_at = datetime.fromisoformat(body["created_at"])
        return parse_fields(cls, body, versions=tuple(body["versions"]), created_at=created_at)


class LabelSets:
    """The tenant's label sets, as `client.label_sets`.

    Examples:
        >>> client.label_sets.put("towns", {"city": "a town", "river": None}).reference
        'towns@1'
        >>> job = client.submit(["Ada Lovelace lived in London."], label_set="towns").wait()
        >>> job.info.label_set, [entity.text for entity in next(job.results()).entities]
        ('towns@1', ['London'])
        >>> client.label_sets.get("towns", 1).labels
        {'city': 'a town', 'river': None}
        >>> client.label_sets.delete("towns")
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, name: str, labels: Labels) -> LabelSet:
        """Store labels under a name: as a new version, unless the latest version has the same labels.

        Raises:
            ValidationError: the name or a label is invalid.
            RateLimited: the tenant has too many label sets, or stores too many bytes.
        """
        return self._client._send_call(_put_label_set(name, labels))

    def get(self, name: str, version: int | None = None) -> LabelSet:
        """Return a version of a label set with its labels, by default the latest.

        Raises:
            NotFound: the tenant has no such label set, or the version is no longer stored.
        """
        return self._client._send_call(_get_label_set(name, version))

    def list(self) -> tuple[LabelSet, ...]:
        """Return the latest version of each label set by name, without labels."""
        return self._client._send_call(_list_label_sets())

    def delete(self, name: str) -> None:
        """Delete a label set with all of its versions; jobs keep their labels."""
        self._client._send_call(_delete_label_set(name))


class AsyncLabelSets:
    """Asynchronous `LabelSets`, as `AsyncClient.label_sets`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def put(self, name: str, labels: Labels) -> LabelSet:
        """See `LabelSets.put`."""
        return await self._client._send_call(_put_label_set(name, labels))

    async def get(self, name: str, version: int | None = None) -> LabelSet:
        """See `LabelSets.get`."""
        return await self._client._send_call(_get_label_set(name, version))

    async def list(self) -> tuple[LabelSet, ...]:
        """See `LabelSets.list`."""
        return await self._client._send_call(_list_label_sets())

    async def delete(self, name: str) -> None:
        """See `LabelSets.delete`."""
        await self._client._send_call(_delete_label_set(name))


def _put_label_set(name: str, labels: Labels) -> Call[LabelSet]:
    content = encode_json({"labels": hold_labels(labels)}, "the label set")
    return Call(
        "PUT", _set_path(name), _parse_label_set, headers={"Content-Type": "application/json"}, content=content
    )


def _get_label_set(name: str, version: int | None) -> Call[LabelSet]:
    return Call("GET", _set_path(name), _parse_label_set, params=drop_missing(version=version))


def _list_label_sets() -> Call[tuple[LabelSet, ...]]:
    return Call("GET", _PATH, lambda response: tuple(map(LabelSet.from_json, response.json()["data"])))


def _delete_label_set(name: str) -> Call[None]:
    return Call("DELETE", _set_path(name), lambda _response: None)


def _parse_label_set(response: httpx.Response) -> LabelSet:
    return LabelSet.from_json(response.json())


def _set_path(name: str) -> str:
    return f"{_PATH}/{quote(name, safe='')}"
