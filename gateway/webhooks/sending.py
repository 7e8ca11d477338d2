"""Makes the one `Sender` of a process from its settings."""

from __future__ import annotations

import ipaddress
import ssl
from importlib.metadata import version

from gateway.webhooks.addresses import Policy
from gateway.webhooks.delivery import Sender
from gateway.webhooks.lookup import Resolve, resolve
from gateway.webhooks.pinned import Proxy
from gateway.webhooks.settings import WebhookSettings


def make_sender(settings: WebhookSettings, find: Resolve = resolve) -> Sender:
    """The sender that these settings describe.

    Raises:
        OSError: a certificate file cannot be read.
        ValueError: the proxy is no URL of a proxy.
    """
    return Sender(
        Policy(
            allow=tuple(ipaddress.ip_network(network) for network in settings.webhook_allow),
            allow_http=settings.webhook_allow_http,
        ),
        agent=f"gleaner-webhooks/{version('gleaner-ner')}",
        connect_s=settings.webhook_connect_s,
        total_s=settings.webhook_timeout_s,
        tls=_tls(settings),
        proxy=Proxy.read(settings.webhook_proxy.get_secret_value()) if settings.webhook_proxy else None,
        find=find,
    )


def _tls(settings: WebhookSettings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.webhook_ca_file is not None:
        context.load_verify_locations(settings.webhook_ca_file)
    if settings.webhook_client_cert is not None:
        context.load_cert_chain(settings.webhook_client_cert)
    return context
