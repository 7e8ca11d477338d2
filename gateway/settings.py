"""The gateway's settings: what all processes share, and HTTP's own addresses, keys and limits."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from gateway.webhooks.settings import WebhookSettings
from jobs.settings import Durability

MIB = 1024 * 1024
DAY_S = 24 * 3600


class GatewaySettings(WebhookSettings):
    """Read once by `gateway.__main__`; limits are the ones that /v1/limits will serve."""

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 takes a free one.")
    auth: Literal["on", "off"] = Field(
        "on",
        description="`off` makes every caller an admin of the tenant `default`; loopback `GLEANER_HOST` only.",
    )
    keys_file: Path = Field(
        Path("~/.gleaner/keys.json"),
        description="The API keys file (`gleaner keys` edits it); changes count within two seconds.",
    )

    durability: Durability = Field(
        "disk",
        description="What a 202 waits for: `process`: the server has it; `disk`: its append-only file is on disk; "
        "`replica`: a replica's too.",
    )

    max_body_bytes: int = Field(32 * MIB, ge=1, description="Largest JSON request body (bytes).")
    max_documents: int = Field(10_000, ge=1, description="Most documents of a JSON job.")
    max_document_bytes: int = Field(
        MIB, ge=1, description="Largest text (UTF-8 bytes); a larger one fails alone with `document_too_large`."
    )
    max_document_id_length: int = Field(256, ge=1, description="Longest document id (characters).")
    max_labels: int = Field(100, ge=1, description="Most labels of a job or of a document.")
    max_label_length: int = Field(128, ge=1, description="Longest label (characters).")
    max_label_description_length: int = Field(
        1024, ge=1, description="Longest description of a label (characters)."
    )
    max_metadata_entries: int = Field(16, ge=0, description="Most metadata entries of a job.")
    max_metadata_length: int = Field(512, ge=1, description="Longest metadata value (characters); keys have 64.")

    default_deadline_s: int = Field(DAY_S, ge=1, description="Deadline of a job that names none (seconds).")
    max_deadline_s: int = Field(DAY_S, ge=1, description="Longest deadline a job may ask for (seconds).")
    default_result_ttl_s: int = Field(
        DAY_S, ge=1, description="How long results stay after the job's end where the job does not say (seconds)."
    )
    max_result_ttl_s: int = Field(DAY_S, ge=1, description="Longest stay of results a job may ask for (seconds).")

    extract_max_documents: int = Field(32, ge=1, description="Most documents of one `POST /v1/extract`.")
    extract_wait_s: float = Field(
        30.0, gt=0, le=60, description="How long `POST /v1/extract` waits before it answers 202 (seconds)."
    )
    max_wait_s: int = Field(60, ge=0, le=60, description="Longest `?wait=` and `Prefer: wait=` (seconds).")

    tenant_max_open_jobs: int = Field(0, ge=0, description="Most open jobs of one tenant; 0 is no limit.")
    tenant_max_open_characters: int = Field(
        0, ge=0, description="Most characters in open jobs of one tenant; 0 is no limit."
    )
    model_max_open_characters: int = Field(
        0, ge=0, description="Most characters in open jobs of one model; above it 503 `overloaded`; 0 is no limit."
    )
    max_open_characters: int = Field(
        0, ge=0, description="Most characters in open jobs of all; above it 503 `overloaded`; 0 is no limit."
    )

    @model_validator(mode="after")
    def _auth_off_is_local(self) -> Self:
        if self.auth == "off" and not _is_loopback(self.host):
            raise ValueError("GLEANER_AUTH=off needs a loopback GLEANER_HOST such as 127.0.0.1")
        return self

    @model_validator(mode="after")
    def _defaults_within_limits(self) -> Self:
        for name in ("deadline_s", "result_ttl_s"):
            if getattr(self, f"default_{name}") > getattr(self, f"max_{name}"):
                raise ValueError(f"GLEANER_DEFAULT_{name.upper()} is above GLEANER_MAX_{name.upper()}")
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
