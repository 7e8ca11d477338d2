"""What GLEANER_WEBHOOK_ALLOW opens: receivers that webhooks may go to although they are not public. Pure.

An entry is `[tenant=]where`, and `where` a network (`10.20.0.0/16`, every port of it), a network with ports
(`10.20.0.0/16:8443`, `[fd00::/8]:8000-8100`) or a name with its port (`hooks.internal:8443`). A path may follow the
port: `hooks.internal:8443/gleaner` opens that path alone, `…/gleaner/` all that is below it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import unquote

_PLACE = re.compile(
    r"(?P<where>\[[0-9a-fA-F:.]+(?:/[0-9]{1,3})?\]|[0-9.]+(?:/[0-9]{1,2})?|[A-Za-z0-9.-]+)"
    r":(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?(?P<path>/.*)?"
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """One entry. What is empty, or None, stands for any.

    Attributes:
        network: where its address must lie.
        host: the name that the URL must have.
        ports: first and last.
        path: the URL's path; one that ends in `/` stands for all below it.
        tenant: whose webhooks these are.
    """

    network: IPv4Network | IPv6Network | None = None
    host: str = ""
    ports: tuple[int, int] = (1, 65535)
    path: str = ""
    tenant: str = ""

    def covers(self, tenant: str, host: str, port: int, path: str, address: IPv4Address | IPv6Address) -> bool:
        """Return True if this entry opens an address for a tenant's URL of this host, port and path."""
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
    """Parse the setting: entries with commas between them; a path may stand behind a comma, too.

    Raises:
        ValueError: an entry is none; says which, and what entries look like.
    """
    entries: list[str] = []
    for part in filter(None, map(str.strip, setting.split(","))):
        if part.startswith("/") and entries:
            entries[-1] += part
        else:
            entries.append(part)
    return tuple(map(_read_entry, entries))


def is_plain_path(path: str) -> bool:
    """Return True if no server can take the path for another: no dot segments, no encoded slash or percent."""
    if re.search(r"%(2[fF]|5[cC]|25|00)", path):
        return False
    return all(segment.partition(";")[0] not in (".", "..") for segment in unquote(path).split("/"))


def _read_entry(entry: str) -> Allowed:
    tenant, equals, where = entry.rpartition("=")
    if equals and not tenant:
        raise _no_entry(entry)
    try:
        return Allowed(ipaddress.ip_network(where), tenant=tenant)
    except ValueError as error:
        if "host bits" in str(error):
            raise
    match = _PLACE.fullmatch(where)
    if match is None:
        raise _no_entry(entry)
    first, last, path = int(match["first"]), int(match["last"] or match["first"]), match["path"] or ""
    if not 1 <= first <= last <= 65535 or not is_plain_path(path):
        raise _no_entry(entry)
    place = match["where"].strip("[]")
    if match["where"].startswith("[") or re.fullmatch(r"[0-9./]+", place):
        return Allowed(ipaddress.ip_network(place), ports=(first, last), path=path, tenant=tenant)
    return Allowed(host=place.lower(), ports=(first, last), path=path, tenant=tenant)


def _no_entry(entry: str) -> ValueError:
    return ValueError(
        f"{entry!r} is no entry of GLEANER_WEBHOOK_ALLOW; write a network (10.20.0.0/16), a network with a port "
        "(10.20.0.0/16:8443) or a name with its port (hooks.internal:8443, hooks.internal:8443/path), each with "
        "`tenant=` before it if it is for one tenant"
    )
