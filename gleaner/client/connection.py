"""A client's connections: made for one process, past proxies where the gateway is on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Generic, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

from gleaner.errors import GleanerError, TransportError

H = TypeVar("H", bound=httpx.Client | httpx.AsyncClient)


class Connection(Generic[H]):
    """Holds an httpx client, and makes a new one after a fork.

    Two processes that read from one inherited socket read each other's answers.

    Args:
        kind: httpx.Client or httpx.AsyncClient.
        url: the gateway.
        headers: headers of every request.
        transport: the caller's transport; None for httpx's.

    Raises:
        TransportError: the environment names a proxy that httpx cannot use.
    """

    def __init__(self, kind: type[H], url: str, headers: dict[str, str], transport: Any = None) -> None:
        options: dict[str, Any] = {"base_url": url, "headers": headers, "transport": transport}
        if is_loopback(url):
            # A proxy has another 127.0.0.1. The environment still names the certificates to trust; without TLS none
            # are read, which takes 20 ms.
            verify = httpx.create_ssl_context() if url.startswith("https:") else False
            options |= {"trust_env": False, "verify": verify}
        self._connect: Callable[[], H] = lambda: kind(**options)
        self._renewable = transport is None
        self._process = os.getpid()
        self.proxy = find_proxy(url)
        try:
            self._http: H = self._connect()
        except (ImportError, ValueError) as error:
            if self.proxy is None:
                raise
            raise TransportError(f"the proxy {self.proxy} of the environment cannot be used: {error}") from error

    @property
    def inherited(self) -> bool:
        """True in a process that was forked after the connections were made."""
        return os.getpid() != self._process

    @property
    def http(self) -> H:
        """Return the httpx client of this process.

        Raises:
            GleanerError: the process was forked, and the caller's transport cannot be made again here.
        """
        if self.inherited:
            if not self._renewable:
                raise GleanerError(
                    "this client was made before a fork, with a transport of the caller's; make one in each process"
                )
            self._http, self._process = self._connect(), os.getpid()
        return self._http

    def name_proxy(self, error: httpx.RequestError) -> httpx.RequestError:
        """Return the error with the proxy in its message, where one stands between."""
        if self.proxy is None or not isinstance(error, httpx.TransportError):
            return error
        reason = str(error) or type(error).__name__
        message = f"{reason} (through the proxy {self.proxy}; NO_PROXY names hosts to reach without it)"
        renamed = type(error)(message, request=error.request)
        renamed.__cause__ = error.__cause__
        return renamed


def is_loopback(url: str) -> bool:
    """Return True for a gateway on this machine, by its address or as localhost."""
    host = httpx.URL(url).host
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def find_proxy(url: str) -> str | None:
    """Return the proxy of the environment that requests to this URL take, without its password; None for none."""
    target = httpx.URL(url)
    proxies = getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    if not proxy or is_loopback(url) or proxy_bypass(target.host):
        return None
    scheme, _, rest = proxy.rpartition("://")
    return f"{scheme or 'http'}://{rest.rpartition('@')[2]}"
