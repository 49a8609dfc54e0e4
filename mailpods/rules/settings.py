"""The directory's Server record, prepared once per change for the questions that every connection asks."""

from functools import lru_cache

from mailpods.directory.records import Server
from mailpods.routing.patterns import in_network
from mailpods.rules.lists import Lists


class Settings:
    """One version of the Server record."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.is_lan = lru_cache(4096)(lambda ip: any(in_network(cidr, ip) for cidr in server.lan))
        self.is_trusted = lru_cache(4096)(lambda ip: any(in_network(cidr, ip) for cidr in server.trusted))
        self.lists = Lists(server.screening.lists)
        self.lists_host_names = any(rule.host_name for rule in server.screening.lists)
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
