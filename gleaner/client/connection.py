"""A client's connections: one set per process, without a proxy if the gateway is on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, Generic, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

from gleaner.client.calls import Call
from gleaner.errors import GleanerError, TransportError

H = TypeVar("H", bound=httpx.Client | httpx.AsyncClient)


class Connection(Generic[H]):
    """Owns an httpx client, and creates a new one after a fork.

    Two processes that read from one inherited socket read each other's responses.

    Args:
        kind: httpx.Client or httpx.AsyncClient.
        url: the gateway.
        key: an API key, or None.
        timeout_s: seconds one request may take.
        transport: the caller's transport; None for httpx's.

    Raises:
        TransportError: the environment names a proxy that httpx cannot use.
    """

    def __init__(self, kind: type[H], url: str, key: str | None, timeout_s: float, transport: Any = None) -> None:
        headers = {"Accept": "application/json", "User-Agent": "gleaner-python"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        options: dict[str, Any] = {"base_url": url, "headers": headers, "transport": transport}
        if is_loopback(url):
            # For a proxy, 127.0.0.1 is another machine. Certificates of the environment are still trusted; without
            # TLS they are not loaded, which saves 20 ms.
            verify = httpx.create_ssl_context() if url.startswith("https:") else False
            options |= {"trust_env": False, "verify": verify}
        self._connect: Callable[[], H] = lambda: kind(**options)
        self._timeout_s = timeout_s
        self._renewable = transport is None
        self._process = os.getpid()
        self.proxy = find_proxy(url)
        try:
            self._http: H = self._connect()
        except (ImportError, ValueError) as error:
            if self.proxy is None:
                raise
            raise TransportError(
                f"the proxy {self.proxy} from the environment variables cannot be used: {error}"
            ) from error

    @property
    def inherited(self) -> bool:
        """True in a process that was forked after the connections were opened."""
        return os.getpid() != self._process

    @property
    def http(self) -> H:
        """The httpx client of this process.

        Raises:
            GleanerError: the process was forked, and the caller's transport cannot be created again here.
        """
        if self.inherited:
            if not self._renewable:
                raise GleanerError(
                    "this client was created before a fork, with a custom transport; create one in each process"
                )
            self._http, self._process = self._connect(), os.getpid()
        return self._http

    def build_request(self, call: Call[Any], stream: Callable[[Iterator[bytes]], Any] = iter) -> httpx.Request:
        """Return the call as a request, with the gateway's waiting time added to the read timeout.

        Args:
            call: the call; a streamed body is made again for each try, because it can be read only once.
            stream: converts a streamed body to the kind that the httpx client sends.
        """
        return self.http.build_request(
            call.method,
            call.path,
            params=call.params,
            headers=call.headers,
            content=stream(call.content()) if callable(call.content) else call.content,
            timeout=httpx.Timeout(self._timeout_s, read=self._timeout_s + call.patience_s),
        )

    def name_proxy(self, error: httpx.RequestError) -> httpx.RequestError:
        """Return the error with the proxy in its message, if there is one."""
        if self.proxy is None or not isinstance(error, httpx.TransportError):
            return error
        reason = str(error) or type(error).__name__
        message = f"{reason} (through the proxy {self.proxy}; to bypass it, add the host to NO_PROXY)"
        renamed = type(error)(message, request=error.request)
        renamed.__cause__ = error.__cause__
        return renamed


def is_loopback(url: str) -> bool:
    """Return True for a loopback address or a localhost name."""
    host = httpx.URL(url).host
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def find_proxy(url: str) -> str | None:
    """Return the environment's proxy for requests to this URL, without its password; None if there is none."""
    target = httpx.URL(url)
    proxies = getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    if not proxy or is_loopback(url) or proxy_bypass(target.host):
        return None
    scheme, _, rest = proxy.rpartition("://")
    return f"{scheme or 'http'}://{rest.rpartition('@')[2]}"
