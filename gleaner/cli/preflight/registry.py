"""Image references, and a question to their registry without credentials: does the manifest exist?"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx

from gleaner.cli.preflight.requirements import ImageNeed
from gleaner.cli.printing import Finding

TIMEOUT_S = 10.0
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


@dataclass(frozen=True, slots=True)
class ImageName:
    """A parsed image reference, with Docker's defaults."""

    registry: str
    repository: str
    reference: str


def parse_image(image: str) -> ImageName:
    """Parse `[registry/]repository[:tag][@digest]` as container runtimes do."""
    rest, _, digest = image.partition("@")
    first, slash, after = rest.partition("/")
    registry, path = "docker.io", rest
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, path = first, after
    repository, colon, tag = path.rpartition(":")
    if not colon:
        repository, tag = path, "latest"
    if registry == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    return ImageName(registry, repository, digest or tag)


def check_image(client: httpx.Client, need: ImageNeed) -> Finding:
    """Ask the image's registry for its manifest, as a node without credentials would."""
    name = parse_image(need.image)
    host = "registry-1.docker.io" if name.registry == "docker.io" else name.registry
    try:
        status = _request_manifest(client, f"https://{host}/v2/{name.repository}/manifests/{name.reference}")
    except httpx.HTTPError as error:
        problem = f"image {need.image}: {name.registry} does not answer from here ({type(error).__name__})"
        return Finding("warning", problem, "check that the cluster's nodes reach it")
    if status == httpx.codes.OK:
        return Finding("good", f"image {need.image} can be pulled without credentials")
    if status == httpx.codes.NOT_FOUND:
        return Finding(
            "bad", f"image {need.image} is not in {name.registry}", "push it, or set images.registry and the tags"
        )
    if need.pull_secrets:
        problem = (
            f"image {need.image}: {name.registry} asks for credentials; {', '.join(need.pull_secrets)} is not tried"
        )
        return Finding("warning", problem, "check that the Secret may pull it")
    return Finding(
        "bad",
        f"image {need.image} cannot be pulled without credentials, or does not exist ({status})",
        "set images.registry, or name a pull secret; ignore this if the nodes have credentials of their own",
    )


def _request_manifest(client: httpx.Client, url: str) -> int:
    """Return the status of a HEAD request, repeated with an anonymous token if the registry offers one."""
    response = client.head(url, headers={"Accept": _ACCEPT})
    challenge = response.headers.get("www-authenticate", "")
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if (
        response.status_code != httpx.codes.UNAUTHORIZED
        or not challenge.lower().startswith("bearer")
        or "realm" not in fields
    ):
        return response.status_code
    granted = client.get(fields.pop("realm"), params=fields)
    if granted.status_code != httpx.codes.OK:
        return response.status_code
    token = granted.json().get("token") or granted.json().get("access_token")
    return client.head(url, headers={"Accept": _ACCEPT, "Authorization": f"Bearer {token}"}).status_code
