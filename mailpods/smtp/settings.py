"""The directory's Server record, prepared once per change for the questions that every connection asks."""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from mailpods.directory.records import Server

Network = IPv4Network | IPv6Network


def networks(cidrs: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks of a record; host bits are allowed, as people write them."""
    return tuple(ip_network(cidr, strict=False) for cidr in cidrs)


def contains(among: tuple[Network, ...], ip: str) -> bool:
    """Whether a client address lies in one of the networks; what is no address lies in none."""
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in among)


class Settings:
    """One version of the Server record."""

    def __init__(self, server: Server) -> None:
        self.server = server
        lan, trusted = networks(server.lan), networks(server.trusted)
        self.is_lan = lru_cache(4096)(lambda ip: contains(lan, ip))
        self.is_trusted = lru_cache(4096)(lambda ip: contains(trusted, ip))
        banner = server.banner or "ESMTP Mailpods"
        self.greeting = f"220 {server.hostname} {banner}\r\n".encode()
        self._ehlo = {
            (tls, auth): self._keywords(tls, auth) for tls in (True, False) for auth in (True, False)
        }

    def ehlo(self, starttls: bool, auth: bool) -> bytes:
        """The reply to EHLO (RFC 5321 §4.1.1.1); STARTTLS and AUTH are offered where they would be taken."""
        return self._ehlo[starttls, auth]

    def _keywords(self, starttls: bool, auth: bool) -> bytes:
        keywords = [
            self.server.hostname,
            "PIPELINING",
            f"SIZE {self.server.max_message_bytes}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "CHUNKING",
            *(["STARTTLS"] if starttls else []),
            *(["AUTH PLAIN LOGIN"] if auth else []),
        ]
        return "".join(f"250-{keyword}\r\n" for keyword in keywords).encode() + b"250 HELP\r\n"
