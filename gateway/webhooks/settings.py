"""Webhook settings that gateway and courier share: allowed receivers, look-ups, time limits, TLS and proxy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from gateway.webhooks.allowed import parse_allowed
from gateway.webhooks.dns import parse_name_servers
from jobs.settings import Settings


def split_commas(value: object) -> object:
    """Split a string at its commas; return any other value as it is."""
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_commas)]


class WebhookSettings(Settings):
    """Webhook settings of gateway and courier."""

    webhook_allow: CommaSeparated = Field(
        (),
        description="Receivers that webhooks may be sent to although they are not public, comma-separated: "
        "`hooks.internal:8443`, `hooks.internal:8443/path`, `10.20.0.0/16:8443`, `[fd00::/8]:8000-8100`, or "
        "`10.20.0.0/16` for every port; with `tenant=` before it, for a single tenant.",
    )
    webhook_nameservers: CommaSeparated = Field(
        (),
        description="Name servers (`address` or `address:port`, comma-separated) that resolve receivers' names; "
        "empty: the system's name servers.",
    )
    webhook_allow_http: bool = Field(False, description="`true` allows webhooks to plain `http://` URLs.")
    webhook_connect_s: float = Field(5.0, gt=0, le=60, description="Seconds to resolve and connect to a receiver.")
    webhook_timeout_s: float = Field(
        15.0, gt=0, le=120, description="Seconds for a whole attempt, including the response."
    )
    webhook_client_cert: Path | None = Field(
        None, description="PEM file with the client certificate and key for webhooks (mutual TLS)."
    )
    webhook_ca_file: Path | None = Field(
        None, description="PEM file with certificate authorities to trust in addition to the system's."
    )
    webhook_proxy: SecretStr | None = Field(
        None,
        description="Egress proxy, `http://[user:password@]host:port`: every attempt is tunnelled through it "
        "with CONNECT to the checked address.",
    )
    public_url: str = Field(
        "",
        description="The API's URL as clients see it, such as `https://gleaner.example.com`; the prefix of "
        "URLs in webhooks. If empty, webhooks contain paths.",
    )

    @field_validator("webhook_allow")
    @classmethod
    def _check_allowed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_allowed(",".join(value))
        return value

    @field_validator("webhook_nameservers")
    @classmethod
    def _check_name_servers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_name_servers(value)
        return value
