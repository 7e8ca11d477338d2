"""Settings of webhooks that gateway and courier share: where they may go, and how they get there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from gateway.webhooks.allowed import parse_allowed
from gateway.webhooks.dns import parse_name_servers
from jobs.settings import Settings


class WebhookSettings(Settings):
    """The same on gateway and courier."""

    webhook_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Receivers that webhooks may go to although they are not public, comma-separated: "
        "`hooks.internal:8443`, `hooks.internal:8443/path`, `10.20.0.0/16:8443`, `[fd00::/8]:8000-8100`, or "
        "`10.20.0.0/16` for every port; with `tenant=` before it, for one tenant alone.",
    )
    webhook_nameservers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Name servers (`address` or `address:port`, comma-separated) to look receivers' names up at; "
        "empty: those of the system.",
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

    @field_validator("webhook_allow", "webhook_nameservers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("webhook_allow")
    @classmethod
    def _entries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_allowed(",".join(value))
        return value

    @field_validator("webhook_nameservers")
    @classmethod
    def _servers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_name_servers(value)
        return value
