"""Settings of webhooks that gateway and courier share: where they may go, and how they get there."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from jobs.settings import Settings


class WebhookSettings(Settings):
    """The same on gateway and courier."""

    webhook_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Networks (CIDR, comma-separated) that webhooks may go to although they are not public.",
    )
    webhook_allow_http: bool = Field(False, description="`true` lets webhooks go to plain `http://` URLs.")
    webhook_connect_s: float = Field(
        5.0, gt=0, le=60, description="How long finding and connecting to a receiver may take (seconds)."
    )
    webhook_timeout_s: float = Field(
        15.0, gt=0, le=120, description="How long a whole attempt may take, its answer included (seconds)."
    )
    webhook_client_cert: Path | None = Field(
        None, description="PEM file with the certificate and key that webhooks show to receivers (mutual TLS)."
    )
    webhook_ca_file: Path | None = Field(
        None, description="PEM file with certificate authorities to trust beside the usual ones."
    )
    webhook_proxy: SecretStr | None = Field(
        None,
        description="Egress proxy, `http://[user:password@]host:port`: every attempt goes through its CONNECT, "
        "to the address that was checked.",
    )
    public_url: str = Field(
        "",
        description="The API's address as clients see it, such as `https://gleaner.example.com`: "
        "put before the paths in webhooks; empty leaves them paths.",
    )

    @field_validator("webhook_allow", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        for part in parts:
            ipaddress.ip_network(part)
        return parts
