"""The gateway's settings: what all processes share, and HTTP's own addresses, keys and limits."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, IPvAnyNetwork, field_validator, model_validator
from pydantic_settings import NoDecode

from gateway.webhooks.settings import WebhookSettings
from jobs.settings import Durability

MIB = 1024 * 1024
DAY_S = 24 * 3600
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")


class GatewaySettings(WebhookSettings):
    """Read once by `gateway.__main__`; limits are the ones that /v1/limits will serve."""

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 takes a free one.")
    gateway_processes: int = Field(
        1,
        ge=0,
        le=64,
        description="Processes that serve the port together; 0 is one a core. Limits of a process, such as open "
        "files, are each one's own. In Kubernetes more replicas come first.",
    )
    auth: Literal["on", "off"] = Field(
        "on",
        description="`off` makes every caller an admin of the tenant `default`; loopback `GLEANER_HOST` only.",
    )
    keys_file: Path = Field(
        Path("~/.gleaner/keys.json"),
        description="The API keys file (`gleaner keys` edits it); changes count within two seconds.",
    )
    keys_max_stale_s: int = Field(
        600,
        ge=0,
        description="How long the keys last read stay in force while the keys file is missing or damaged "
        "(seconds); then every key gets 503 `keys_unavailable` until the file can be read. 0 is for as long as the "
        "process runs.",
    )

    auth_query: bool = Field(
        False,
        description="Also take the key from `?api_key=`; query strings end up in proxies' logs, so only where a "
        "client can send no header.",
    )
    auth_cookie: bool = Field(
        False,
        description="Sign browsers in with `POST /v1/session`, which sets a session's cookie: "
        "`__Host-gleaner_session` over https, `gleaner_session` over plain HTTP. What changes something then needs "
        "the header `X-Gleaner-CSRF`. Behind a proxy that ends https, name it in `GLEANER_TRUSTED_PROXIES`.",
    )
    session_lifetime_s: int = Field(
        12 * 3600, ge=60, description="How long a browser's session lasts (seconds); it ends earlier with its key."
    )
    auth_failures_per_minute: int = Field(
        120,
        ge=0,
        description="Attempts with bad keys a minute from one address (IPv6: one /64) before they are answered "
        "429; 0 is no limit.",
    )
    anonymous_per_minute: int = Field(
        6000,
        ge=0,
        description="Requests without a key a minute from one address (IPv6: one /64) to one gateway process, of "
        "pages, of documents and of the API; more get 429. Probes are not counted. 0 is no limit.",
    )
    docs: Literal["on", "off"] = Field(
        "on", description="`off` serves no API reference: /docs, /redoc and /openapi.json are 404."
    )

    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        (),
        description="Addresses or networks, comma-separated, whose X-Forwarded-For and X-Forwarded-Proto are "
        "believed.",
    )
    https: Literal["off", "redirect", "require"] = Field(
        "off",
        description="What plain HTTP gets, probes aside: `off`: answers; `redirect`: GET is sent to https, all "
        "else refused; `require`: refused. HTTPS is the gateway's own or a trusted proxy's.",
    )
    https_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names, comma-separated, that `https=redirect` sends browsers to; none: whatever Host the "
        "request names.",
    )
    hsts_s: int = Field(
        31_536_000,
        ge=0,
        description="How long browsers shall keep to https (seconds), told where `https` is not `off`; 0 tells "
        "nothing.",
    )
    tls_cert_file: Path | None = Field(None, description="Certificate chain (PEM); the API then speaks HTTPS.")
    tls_key_file: Path | None = Field(None, description="Private key of the certificate (PEM).")
    tls_client_ca_file: Path | None = Field(
        None, description="Clients must show a certificate of this authority (PEM)."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins whose pages may call the API, comma-separated, as `https://app.example.com`; none by "
        "default. Cookies are never taken from them.",
    )

    durability: Durability = Field(
        "disk",
        description="What a 202 waits for: `process`: the server has it; `disk`: it says that its append-only file "
        "is on disk, which Valkey does too soon unless it runs with `appendfsync always`; `replica`: and a replica "
        "has it, too.",
    )

    max_body_bytes: int = Field(32 * MIB, ge=1, description="Largest JSON request body (bytes).")
    body_memory_bytes: int = Field(
        0,
        ge=0,
        description="Bytes of request bodies that a process keeps at once, half of it at most for one tenant; a "
        "request that does not fit in ten seconds is answered 503 `overloaded`. At least twice `max_body_bytes`, "
        "which 0 stands for.",
    )
    max_compression_ratio: int = Field(
        100, ge=1, description="Most that a compressed request body, or any piece of it, may expand."
    )
    body_idle_s: float = Field(
        30.0,
        gt=0,
        description="Longest silence within a request body (seconds); it must also bring 1 KiB a second.",
    )
    header_timeout_s: float = Field(
        10.0, gt=0, description="How long a request's head may take, from the connection on (seconds)."
    )
    write_timeout_s: float = Field(
        60.0, gt=0, description="How long a client may read nothing of an answer that waits for it (seconds)."
    )
    max_documents: int = Field(10_000, ge=1, description="Most documents of a JSON job.")
    max_ndjson_bytes: int = Field(256 * MIB, ge=1, description="Largest NDJSON request body (bytes).")
    max_upload_s: int = Field(
        3600, ge=1, description="How long an NDJSON upload may take, for what came of it is stored (seconds)."
    )
    max_ndjson_documents: int = Field(100_000, ge=1, description="Most documents of an NDJSON job.")
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

    retry_text_ttl_s: int = Field(
        3600,
        ge=1,
        description="How long the texts of a cancelled job stay for a retry (seconds), at most as long as its "
        "results.",
    )

    extract_max_documents: int = Field(32, ge=1, description="Most documents of one `POST /v1/extract`.")
    extract_wait_s: float = Field(
        30.0, gt=0, le=60, description="How long `POST /v1/extract` waits before it answers 202 (seconds)."
    )
    max_wait_s: int = Field(60, ge=0, le=60, description="Longest `?wait=` and `Prefer: wait=` (seconds).")

    key_streams: int = Field(
        256,
        ge=0,
        description="Event streams, streams of results and waits of one key that one gateway process holds open; "
        "more get 429. Waits of `POST /v1/extract` are not counted. 0 is no limit.",
    )
    tenant_streams: int = Field(512, ge=0, description="The same of one tenant; 0 is no limit.")

    key_requests_per_s: int = Field(0, ge=0, description="Requests a second of one key; 0 is no limit.")
    key_submits_per_s: int = Field(0, ge=0, description="Submissions a second of one key; 0 is no limit.")
    key_reads_per_s: int = Field(
        0,
        ge=0,
        description="Reads a second of one key, and whatever else is no submission: 1 for one job, 5 for a list, "
        "up to 5 for a page of results; 0 is no limit. The chart has 50.",
    )
    key_documents_per_day: int = Field(0, ge=0, description="Documents a day of one key; 0 is no limit.")
    key_characters_per_day: int = Field(
        0, ge=0, description="Characters a day of one key, as open ones are counted; 0 is no limit."
    )
    key_open_jobs: int = Field(
        0,
        ge=0,
        description="Most open jobs of one key; 0 is no limit. `gleaner keys create` sets these six for a single "
        "key.",
    )
    tenant_requests_per_s: int = Field(0, ge=0, description="Requests a second of one tenant; 0 is no limit.")
    tenant_submits_per_s: int = Field(0, ge=0, description="Submissions a second of one tenant; 0 is no limit.")
    tenant_reads_per_s: int = Field(
        0,
        ge=0,
        description="Reads a second of one tenant, counted as for `key_reads_per_s`; 0 is no limit. The chart has "
        "100.",
    )
    tenant_documents_per_day: int = Field(0, ge=0, description="Documents a day of one tenant; 0 is no limit.")
    tenant_characters_per_day: int = Field(
        0, ge=0, description="Characters a day of one tenant, as open ones are counted; 0 is no limit."
    )
    tenant_max_open_jobs: int = Field(0, ge=0, description="Most open jobs of one tenant; 0 is no limit.")
    tenant_max_open_characters: int = Field(
        0,
        ge=0,
        description="Most characters in open jobs of one tenant, those of a text once for each pass that its "
        "labels need (about 256 tokens of labels a pass); 0 is no limit.",
    )
    tenant_max_inline_webhooks: int = Field(
        10_000,
        ge=0,
        description="Most webhooks of single jobs (`webhook.url`) of one tenant that wait for their job or their "
        "receiver; 0 is no limit. Registered endpoints do not count.",
    )
    tenant_max_stored_bytes: int = Field(
        0,
        ge=0,
        description="Most bytes that one tenant keeps in the store: texts, results, metadata, webhooks; above it "
        "429 `quota_exceeded`, and what runs still ends. A key may have a limit of its own for its tenant; 0 is no "
        "limit.",
    )
    model_max_open_characters: int = Field(
        0,
        ge=0,
        description="Most characters in open jobs of one model, counted so; above it 503 `overloaded`. 0: none.",
    )
    max_open_characters: int = Field(
        0,
        ge=0,
        description="Most characters in open jobs of all, counted so; above it 503 `overloaded`; 0 is no limit.",
    )

    @field_validator("trusted_proxies", "cors_origins", "https_hosts", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin; write it as https://app.example.com")
        return origins

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("GLEANER_TLS_CERT_FILE and GLEANER_TLS_KEY_FILE go together")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("GLEANER_TLS_CLIENT_CA_FILE needs GLEANER_TLS_CERT_FILE")
        return self

    @model_validator(mode="after")
    def _auth_off_is_local(self) -> Self:
        if self.auth == "off" and not _is_loopback(self.host):
            raise ValueError("GLEANER_AUTH=off needs a loopback GLEANER_HOST such as 127.0.0.1")
        return self

    @model_validator(mode="after")
    def _largest_body_fits(self) -> Self:
        if 0 < self.body_memory_bytes < 2 * self.max_body_bytes:
            raise ValueError("GLEANER_BODY_MEMORY_BYTES is less than twice GLEANER_MAX_BODY_BYTES")
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
