"""Settings that every process shares, read from `GLEANER_*` once, in a composition root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobs.redis.clients import add_tls_options
from jobs.routing import Models

Durability = Literal["process", "disk", "replica"]


def _parse_models(value: object) -> object:
    """Parse a string, or a list of its entries."""
    if isinstance(value, tuple | list):
        value = ",".join(map(str, value))
    return Models.parse(value) if isinstance(value, str) else value


class Settings(BaseSettings):
    """Settings of gateway, worker, courier and Flower."""

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
        description="Celery's broker, in the same forms; may be the same server with another database.",
    )
    redis_ca_file: Path | None = Field(
        None,
        description="CA certificate (PEM) that must have signed Redis' certificate, for `rediss://` URLs; the "
        "system's by default.",
    )
    redis_cert_file: Path | None = Field(
        None, description="Client certificate (PEM) presented to Redis, for `rediss://` URLs."
    )
    redis_key_file: Path | None = Field(None, description="Private key of that certificate (PEM).")
    models: Annotated[Models, NoDecode, BeforeValidator(_parse_models)] = Field(
        Models.parse("gleaner-small"),
        description="Names a job may ask for, comma-separated; the first is the default. "
        "`name=model:90|other:10` splits a name's jobs over models by weight, each tenant stays with one.",
    )
    encryption_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="AES-256-GCM keys for texts and results at rest, base64 of 32 bytes each, comma-separated: "
        "the first encrypts, all decrypt.",
    )
    encryption_format: Literal[1, 2] = Field(
        1,
        description="How new blobs are encrypted: `1` with the first key, `2` with a key derived from it for each "
        "job, so that no key encrypts too many blobs. Set `2` once every process can read it (see upgrades).",
    )
    encryption_required: bool = Field(
        False,
        description="Reject stored texts, results and endpoints that are not encrypted. Set it once none are "
        "left that were written without keys.",
    )
    redact_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret behind the tokens of `redact` mode `hash`, for gateways and workers: at least 32 "
        "characters (`openssl rand -base64 32`). Another key makes other tokens. Without it the mode is rejected.",
    )
    store_timeout_s: float = Field(
        2.0,
        gt=0,
        le=30,
        description="Timeout of one call to the ledger, after which it counts as down (seconds).",
    )
    lease_s: float = Field(
        60.0,
        ge=1,
        description="Duration of a worker's lease on a shard without renewal (seconds); "
        "workers renew four times as often. Must be the same on every process.",
    )
    shutdown_grace_s: float = Field(
        60.0, gt=0, description="Time for a process to finish running work after SIGTERM (seconds)."
    )
    cpus: int = Field(
        0,
        ge=0,
        description="CPU cores that a process uses at most: threads of the model's runtime in a worker, processes "
        "of a gateway with `GLEANER_GATEWAY_PROCESSES=0`. 0: all that its affinity and its cgroup's CPU limit "
        "allow. In a container without a CPU limit set it to the CPU request: otherwise each worker takes all of "
        "the node's cores.",
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
    log_format: Literal["json", "google", "text"] = Field(
        "json",
        description="`json`: one object per line; `google`: the same with `severity` instead of `level`, for Cloud "
        "Logging; `text`: for a terminal.",
    )
    trace_endpoint: str = Field(
        "",
        description="Base URL of an OTLP collector over HTTP (`http://host:4318`); needs the extra `otel`. "
        "Empty: no traces.",
    )
    log_file: str = Field("", description="Log to this file, rotated by size, instead of standard output.")
    log_file_bytes: int = Field(10_000_000, ge=1000, description="Size at which the log file is rotated (bytes).")
    log_file_backups: int = Field(5, ge=1, description="Rotated log files that are kept.")

    @field_validator("encryption_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("encryption_format", mode="before")
    @classmethod
    def _parse_format(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @model_validator(mode="after")
    def _add_tls_options(self) -> Self:
        if (self.redis_cert_file is None) != (self.redis_key_file is None):
            raise ValueError("GLEANER_REDIS_CERT_FILE and GLEANER_REDIS_KEY_FILE must be set together")
        for name in ("redis_url", "broker_url"):
            url = add_tls_options(
                getattr(self, name), self.redis_ca_file, self.redis_cert_file, self.redis_key_file
            )
            object.__setattr__(self, name, url)  # the model is frozen
        return self
