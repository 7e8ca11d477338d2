"""Images and their registries."""

from __future__ import annotations

import httpx
import pytest

from gleaner.cli.preflight.registry import ImageName, check_image, parse_image
from gleaner.cli.preflight.requirements import ImageNeed


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("gleaner-gateway:0.1.0", ImageName("docker.io", "library/gleaner-gateway", "0.1.0")),
        ("rclone/rclone", ImageName("docker.io", "rclone/rclone", "latest")),
        ("ghcr.io/a/b:1", ImageName("ghcr.io", "a/b", "1")),
        ("localhost:5000/b", ImageName("localhost:5000", "b", "latest")),
        ("ghcr.io/a/b:1@sha256:0", ImageName("ghcr.io", "a/b", "sha256:0")),
    ],
)
def test_an_image_is_read_as_container_runtimes_do(image: str, name: ImageName) -> None:
    """A name without a registry is Docker Hub's, which is rarely meant."""
    assert parse_image(image) == name


@pytest.mark.parametrize(
    ("status", "secrets", "grade"),
    [(200, (), "good"), (404, (), "bad"), (403, (), "bad"), (403, ("pull",), "warning"), (None, (), "warning")],
)
def test_an_image_is_looked_up_in_its_registry(status: int | None, secrets: tuple[str, ...], grade: str) -> None:
    """With an anonymous token where the registry asks for one; an unreachable registry proves nothing."""

    def answer(request: httpx.Request) -> httpx.Response:
        if status is None:
            raise httpx.ConnectError("refused")
        if request.url.path == "/token":
            assert request.url.params["scope"] == "repository:a/b:pull"
            return httpx.Response(200, json={"token": "t"})
        if "authorization" not in request.headers:
            challenge = 'Bearer realm="https://r.example/token",service="r",scope="repository:a/b:pull"'
            return httpx.Response(401, headers={"www-authenticate": challenge})
        assert request.url.path == "/v2/a/b/manifests/1"
        return httpx.Response(status)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert check_image(client, ImageNeed("r.example/a/b:1", secrets)).grade == grade


def test_docker_hub_is_asked_at_its_own_host_and_a_refused_token_is_a_refusal() -> None:
    """The name of the registry is not the name of the server; a token endpoint may refuse."""
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        challenge = 'Bearer realm="https://auth.example/token",service="r"'
        return httpx.Response(401, headers={"www-authenticate": challenge})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        finding = check_image(client, ImageNeed("gleaner-gateway:1"))
    assert hosts == ["registry-1.docker.io", "auth.example"]
    assert (finding.grade, "(401)" in finding.what) == ("bad", True)
