"""The mail servers of a domain, as its MX records name them (RFC 5321 §5.1)."""

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from mailpods.delivery.client.connection import Connection
from mailpods.delivery.client.replies import Disconnected, Unwelcome
from mailpods.delivery.client.tls import TlsSession
from mailpods.delivery.destinations.attempt import NOTHING_PROMISED, Attempt, Promise, connect
from mailpods.delivery.destinations.base import Destination, Identity, Network
from mailpods.directory.records import DomainName
from mailpods.dns.records import MailHost
from mailpods.dns.resolver import NoAnswer, Resolver, Undeliverable

MAX_ATTEMPTS = 10  # addresses of one domain that are tried in a row


@dataclass(frozen=True)
class Domain(Destination):
    """A domain whose servers are not known yet: they are found anew for each connection."""

    domain: DomainName
    label: ClassVar[str] = "remote"
    is_abroad: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"@{self.domain}"

    @property
    def title(self) -> str:
        return self.domain

    async def connect(self, network: Network, avoid: Collection[str] = ()) -> Connection:
        site = await site_of(self.domain, network)
        return await best(site, network.dns(), network.identity, avoid)


@dataclass(frozen=True)
class Site(Destination):
    """The mail servers that one or many domains share: what is polite towards a server is counted by site."""

    servers: tuple[MailHost, ...]  # the best first; equals by name
    promise: Promise = NOTHING_PROMISED
    label: ClassVar[str] = "remote"
    is_abroad: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # A key that is looked up several times with each message.
        object.__setattr__(self, "_hash", hash((self.servers, self.promise)))

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined,no-any-return]

    @property
    def name(self) -> str:
        promise = self.promise
        marks = (("tls", promise.verified), ("trial", promise.tried), ("dnssec", promise.signed))
        hosts = ",".join(f"{host.preference}:{host.name}" for host in self.servers)
        return " ".join(["mx", *(mark for mark, there in marks if there), hosts])

    @property
    def title(self) -> str:
        return self.servers[0].name

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.servers)

    async def connect(self, network: Network, avoid: Collection[str] = ()) -> Connection:
        """Only the addresses of its servers are looked up."""
        return await best(self, network.dns(), network.identity, avoid)


async def site_of(domain: str, network: Network) -> Site:
    """The mail servers of a domain (RFC 5321 §5.1), or the one that is set for it.

    Raises Undeliverable where there are none, Disconnected where DNS is silent, LookupError without a
    directory.
    """
    server, dns, policies = network.server, network.dns(), network.policies
    if domain.startswith("["):
        raise Undeliverable(550, f"5.1.2 {domain} is an address and no domain: mail goes by MX alone")
    if hop := server.relayed.get(DomainName(domain)):
        return Site((MailHost(0, hop),))
    hosts = await dns.mail_hosts(domain, server.hostname)
    policy = await policies.of(domain) if policies else None
    mode = policy.mode if policy else "none"
    unlisted = {host.name for host in hosts if policy and mode != "none" and not policy.allows(host.name)}
    if mode == "enforce":
        hosts = [host for host in hosts if host.name not in unlisted]
        if not hosts:
            raise Disconnected(f"no mail server of {domain} is one that its MTA-STS policy names")
        unlisted = set()
    return Site(
        tuple(sorted(hosts, key=lambda host: (host.preference, host.name))),
        Promise(mode == "enforce", mode == "testing", await dns.is_signed(domain), frozenset(unlisted)),
    )


async def best(site: Site, resolver: Resolver, us: Identity, avoid: Collection[str] = ()) -> Connection:
    """A connection to the best server that takes one; of equal ones to any.

    Raises Undeliverable where DNS says that none of them has an address.
    """
    failed: Disconnected | Unwelcome | None = None
    left = MAX_ATTEMPTS
    sessions: list[TlsSession] = []
    for host in sorted(site.servers, key=lambda host: (host.name in avoid, host.preference, random.random())):
        try:
            tlsa = await resolver.tlsa(host.name) if site.promise.signed else None
        except NoAnswer as error:
            sessions.append(TlsSession("tlsa", host.name, "dnssec-invalid"))
            failed = Disconnected(str(error))
            continue
        try:
            addresses = await resolver.addresses(host.name)
        except NoAnswer as error:
            failed = Disconnected(str(error))
            continue
        for address in addresses[:left]:
            left -= 1
            try:
                return await connect(Attempt(host, address, us, site.promise, tlsa), sessions)
            except (Disconnected, Unwelcome) as error:
                failed = error
        if not left:
            break
    if failed is None:
        names = ", ".join(host.name for host in site.servers)
        raise Undeliverable(550, f"5.4.4 no mail server has an address: {names}")
    failed.sessions = tuple(sessions)
    raise failed
