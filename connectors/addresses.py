"""What a source may reach: hosts on allowed networks, files in an allowed folder.

An address that somebody else gives is a way to make this machine call things: the services that
clouds offer to their own machines, which hand out credentials, and whatever listens behind the
firewall. So the host of every connection is resolved, its addresses are looked at, and the
connection goes to one of those: a name that leads elsewhere a moment later changes nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

Network = IPv4Network | IPv6Network

NEVER = tuple(
    ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local: the metadata services of most clouds
        "fe80::/10",
        "fd00:ec2::254/128",  # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
        "fd20:ce::254/128",  # https://cloud.google.com/compute/docs/metadata/querying-metadata
        "100.100.100.200/32",  # https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
        "168.63.129.16/32",  # https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16
        "192.0.0.192/32",  # Oracle's
    )
)
"""Nobody's documents lie here."""

NEVER_NAMED = frozenset(
    {"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"}
)

_NAT64 = ip_network("64:ff9b::/96")

FILE_SETTINGS = frozenset(
    {
        "ca_file",
        "filepath",
        "files_root",
        "ssl_ca",
        "ssl_cert",
        "ssl_key",
        "sslcert",
        "sslkey",
        "sslrootcert",
    }
)
"""The settings of connectors that name a file or folder of this machine."""


class OutOfReach(Exception):
    """A host or file that a source may not reach; one sentence for a person."""


@dataclass(frozen=True)
class Reach:
    """The networks that may be reached besides the public internet (None: all there are), and the
    folder in which files may be read (None: none, or all where `networks` is None too)."""

    networks: tuple[Network, ...] | None
    folder: Path | None = None

    def addresses(self, host: str) -> list[str]:
        """The addresses of a host name, none when it is not known. Raises OutOfReach."""
        if self.networks is not None and host.startswith("/"):
            raise OutOfReach(f"{host} is a socket of this machine, which is not for sources of the console")
        name = host.strip("[]").rstrip(".").lower()
        if name in NEVER_NAMED:
            raise OutOfReach(f"{host} is a cloud's metadata service, which is never asked")
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        for address in addresses:
            self._check(host, address)
        return addresses

    def _check(self, host: str, address: str) -> None:
        number = _plain(ip_address(address.partition("%")[0]))
        if any(number in network for network in NEVER):
            raise OutOfReach(f"{host} leads to a link-local or metadata address, which is never asked")
        if self.networks is None or (number.is_global and not number.is_multicast):
            return
        if not any(number in network for network in self.networks):
            raise OutOfReach(
                f"{host} leads to an address on a private network or this machine: whoever operates"
                " CitySort can allow that with the setting CITYSORT_ALLOWED_NETWORKS"
            )

    def check_file(self, path: str) -> None:
        """Raises OutOfReach for a path outside the folder, links followed."""
        if self.networks is None:
            return
        if self.folder is None:
            raise OutOfReach(
                "files of this machine are not for sources of the console, unless whoever operates CitySort"
                " allows a folder with the setting CITYSORT_ALLOWED_FOLDER"
            )
        try:
            inside = Path(path).resolve().is_relative_to(self.folder.resolve())
        except (OSError, ValueError, RuntimeError):
            inside = False
        if not inside or not Path(path).is_absolute():
            raise OutOfReach(f"must be a path below {self.folder} (setting CITYSORT_ALLOWED_FOLDER)")

    def faults(self, settings: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
        """The settings (name, value) that lead out of reach, and why."""
        found = []
        for name, value in settings:
            if not isinstance(value, str) or not value:
                continue
            try:
                if name in FILE_SETTINGS:
                    self.check_file(value)
                elif host := host_of(name, value):
                    self.addresses(host)
            except OutOfReach as error:
                found.append((name, str(error)))
        return found


EVERYWHERE = Reach(None)
"""For sources that whoever operates CitySort configures: everything but link-local addresses."""


def read_networks(text: str) -> tuple[Network, ...]:
    """The networks of a list separated by commas. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def host_of(setting: str, value: str) -> str | None:
    """The host that a setting names, None for one that names none."""
    if setting == "host":
        return value
    if not setting.endswith("_url"):
        return None
    try:
        return urlsplit(value).hostname
    except ValueError:
        return None


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def pools_within(
    reach: Reach, plain: Any = HTTPConnectionPool, secure: Any = HTTPSConnectionPool
) -> dict[str, Any]:
    """urllib3's pools of connections for each scheme, made of these two, that connect within reach only.

    They raise OutOfReach.
    """

    def within(pool: Any) -> Any:
        kind: Any = pool.ConnectionCls

        def new_connection(connection: Any) -> socket.socket:
            name = connection._dns_host
            failure: Exception | None = None
            try:
                for address in reach.addresses(name):
                    connection._dns_host = address
                    try:
                        made: socket.socket = kind._new_conn(connection)
                        return made
                    except (NewConnectionError, ConnectTimeoutError) as error:
                        failure = error
            finally:
                connection._dns_host = name
            raise failure or NewConnectionError(connection, "the name of the host is not known")

        connections = type(kind.__name__, (kind,), {"_new_conn": new_connection})
        return type(pool.__name__, (pool,), {"ConnectionCls": connections})

    return {"http": within(plain), "https": within(secure)}


def adapter_within(reach: Reach, connections: int) -> HTTPAdapter:
    """What lets a session of requests connect within reach only. Its requests raise OutOfReach."""

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            manager: PoolManager = self.poolmanager
            manager.pool_classes_by_scheme = pools_within(reach)

    return Adapter(pool_maxsize=connections)
