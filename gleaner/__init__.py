"""The client, the `gleaner` command and the local stack.

    from gleaner import Client

    with Client("http://127.0.0.1:8000", key) as client:
        for result in client.submit(["Ada Lovelace lived in London."], ["person", "city"]).results():
            print(result.id, [(entity.text, entity.label) for entity in result.entities])

Importing this package requires only httpx. `gleaner.cli` and `gleaner.localstack` have further requirements.
"""

from gleaner.aio import AsyncClient, AsyncJob
from gleaner.client import Client, Job
from gleaner.client.calls import (
    ClassificationOptions,
    Classifications,
    Document,
    Labels,
    RelationOptions,
    Relations,
    SubmitOptions,
)
from gleaner.client.scheduling import MapProgress
from gleaner.errors import (
    ApiError,
    AuthenticationError,
    BadRequest,
    Conflict,
    GleanerError,
    Gone,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    TooLarge,
    TransportError,
    Unavailable,
    ValidationError,
    WaitTimeout,
    WebhookVerificationError,
)
from gleaner.label_sets import AsyncLabelSets, LabelSet, LabelSets
from gleaner.models import (
    ClassScore,
    Counts,
    DocumentError,
    Entity,
    Explanation,
    JobInfo,
    Limits,
    Model,
    Rate,
    Relation,
    Result,
    Usage,
)
from gleaner.webhook_endpoints import AsyncWebhooks, DeliveryAttempt, WebhookDelivery, WebhookEndpoint, Webhooks
from gleaner.webhooks import verify_webhook

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncJob",
    "AsyncLabelSets",
    "AsyncWebhooks",
    "AuthenticationError",
    "BadRequest",
    "ClassScore",
    "ClassificationOptions",
    "Classifications",
    "Client",
    "Conflict",
    "Counts",
    "DeliveryAttempt",
    "Document",
    "DocumentError",
    "Entity",
    "Explanation",
    "GleanerError",
    "Gone",
    "Job",
    "JobInfo",
    "LabelSet",
    "LabelSets",
    "Labels",
    "Limits",
    "MapProgress",
    "Model",
    "NotFound",
    "PermissionDenied",
    "Rate",
    "RateLimited",
    "Relation",
    "RelationOptions",
    "Relations",
    "Result",
    "ServerError",
    "SubmitOptions",
    "TooLarge",
    "TransportError",
    "Unavailable",
    "Usage",
    "ValidationError",
    "WaitTimeout",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookVerificationError",
    "Webhooks",
    "verify_webhook",
]
