"""Where a domain's mail goes, as DNS says: MX records and addresses. Answers are kept while they hold."""

import asyncio
import random
import re
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.inet
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename

from mailpods.directory.reader import DirectoryReader
from mailpods.dns.records import MailHost, Tlsa

SMTP_PORT = 25
LIFETIME_SECONDS = 10.0  # of one question, all servers and tries together
MAX_HOSTS = 20  # of one domain; a zone may name hundreds
MAX_ADDRESSES = 20  # of one host
CACHED = 10_000  # answers
_HOST = re.compile(
    r"[a-z0-9_-]+(\.[a-z0-9_-]+)*"
)  # anything else is no name that a server has (RFC 1123 §2.1)


class NoAnswer(LookupError):
    """DNS gives no answer now: nothing is known of what was asked."""


class Undeliverable(Exception):
    """There is no way to the domain, and waiting makes none: `code` and `text` are a permanent reply."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code, self.text = code, text


class _Answer(NamedTuple):
    """What DNS said, and whether its server has validated that."""

    records: list[Any]
    is_signed: bool


class Resolver:
    """One for each worker. `servers`: addresses, with `:port` or not, in order; none: those of the system."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self.servers = tuple(servers)
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        except dns.resolver.NoResolverConfiguration:  # each question will say that nobody answers
            self._resolver = dns.asyncresolver.Resolver(configure=False)
        if servers:
            self._resolver.nameservers = [_nameserver(server) for server in servers]
        self._resolver.lifetime = LIFETIME_SECONDS
        self._resolver.set_flags(dns.flags.RD | dns.flags.AD)  # a validating server says so (RFC 6840 §5.7)
        self._resolver.cache = dns.resolver.LRUCache(CACHED)

    async def mail_hosts(self, domain: str, own: str) -> list[MailHost]:
        """The domain's mail servers in the order to try them, equals shuffled (RFC 5321 §5.1).

        Where `own` is among them, those as good as it and worse are left out: mail would come back.
        Raises Undeliverable, and NoAnswer where DNS gives no answer now.
        """
        try:
            records = await self._ask(domain, dns.rdatatype.MX)
        except dns.resolver.NXDOMAIN:
            raise Undeliverable(550, f"5.1.2 the domain {domain} does not exist") from None
        hosts = [MailHost(record.preference, _text(record.exchange)) for record in records]
        if not hosts:
            return [MailHost(0, domain)]  # its address is its mail server, too
        hosts = [host for host in hosts if not host.name or _HOST.fullmatch(host.name)]
        if not hosts:
            raise Undeliverable(550, f"5.4.4 the MX records of {domain} name no host")
        if not any(host.name for host in hosts):
            raise Undeliverable(556, f"5.1.10 {domain} takes no mail")
        bound = min((host.preference for host in hosts if host.name == own.lower()), default=1 << 16)
        better = [host for host in hosts if host.name and host.preference < bound]
        if not better:
            raise Undeliverable(554, f"5.4.6 the mail servers of {domain} lead back here")
        random.shuffle(better)
        return sorted(better, key=lambda host: host.preference)[:MAX_HOSTS]

    async def is_signed(self, domain: str) -> bool:
        """Whether the DNS server has validated what mail_hosts() said of it."""
        try:
            return (await self._answer(domain, dns.rdatatype.MX)).is_signed
        except (dns.resolver.NXDOMAIN, NoAnswer):
            return False

    async def tlsa(self, host: str) -> tuple[Tlsa, ...] | None:
        """The usable TLSA records of a mail server (RFC 7672 §2.2); None where it has none that are signed.

        Raises NoAnswer where DNS is silent about them: they might bind, and an attacker keep them away.
        """
        if not await self._has_signed_address(host):
            return None  # servers of names in unsigned zones fail at such questions more often (§2.2.2)
        try:
            answer = await self._answer(f"_{SMTP_PORT}._tcp.{host}", dns.rdatatype.TLSA)
        except dns.resolver.NXDOMAIN:
            return None
        if not (answer.records and answer.is_signed):
            return None
        found = (Tlsa(each.usage, each.selector, each.mtype, bytes(each.cert)) for each in answer.records)
        return tuple(record for record in found if record.is_usable)

    async def _has_signed_address(self, host: str) -> bool:
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            try:
                answer = await self._answer(host, kind)
            except (dns.resolver.NXDOMAIN, NoAnswer):
                continue
            if answer.records:
                return answer.is_signed
        return False

    async def names(self, ip: str) -> list[str]:
        """The names that an address has, for its reverse zone. Raises NoAnswer where DNS is silent."""
        try:
            records = await self._ask(dns.reversename.from_address(ip).to_text(), dns.rdatatype.PTR)
        except (dns.resolver.NXDOMAIN, ValueError, dns.exception.SyntaxError):
            return []
        return [_text(record.target) for record in records][:MAX_HOSTS]

    async def texts(self, name: str) -> list[str]:
        """The TXT records of a name, each as one text. Raises NoAnswer where DNS is silent."""
        try:
            records = await self._ask(name, dns.rdatatype.TXT)
        except dns.resolver.NXDOMAIN:
            return []
        return [b"".join(record.strings).decode("utf-8", "replace") for record in records]

    async def exists(self, name: str) -> bool:
        """Whether a name has MX records or an address. Raises NoAnswer where DNS is silent."""
        try:
            dns.name.from_text(name)
        except dns.exception.DNSException:
            return False  # such a name cannot be
        try:
            if await self._ask(name, dns.rdatatype.MX):
                return True
        except dns.resolver.NXDOMAIN:
            return False
        return bool(await self.addresses(name))

    async def addresses(self, name: str) -> list[str]:
        """A host's addresses, of both kinds in turn. Raises NoAnswer where DNS gives no answer now."""
        if dns.inet.is_address(name):
            return [name]
        answers = await asyncio.gather(
            self._ask(name, dns.rdatatype.AAAA),
            self._ask(name, dns.rdatatype.A),
            return_exceptions=True,
        )
        kinds = []
        for answer in answers:
            if isinstance(answer, list):
                kinds.append([str(record.address) for record in answer])
            elif not isinstance(answer, dns.resolver.NXDOMAIN | NoAnswer):
                raise answer
        for kind in kinds:
            random.shuffle(kind)
        found = [address for address in chain.from_iterable(zip_longest(*kinds)) if address]
        if not found:
            for answer in answers:
                if isinstance(answer, NoAnswer):
                    raise answer
        return found[:MAX_ADDRESSES]

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> list[Any]:
        """The records, none where there are no such. Raises NXDOMAIN, and NoAnswer for no answer."""
        return (await self._answer(name, kind)).records

    async def _answer(self, name: str, kind: dns.rdatatype.RdataType) -> "_Answer":
        """The same, and whether it is signed."""
        try:
            answer = await self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            raise
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise NoAnswer(f"DNS gives no answer for {name} {kind.name}: {_reason(error)}") from error
        return _Answer(list(answer.rrset or ()), bool(answer.response.flags & dns.flags.AD))


class Resolvers:
    """Gives the resolver that the directory names now. One for each worker."""

    def __init__(self, reader: DirectoryReader) -> None:
        self._reader = reader
        self._resolver: Resolver | None = None

    def __call__(self) -> Resolver:
        servers = self._reader.server.resolvers if self._reader.server else ()
        if self._resolver is None or self._resolver.servers != servers:
            self._resolver = Resolver(servers)
        return self._resolver


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower().removesuffix(".")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _nameserver(server: str) -> dns.nameserver.Nameserver:
    host, separator, port = server.rpartition(":")
    if separator and "." in host and port.isdecimal():
        return dns.nameserver.Do53Nameserver(host, int(port))
    return dns.nameserver.Do53Nameserver(server.strip("[]"), 53)
