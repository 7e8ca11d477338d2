"""The gateway's settings: the common ones, and addresses, keys and limits of the HTTP API."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, IPvAnyNetwork, field_validator, model_validator
from pydantic_settings import NoDecode

from gateway.webhooks.settings import CommaSeparated, WebhookSettings, split_commas
from jobs.settings import Durability

MIB = 1024 * 1024
DAY_S = 24 * 3600
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")


class GatewaySettings(WebhookSettings):
    """Settings of the gateway, read once by `gateway.__main__`; GET /v1/limits serves the limits."""

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 takes a free one.")
    gateway_processes: int = Field(
        1,
        ge=0,
        le=64,
        description="Processes that serve the port; 0 starts one per core. Per-process limits, such as open "
        "files, apply to each. In Kubernetes, prefer more replicas.",
    )
    auth: Literal["on", "off"] = Field(
        "on",
        description="`off` makes every caller an admin of tenant `default`; requires a loopback `GLEANER_HOST`.",
    )
    keys_file: Path = Field(
        Path("~/.gleaner/keys.json"),
        description="The API keys file (edit it with `gleaner keys`); changes take effect within two seconds.",
    )
    keys_max_stale_s: int = Field(
        600,
        ge=0,
        description="How long the last keys remain valid while the keys file is missing or damaged (seconds); "
        "then every request with a key gets 503 `keys_unavailable` until the file can be read. 0: as long as the "
        "process runs.",
    )

    auth_query: bool = Field(
        False,
        description="Also accept the key in `?api_key=`. Proxies log query strings, so enable it only for clients "
        "that cannot send headers.",
    )
    auth_cookie: bool = Field(
        False,
        description="Let browsers sign in with `POST /v1/session`, which sets a session cookie: "
        "`__Host-gleaner_session` over https, `gleaner_session` over plain HTTP. State-changing requests then "
        "need the header `X-Gleaner-CSRF`. If a proxy terminates TLS, add it to `GLEANER_TRUSTED_PROXIES`.",
    )
    session_lifetime_s: int = Field(
        12 * 3600, ge=60, description="Lifetime of a browser session (seconds); it ends earlier if its key does."
    )
    auth_failures_per_minute: int = Field(
        120,
        ge=0,
        description="Attempts with invalid keys per minute from one address (IPv6: /64); more get 429. 0: no "
        "limit.",
    )
    anonymous_per_minute: int = Field(
        6000,
        ge=0,
        description="Requests without a key per minute from one address (IPv6: one /64) to one gateway process: "
        "pages, documentation and the API; more get 429. Probes are not counted. 0 is no limit.",
    )
    docs: Literal["on", "off"] = Field(
        "on", description="`off` disables the API reference: /docs, /redoc and /openapi.json return 404."
    )

    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(split_commas)] = Field(
        (),
        description="Comma-separated addresses or networks whose X-Forwarded-For and -Proto are trusted.",
    )
    https: Literal["off", "redirect", "require"] = Field(
        "off",
        description="Response to plain HTTP, except for probes. `off`: serve it; `redirect`: redirect GET to "
        "https and refuse all else; `require`: refuse it. The gateway or a trusted proxy terminates HTTPS.",
    )
    https_hosts: CommaSeparated = Field(
        (),
        description="Comma-separated hosts that `https=redirect` redirects to; empty: the Host of the request.",
    )
    hsts_s: int = Field(
        31_536_000,
        ge=0,
        description="`max-age` of Strict-Transport-Security (seconds), sent unless `https` is `off`; 0 sends none.",
    )
    tls_cert_file: Path | None = Field(None, description="Certificate chain (PEM); enables HTTPS for the API.")
    tls_key_file: Path | None = Field(None, description="Private key of the certificate (PEM).")
    tls_client_ca_file: Path | None = Field(
        None, description="Certificate authority (PEM); clients must present a certificate of it."
    )
    cors_origins: CommaSeparated = Field(
        (),
        description="Comma-separated origins whose pages may call the API, such as `https://app.example.com`; "
        "none by default. Their cookies are ignored.",
    )

    durability: Durability = Field(
        "disk",
        description="When a 202 is sent. `process`: Redis has the job; `disk`: Redis reports its append-only file "
        "as synced to disk, which Valkey does too early without `appendfsync always`; `replica`: a replica has "
        "the job as well.",
    )

    max_body_bytes: int = Field(32 * MIB, ge=1, description="Largest JSON request body (bytes).")
    body_memory_bytes: int = Field(
        0,
        ge=0,
        description="Memory for request bodies per process (bytes), at most half of it for one tenant; a request "
        "that does not get its share within ten seconds gets 503 `overloaded`. At least, and with 0 exactly, "
        "twice `max_body_bytes`.",
    )
    max_compression_ratio: int = Field(
        100, ge=1, description="Largest compression ratio of a request body and of each chunk of it."
    )
    body_idle_s: float = Field(
        30.0,
        gt=0,
        description="Longest pause within a request body (seconds); it must also arrive at 1 KiB per second.",
    )
    header_timeout_s: float = Field(
        10.0, gt=0, description="Longest time from the connection to the end of the request headers (seconds)."
    )
    write_timeout_s: float = Field(
        60.0,
        gt=0,
        description="Seconds a client may stall while reading a response before the connection is closed.",
    )
    max_documents: int = Field(10_000, ge=1, description="Most documents of a JSON job.")
    max_ndjson_bytes: int = Field(256 * MIB, ge=1, description="Largest NDJSON request body (bytes).")
    max_upload_s: int = Field(
        3600,
        ge=1,
        description="Longest duration of an NDJSON upload (seconds); its documents are stored as they arrive.",
    )
    max_ndjson_documents: int = Field(100_000, ge=1, description="Most documents of an NDJSON job.")
    max_document_bytes: int = Field(
        MIB, ge=1, description="Largest text (UTF-8 bytes); a larger one fails alone, with `document_too_large`."
    )
    max_document_id_length: int = Field(256, ge=1, description="Longest document id (characters).")
    max_labels: int = Field(
        100,
        ge=1,
        description="Most labels of a job or of a document whose model announces no limit; also most classes of a "
        "classification, and most labels of a relation's head or tail.",
    )
    max_model_labels: int = Field(
        5000,
        ge=1,
        description="Most labels of a job or of a document, whatever its model announces; bounds the memory of a "
        "request.",
    )
    max_relations: int = Field(50, ge=0, description="Most relations of a job or of a document.")
    max_classifications: int = Field(20, ge=0, description="Most classifications of a job or of a document.")
    max_label_length: int = Field(128, ge=1, description="Longest label (characters).")
    max_label_description_length: int = Field(
        1024, ge=1, description="Longest description of a label (characters)."
    )
    max_metadata_entries: int = Field(16, ge=0, description="Most metadata entries of a job.")
    max_metadata_length: int = Field(
        512, ge=1, description="Longest metadata value (characters); keys have at most 64."
    )

    default_deadline_s: int = Field(DAY_S, ge=1, description="Deadline of a job that sets none (seconds).")
    max_deadline_s: int = Field(DAY_S, ge=1, description="Longest deadline a job may set (seconds).")
    default_result_ttl_s: int = Field(
        DAY_S,
        ge=1,
        description="How long results are stored after the end of a job that does not set it (seconds).",
    )
    max_result_ttl_s: int = Field(
        DAY_S, ge=1, description="Longest time a job may set for storing its results (seconds)."
    )

    retry_text_ttl_s: int = Field(
        3600,
        ge=1,
        description="How long the texts of a cancelled job are stored for a retry (seconds), at most as long as "
        "its results.",
    )

    extract_max_documents: int = Field(32, ge=1, description="Most documents of one `POST /v1/extract`.")
    extract_wait_s: float = Field(
        30.0,
        gt=0,
        le=60,
        description="How long `POST /v1/extract` waits for the results before it responds with 202 (seconds).",
    )
    max_wait_s: int = Field(60, ge=0, le=60, description="Longest `?wait=` and `Prefer: wait=` (seconds).")

    key_streams: int = Field(
        256,
        ge=0,
        description="Event streams, result streams and waits of one key that one gateway process keeps open; more "
        "get 429. Waits of `POST /v1/extract` are not counted. 0 is no limit.",
    )
    tenant_streams: int = Field(512, ge=0, description="As `key_streams`, for one tenant; 0 is no limit.")

    key_requests_per_s: int = Field(0, ge=0, description="Requests per second of one key; 0 is no limit.")
    key_submits_per_s: int = Field(0, ge=0, description="Submissions per second of one key; 0 is no limit.")
    key_reads_per_s: int = Field(
        0,
        ge=0,
        description="Reads per second of one key; all requests except submissions are reads: one job costs 1, a "
        "list 5, a page of results up to 5. 0 is no limit. The chart sets 50.",
    )
    key_documents_per_day: int = Field(0, ge=0, description="Documents per day of one key; 0 is no limit.")
    key_characters_per_day: int = Field(
        0,
        ge=0,
        description="Characters per day of one key, counted as in `tenant_max_open_characters`; 0 is no limit.",
    )
    key_open_jobs: int = Field(
        0,
        ge=0,
        description="Most open jobs of one key; 0 is no limit. `gleaner keys create` overrides these six limits "
        "for a single key.",
    )
    tenant_requests_per_s: int = Field(0, ge=0, description="Requests per second of one tenant; 0 is no limit.")
    tenant_submits_per_s: int = Field(0, ge=0, description="Submissions per second of one tenant; 0 is no limit.")
    tenant_reads_per_s: int = Field(
        0,
        ge=0,
        description="Reads per second of one tenant, counted as in `key_reads_per_s`; 0 is no limit. The chart "
        "sets 100.",
    )
    tenant_documents_per_day: int = Field(0, ge=0, description="Documents per day of one tenant; 0 is no limit.")
    tenant_characters_per_day: int = Field(
        0,
        ge=0,
        description="Characters per day of one tenant, counted as in `tenant_max_open_characters`; 0 is no limit.",
    )
    tenant_max_open_jobs: int = Field(0, ge=0, description="Most open jobs of one tenant; 0 is no limit.")
    tenant_max_open_characters: int = Field(
        0,
        ge=0,
        description="Most characters in open jobs of one tenant; a text counts once per pass that its labels need "
        "(about 256 tokens of labels per pass). 0 is no limit.",
    )
    tenant_max_inline_webhooks: int = Field(
        10_000,
        ge=0,
        description="Most single-job webhooks (`webhook.url`) of one tenant that wait for their job or their "
        "receiver; registered endpoints do not count. 0 is no limit.",
    )
    tenant_max_stored_bytes: int = Field(
        0,
        ge=0,
        description="Most bytes that one tenant stores: texts, results, metadata, webhooks; above it, requests "
        "that add to them get 429 `quota_exceeded`, and running jobs still end. A key may override it for its "
        "tenant. 0 is no limit.",
    )
    model_max_open_characters: int = Field(
        0,
        ge=0,
        description="Most characters in open jobs of one model, counted as in `tenant_max_open_characters`; above "
        "it 503 `overloaded`. 0 is no limit.",
    )
    max_open_characters: int = Field(
        0,
        ge=0,
        description="Most characters in all open jobs, counted as in `tenant_max_open_characters`; above it 503 "
        "`overloaded`. 0 is no limit.",
    )

    def label_limit(self, announced: int) -> int:
        """Return the most labels of a text for a model that announces this limit; 0: it announces none."""
        return min(announced, self.max_model_labels) if announced else self.max_labels

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin; write it as https://app.example.com")
        return origins

    @model_validator(mode="after")
    def _check_tls_files(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("set both GLEANER_TLS_CERT_FILE and GLEANER_TLS_KEY_FILE, or neither")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("GLEANER_TLS_CLIENT_CA_FILE requires GLEANER_TLS_CERT_FILE")
        return self

    @model_validator(mode="after")
    def _check_auth_off_is_local(self) -> Self:
        if self.auth == "off" and not _is_loopback(self.host):
            raise ValueError("GLEANER_AUTH=off requires a loopback GLEANER_HOST such as 127.0.0.1")
        return self

    @model_validator(mode="after")
    def _check_body_memory(self) -> Self:
        if 0 < self.body_memory_bytes < 2 * self.max_body_bytes:
            raise ValueError("GLEANER_BODY_MEMORY_BYTES must be at least twice GLEANER_MAX_BODY_BYTES")
        return self

    @model_validator(mode="after")
    def _check_defaults(self) -> Self:
        for name in ("deadline_s", "result_ttl_s"):
            if getattr(self, f"default_{name}") > getattr(self, f"max_{name}"):
                raise ValueError(f"GLEANER_DEFAULT_{name.upper()} must be at most GLEANER_MAX_{name.upper()}")
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
