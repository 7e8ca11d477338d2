"""/v1/limits: the caller's limits, their remaining amounts, and the durability of accepted jobs."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from gateway.access.rate_limits import RateLimitStatus, max_stored_bytes
from gateway.http import openapi
from gateway.routes.dependencies import ServicesDep, Viewer
from gateway.schemas import Body
from gateway.submission.body import ENCODINGS
from jobs import ledger
from jobs.api_keys import Role
from jobs.settings import Durability

router = APIRouter(prefix="/v1/limits", tags=["models"])


class RateBody(Body):
    """A rate limit and its remaining amount."""

    name: str = Field(description="As in the `RateLimit` headers.", examples=["documents-tenant"])
    measure: Literal["requests", "submits", "reads", "documents", "characters"]
    scope: Literal["key", "tenant"]
    limit: int
    window_s: int = Field(description="Length of the sliding window, in seconds.")
    remaining: int
    resets_in_s: int = Field(description="Seconds until all of it is available again without further requests.")


class OpenBody(Body):
    """Open work and its limits; null means no limit."""

    key_jobs: int
    key_jobs_limit: int | None
    jobs: int
    jobs_limit: int | None
    characters: int
    characters_limit: int | None


class StoredBody(Body):
    """The bytes that your tenant stores."""

    bytes: int = Field(
        description="Texts, results, metadata, label sets, endpoints, deliveries and responses of "
        "Idempotency-Keys, with the approximate overhead of storing them."
    )
    bytes_limit: int | None = Field(description="Null means no limit.")


class RequestLimits(Body):
    """Limits of one request."""

    body_bytes: int = Field(validation_alias="max_body_bytes")
    documents: int = Field(validation_alias="max_documents")
    ndjson_bytes: int = Field(validation_alias="max_ndjson_bytes")
    ndjson_documents: int = Field(validation_alias="max_ndjson_documents")
    extract_documents: int = Field(validation_alias="extract_max_documents")
    document_bytes: int = Field(validation_alias="max_document_bytes")
    document_id_length: int = Field(validation_alias="max_document_id_length")
    labels: int = Field(
        validation_alias="max_labels", description="Of models that announce no limit (GET /v1/models)."
    )
    relations: int = Field(validation_alias="max_relations")
    classifications: int = Field(validation_alias="max_classifications")
    label_length: int = Field(validation_alias="max_label_length")
    label_description_length: int = Field(validation_alias="max_label_description_length")
    metadata_entries: int = Field(validation_alias="max_metadata_entries")
    metadata_length: int = Field(validation_alias="max_metadata_length")
    deadline_s: int = Field(validation_alias="max_deadline_s")
    result_ttl_s: int = Field(validation_alias="max_result_ttl_s")
    retry_text_ttl_s: int = Field(description="Seconds within which a cancelled job can be retried.")
    upload_s: int = Field(
        validation_alias="max_upload_s", description="Longest time of an NDJSON upload, in seconds."
    )
    wait_s: int = Field(validation_alias="max_wait_s")
    content_encodings: list[str]
    compression_ratio: int = Field(validation_alias="max_compression_ratio")


class DurabilityBody(Body):
    """The durability of accepted jobs."""

    accepted_when: Durability = Field(
        description="A 202 means that the job is in the server's memory (`process`), on its disk (`disk`), or also "
        "on a replica's disk (`replica`)."
    )
    append_only: bool | None = Field(
        description="Whether the server keeps an append-only file; null until a response has waited for it. "
        "Without one a job survives every process of Gleaner, but not a restart of the server."
    )


class LimitsBody(Body):
    """The caller's limits."""

    object: Literal["limits"] = "limits"
    tenant: str
    key_id: str
    role: Role
    rates: list[RateBody] = Field(description="Rate limits that apply; a request must pass all of them.")
    open: OpenBody
    stored: StoredBody
    request: RequestLimits
    durability: DurabilityBody


@router.get("", operation_id="get_limits", summary="Your limits", responses=openapi.error_responses())
async def get_limits(services: ServicesDep, caller: Viewer) -> LimitsBody:
    """Return the limits of your key and tenant, and their remaining amounts."""
    settings = services.settings
    statuses = await services.limiter.read_statuses(caller)
    work = await services.ledger.run(ledger.read_open_work(caller.tenant, caller.key_id))
    return LimitsBody(
        tenant=caller.tenant,
        key_id=caller.key_id,
        role=caller.role,
        rates=[_build_rate(status) for status in statuses],
        open=OpenBody(
            key_jobs=work.key_jobs,
            key_jobs_limit=caller.limits.open_jobs or settings.key_open_jobs or None,
            jobs=work.jobs,
            jobs_limit=settings.tenant_max_open_jobs or None,
            characters=work.characters,
            characters_limit=settings.tenant_max_open_characters or None,
        ),
        stored=StoredBody(bytes=work.stored_bytes, bytes_limit=max_stored_bytes(settings, caller) or None),
        request=RequestLimits.model_validate({**dict(settings), "content_encodings": ENCODINGS}),
        durability=DurabilityBody(
            accepted_when=settings.durability,
            append_only=None if settings.durability == "process" else services.barrier.append_only,
        ),
    )


def _build_rate(status: RateLimitStatus) -> RateBody:
    limit = status.limit
    return RateBody(
        name=limit.name,
        measure=limit.measure,
        scope=limit.scope,
        limit=limit.amount,
        window_s=limit.window_s,
        remaining=status.remaining,
        resets_in_s=status.resets_s,
    )
