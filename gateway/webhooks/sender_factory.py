"""Makes the one `Sender` of a process from its settings."""

from __future__ import annotations

import ssl
from importlib.metadata import version

from gateway.webhooks.addresses import Policy
from gateway.webhooks.allowed import parse_allowed
from gateway.webhooks.dns import Resolve, Resolver, parse_name_servers
from gateway.webhooks.pinned_transport import Proxy
from gateway.webhooks.sender import Sender
from gateway.webhooks.settings import WebhookSettings


def make_sender(settings: WebhookSettings, find: Resolve | None = None) -> Sender:
    """The sender that these settings describe.

    Raises:
        OSError: a certificate file cannot be read.
        ValueError: the proxy is no URL of a proxy.
    """
    return Sender(
        Policy(
            allow=parse_allowed(",".join(settings.webhook_allow)),
            allow_http=settings.webhook_allow_http,
        ),
        find or Resolver(parse_name_servers(settings.webhook_nameservers)),
        agent=f"gleaner-webhooks/{version('gleaner-ner-service')}",
        connect_s=settings.webhook_connect_s,
        total_s=settings.webhook_timeout_s,
        tls=_tls(settings),
        proxy=Proxy.read(settings.webhook_proxy.get_secret_value()) if settings.webhook_proxy else None,
    )


def _tls(settings: WebhookSettings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.webhook_ca_file is not None:
        context.load_verify_locations(settings.webhook_ca_file)
    if settings.webhook_client_cert is not None:
        context.load_cert_chain(settings.webhook_client_cert)
    return context
