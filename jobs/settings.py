"""Settings every process shares: `GLEANER_*` in, one frozen object out. Read once, in a composition root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobs.redis.clients import add_tls_options
from jobs.routing import Models

Durability = Literal["process", "disk", "replica"]


def _models(value: object) -> object:
    """A text, or its entries one by one."""
    if isinstance(value, tuple | list):
        value = ",".join(map(str, value))
    return Models.parse(value) if isinstance(value, str) else value


class Settings(BaseSettings):
    """What gateway, worker, courier and Flower all need to find the store and to speak of models alike."""

    model_config = SettingsConfigDict(
        env_prefix="GLEANER_",
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,  # URLs and keys are passwords
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/1",
        description="The ledger's Redis or Valkey, in redis-py form "
        "(`redis://`, `rediss://`, `unix:///path?db=1`), or behind Sentinel "
        "(`redis+sentinel://:password@host:26379,host:26379/master/1`, `rediss+sentinel://`).",
    )
    broker_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Celery's broker, in the same forms; the same server with another database will do.",
    )
    redis_ca_file: Path | None = Field(
        None,
        description="Authority (PEM) that must have signed the servers' certificates, for `rediss://` URLs; the "
        "system's by default.",
    )
    redis_cert_file: Path | None = Field(
        None, description="Certificate (PEM) that is shown to the servers, for `rediss://` URLs."
    )
    redis_key_file: Path | None = Field(None, description="Private key of that certificate (PEM).")
    models: Annotated[Models, NoDecode, BeforeValidator(_models)] = Field(
        Models.parse("gleaner-small"),
        description="Names a job may ask for, comma-separated; the first is the default. "
        "`name=model:90|other:10` splits a name's jobs over models by weight, each tenant staying with one.",
    )
    encryption_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="AES-256-GCM keys for texts and results at rest, base64 of 32 bytes each, comma-separated: "
        "the first encrypts, all decrypt.",
    )
    encryption_format: Literal[1, 2] = Field(
        1,
        description="How new blobs are encrypted: `1` with the first key, `2` with a key derived from it for each "
        "job, so that a key never wears out. Set `2` once every process reads it (see upgrades).",
    )
    encryption_required: bool = Field(
        False,
        description="Refuse stored texts, results and endpoints that are not encrypted. Set it once nothing is "
        "left that was written without keys.",
    )
    redact_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret behind the tokens of `redact` mode `hash`, for gateways and workers: at least 32 "
        "characters (`openssl rand -base64 32`). Another key makes other tokens. Without it the mode is refused.",
    )
    store_timeout_s: float = Field(
        2.0,
        gt=0,
        le=30,
        description="How long one call to the ledger may take before it counts as down (seconds).",
    )
    lease_s: float = Field(
        60.0,
        ge=1,
        description="How long a worker's claim on a shard holds without a renewal (seconds); "
        "workers renew four times as often. The same on every process.",
    )
    shutdown_grace_s: float = Field(
        60.0, gt=0, description="How long a process may finish running work after SIGTERM (seconds)."
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address of the port that serves /metrics, /livez and /readyz."
    )
    metrics_port: int = Field(
        9101,
        ge=0,
        le=65535,
        description="Port of /metrics, /livez and /readyz; by default 9101 gateway, 9102 worker, 9103 courier.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged."
    )
    log_format: Literal["json", "text"] = Field(
        "json", description="`json`: one object a line; `text`: for a terminal."
    )
    trace_endpoint: str = Field(
        "",
        description="Base URL of an OTLP collector over HTTP (`http://host:4318`); needs the extra `otel`. "
        "Empty: no traces.",
    )
    log_file: str = Field("", description="Log to this file, rotated by size, instead of to standard output.")
    log_file_bytes: int = Field(10_000_000, ge=1000, description="Size at which the log file is rotated (bytes).")
    log_file_backups: int = Field(5, ge=1, description="Rotated log files that are kept.")

    @field_validator("encryption_keys", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("encryption_format", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @model_validator(mode="after")
    def _with_tls(self) -> Self:
        if (self.redis_cert_file is None) != (self.redis_key_file is None):
            raise ValueError("GLEANER_REDIS_CERT_FILE and GLEANER_REDIS_KEY_FILE go together")
        for name in ("redis_url", "broker_url"):
            url = add_tls_options(
                getattr(self, name), self.redis_ca_file, self.redis_cert_file, self.redis_key_file
            )
            object.__setattr__(self, name, url)  # frozen for everybody else
        return self
