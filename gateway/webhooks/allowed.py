"""Parses GLEANER_WEBHOOK_ALLOW: receivers that webhooks may be sent to although they are not public. Pure.

An entry is `[tenant=]where`, and `where` a network (`10.20.0.0/16`, every port of it), a network with ports
(`10.20.0.0/16:8443`, `[fd00::/8]:8000-8100`) or a name with its port (`hooks.internal:8443`). A path may follow the
port: `hooks.internal:8443/gleaner` allows that path alone, `…/gleaner/` every path below it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import unquote

_ENTRY = re.compile(
    r"(?P<where>\[[0-9a-fA-F:.]+(?:/[0-9]{1,3})?\]|[0-9.]+(?:/[0-9]{1,2})?|[A-Za-z0-9.-]+)"
    r":(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?(?P<path>/.*)?"
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry; an empty or None attribute matches anything.

    Attributes:
        network: the network of the address.
        host: the name in the URL.
        ports: first and last port.
        path: the URL's path; one that ends in `/` matches every path below it.
        tenant: the owner of the webhooks.
    """

    network: IPv4Network | IPv6Network | None = None
    host: str = ""
    ports: tuple[int, int] = (1, 65535)
    path: str = ""
    tenant: str = ""

    def covers(self, tenant: str, host: str, port: int, path: str, address: IPv4Address | IPv6Address) -> bool:
        """Return whether this entry allows an address for a tenant's URL of this host, port and path."""
        return (
            self.tenant in ("", tenant)
            and self.host in ("", host)
            and self.ports[0] <= port <= self.ports[1]
            and (self.network is None or address in self.network)
            and self._covers_path(path)
        )

    def _covers_path(self, path: str) -> bool:
        if not self.path:
            return True
        if not is_plain_path(path):
            return False
        return path.startswith(self.path) if self.path.endswith("/") else path == self.path


def parse_allowed(setting: str) -> tuple[Allowed, ...]:
    """Parse the setting's comma-separated entries; a part that begins with `/` is appended to the entry before.

    Raises:
        ValueError: an entry is invalid; the message names it and shows valid ones.
    """
    entries: list[str] = []
    for part in filter(None, map(str.strip, setting.split(","))):
        if part.startswith("/") and entries:
            entries[-1] += part
        else:
            entries.append(part)
    return tuple(map(_parse_entry, entries))


def is_plain_path(path: str) -> bool:
    """Return whether no server can take the path for another: no dot segments, no encoded slash or percent."""
    if re.search(r"%(2[fF]|5[cC]|25|00)", path):
        return False
    return all(segment.partition(";")[0] not in (".", "..") for segment in unquote(path).split("/"))


def _parse_entry(entry: str) -> Allowed:
    tenant, equals, where = entry.rpartition("=")
    if equals and not tenant:
        raise _invalid_entry(entry)
    try:
        return Allowed(ipaddress.ip_network(where), tenant=tenant)
    except ValueError as error:
        if "host bits" in str(error):
            raise
    match = _ENTRY.fullmatch(where)
    if match is None:
        raise _invalid_entry(entry)
    first, last, path = int(match["first"]), int(match["last"] or match["first"]), match["path"] or ""
    if not 1 <= first <= last <= 65535 or not is_plain_path(path):
        raise _invalid_entry(entry)
    host = match["where"].strip("[]")
    if match["where"].startswith("[") or re.fullmatch(r"[0-9./]+", host):
        return Allowed(ipaddress.ip_network(host), ports=(first, last), path=path, tenant=tenant)
    return Allowed(host=host.lower(), ports=(first, last), path=path, tenant=tenant)


def _invalid_entry(entry: str) -> ValueError:
    return ValueError(
        f"{entry!r} is not an entry of GLEANER_WEBHOOK_ALLOW; write a network (10.20.0.0/16), one with a port "
        "(10.20.0.0/16:8443) or a name with its port (hooks.internal:8443, hooks.internal:8443/path), each with "
        "`tenant=` before it if it is for a single tenant"
    )
