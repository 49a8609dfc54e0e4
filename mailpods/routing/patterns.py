"""What people write into rules: networks, and patterns of addresses and names, which know `*` and `?` alone.

Patterns are matched in time that grows with the text alone (fnmatch's `*` takes nothing back): no rule can
hold up the server, as a regular expression of a tenant's could.
"""

import fnmatch
import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

NULL_SENDER = "<>"  # the pattern of it


@lru_cache(10_000)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.lower().replace("[", "[[]")))


def matches_name(pattern: str, name: str) -> bool:
    """Whether a host name matches, in any case."""
    return _compiled(pattern).match(name.lower()) is not None


def matches_address(pattern: str, address: str) -> bool:
    """Whether an address matches: as a whole where the pattern has an @, or else by its domain."""
    if not address or pattern == NULL_SENDER:
        return not address and pattern == NULL_SENDER
    return matches_name(pattern, address if "@" in pattern else address.rpartition("@")[2])


@lru_cache(10_000)
def _network(cidr: str) -> IPv4Network | IPv6Network:
    return ip_network(cidr, strict=False)  # host bits are allowed, as people write them


def in_network(cidr: str, ip: str) -> bool:
    """Whether a client address lies in a network; what is no address lies in none."""
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    network = _network(cidr)
    return address.version == network.version and address in network


def in_domain(domain: str, address: str) -> bool:
    """Whether an address belongs to a domain, or to one below it."""
    name = address.rpartition("@")[2].lower()
    return bool(name) and (name == domain.lower() or name.endswith("." + domain.lower()))
