"""Who may use the proxy and which destinations it may reach (RFC 9110 §9.3.6, §17.3)."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from cacheproxy.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Words that stand for networks in the access settings.
WORDS: dict[str, tuple[str, ...]] = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "link-local": (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::254/128",
        "100.100.100.200/32",
        "168.63.129.16/32",
    ),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    "unspecified": ("0.0.0.0/8", "::/128"),
    "multicast": ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8"),
    "all": ("0.0.0.0/0", "::/0"),
}

PRIVATE_NETWORKS = tuple(
    ip_network(text) for word in ("loopback", "private", "link-local") for text in WORDS[word]
)


def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


def parse_client_networks(names: tuple[str, ...], setting: str) -> tuple[Network, ...]:
    """Networks and words as networks. Raises ConfigError naming `setting`."""
    found: list[Network] = []
    for name in names:
        if name in WORDS:
            found += _networks(WORDS[name])
            continue
        try:
            found.append(ip_network(name, strict=False))
        except ValueError:
            raise ConfigError(
                f"{setting}: {name!r} is neither a network nor one of {', '.join(sorted(WORDS))}"
            ) from None
    return tuple(found)


def is_wider_than_private(networks: tuple[Network, ...]) -> bool:
    """Whether some network reaches beyond loopback, link-local and private addresses."""
    return any(
        not any(network.version == inner.version and network.subnet_of(inner) for inner in PRIVATE_NETWORKS)  # type: ignore[arg-type]
        for network in networks
    )


@lru_cache(maxsize=4096)
def _address(text: str) -> Address:
    # Parsing costs more than all the rules together, and the same few addresses come again and again.
    return ip_address(text.partition("%")[0])


@lru_cache(maxsize=4096)
def plain_address(text: str) -> Address:
    """The address of `text`, an IPv4 address behind any IPv6 spelling of it taken out. Raises ValueError.

    Mapped (::ffff:a.b.c.d), compatible (::a.b.c.d), NAT64 (64:ff9b::/96) and 6to4 (2002::/16) all reach
    the IPv4 address that they embed.
    """
    address = _address(text)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        packed = int(address)
        if packed >> 32 == 0x0064FF9B << 64 or (packed >> 32 == 0 and packed > 1):
            return IPv4Address(packed & 0xFFFFFFFF)
    return address


@dataclass(frozen=True, slots=True)
class _Rule:
    """A network, or a host glob, either with an optional port."""

    network: Network | None
    host: str | None
    port: int | None

    def fits_host(self, host: str, port: int) -> bool:
        if self.host is None or (self.port is not None and self.port != port):
            return False
        name = host.rstrip(".")
        return (
            fnmatchcase(name, self.host)
            or (self.host.startswith(".") and name == self.host[1:])
            or (self.host.startswith(".") and name.endswith(self.host))
        )

    def fits_address(self, addresses: tuple[Address, ...], port: int) -> bool:
        if self.network is None or (self.port is not None and self.port != port):
            return False
        return any(one.version == self.network.version and one in self.network for one in addresses)


def _plain_network(text: str) -> Network:
    network = ip_network(text, strict=False)
    mapped = network.network_address
    if isinstance(mapped, IPv6Address) and mapped.ipv4_mapped is not None and network.prefixlen >= 96:
        return IPv4Network((mapped.ipv4_mapped, network.prefixlen - 96))
    return network


def _parse_rules(names: tuple[str, ...], setting: str) -> tuple[_Rule, ...]:
    rules: list[_Rule] = []
    for name in names:
        if name in WORDS:
            rules += [_Rule(network, None, None) for network in _networks(WORDS[name])]
            continue
        text, port = name, None
        try:
            rules.append(_Rule(_plain_network(name.strip("[]")), None, None))
            continue
        except ValueError:
            pass
        before, colon, after = name.rpartition(":")
        if colon and after.isascii() and after.isdigit() and 0 < int(after) < 65536:
            text, port = before.strip("[]"), int(after)
        try:
            rules.append(_Rule(_plain_network(text), None, port))
        except ValueError:
            if not text or any(char in text for char in " /@\\:"):
                raise ConfigError(
                    f"{setting}: {name!r} is neither a network, a host, host:port nor one of "
                    f"{', '.join(sorted(WORDS))}"
                ) from None
            rules.append(_Rule(None, text.lower().rstrip("."), port))
    return tuple(rules)


_MAX_REMEMBERED = 4096


class AccessPolicy:
    """Compiled access rules. Every answer is None (allowed) or a sentence saying what forbids it."""

    def __init__(
        self,
        *,
        clients: tuple[str, ...],
        deny_destinations: tuple[str, ...],
        allow_destinations: tuple[str, ...],
        connect_ports: tuple[int, ...],
        purge_clients: tuple[str, ...],
    ) -> None:
        self.client_networks = parse_client_networks(clients, "access.clients")
        self._purge_networks = parse_client_networks(purge_clients, "access.purge_clients")
        self._deny = _parse_rules(deny_destinations, "access.deny_destinations")
        self._allow = _parse_rules(allow_destinations, "access.allow_destinations")
        self._connect_ports = frozenset(connect_ports)
        self._refused: dict[tuple[str, int], str | None] = {}

    def refuses_client(self, client: str) -> str | None:
        """Why this client address may not use the proxy."""
        return None if _is_in(client, self.client_networks) else f"{client} is not in access.clients"

    def refuses_purge(self, client: str) -> str | None:
        """Why this client address may not PURGE."""
        return None if _is_in(client, self._purge_networks) else f"{client} is not in access.purge_clients"

    def refuses_connect_port(self, port: int) -> str | None:
        """Why CONNECT to this port is not allowed."""
        return None if port in self._connect_ports else f"port {port} is not in access.connect_ports"

    def refuses_host(self, host: str, port: int) -> str | None:
        """Why a destination is denied by its name, before it is resolved."""
        place = host, port
        if place not in self._refused:
            if len(self._refused) >= _MAX_REMEMBERED:
                self._refused.clear()
            self._refused[place] = self._refuses_host(host, port)
        return self._refused[place]

    def _refuses_host(self, host: str, port: int) -> str | None:
        if any(rule.fits_host(host, port) for rule in self._allow):
            return None
        if any(rule.fits_host(host, port) for rule in self._deny):
            return f"{host} may not be reached through this proxy (access.deny_destinations)"
        # RFC 6761 §6.3: localhost is loopback whatever a resolver says. Literals need no resolver.
        name = host.rstrip(".")
        address = "127.0.0.1" if name == "localhost" or name.endswith(".localhost") else name
        try:
            return self.refuses_address(host, address, port)
        except ValueError:
            return None

    def refuses_address(self, host: str, address_text: str, port: int) -> str | None:
        """Why an address that `host` resolved to may not be connected to."""
        # A deny may name either spelling; an exception must name the address that is really reached.
        address = plain_address(address_text)
        both = (address, _address(address_text))
        allowed = any(rule.fits_host(host, port) or rule.fits_address((address,), port) for rule in self._allow)
        if not allowed and any(rule.fits_address(both, port) for rule in self._deny):
            return f"the address {address} may not be reached through this proxy (access.deny_destinations)"
        return None


def _is_in(client: str, networks: tuple[Network, ...]) -> bool:
    try:
        address = _address(client)
        # A dual-stack socket writes IPv4 clients so; other embeddings are addresses of their own.
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in networks)
