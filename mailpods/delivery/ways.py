"""The ways out: how each destination is found, connected to, and waited for."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from mailpods.delivery import metrics, shaping
from mailpods.delivery.client import (
    Connection,
    Disconnected,
    Refusal,
    Target,
    TlsFailed,
    TlsMissing,
    TlsSession,
)
from mailpods.delivery.sts import Policies
from mailpods.directory.endpoints import resolve
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import AccountId, DomainName, Server, Smarthost, TlsMode
from mailpods.dns.records import MailHost, Tlsa
from mailpods.dns.resolver import SMTP_PORT, NoAnswer, Resolver, Undeliverable

NO_STARTTLS = "starttls-not-supported"
# With which the names of sites begin, and go on where TLS is promised, or is going to be, and where DNS is
# signed; and what follows a server's name that such a promise does not name.
SITE, VERIFIED, TRIED, SIGNED, UNLISTED = "mx ", "tls ", "trial ", "dnssec ", "!"
STORE_CONNECTIONS = 10  # more do not make Dovecot faster
REMOTE_CONNECTIONS = 20  # at a time, where a server takes so many
MAX_ATTEMPTS = 10  # addresses of one domain that are tried in a row
CONNECT_SECONDS = 10.0  # to one of them


@dataclass(frozen=True, slots=True)
class Way:
    """To one destination. `connect` finds it anew at each call, for it may move.

    It raises Disconnected, LookupError or ValueError where the destination cannot be reached now, Refusal
    where it does not want us now, and Undeliverable where it never will.
    """

    name: str
    label: str  # of metrics: remote destinations are too many to have one each
    connect: Callable[[], Awaitable[Connection]]
    exclusive: bool = False  # one message at a time for each recipient
    patient: bool = False  # what it is down for waits in memory; or else it is put off
    connections: int = REMOTE_CONNECTIONS
    messages: int = 0  # over one connection; 0: any number
    per_minute: int = 0  # messages; 0: any number


def title(destination: str) -> str:
    """What people call a destination: a site by its best server, a domain before that is known."""
    if destination.startswith(SITE):
        return Site.of(destination).hosts[0].name
    kind, _, _ = destination.partition(" ")
    return kind if kind == "smarthost" else destination.removeprefix("@")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are for other servers: the name in EHLO, and the address that connections come from."""

    hello: str
    source: str | None = None

    def source_for(self, address: str) -> str | None:
        """The address, if it is of the same kind as that of the server."""
        return self.source if self.source and (":" in self.source) == (":" in address) else None


def identity(server: Server, bulk: bool) -> Identity:
    """The bulk pool has its own, so that its reputation is its own."""
    return (
        Identity(server.bulk.hostname, server.bulk.source)
        if bulk and server.bulk
        else Identity(server.hostname)
    )


def to_shard(number: int, reader: DirectoryReader) -> Way:
    """The LMTP server of a store pod."""

    async def connect() -> Connection:
        server = _server(reader)
        host, port = resolve(server.shards[number].lmtp)
        return await Connection.open(Target(host, port, server.hostname, lmtp=True))

    name = f"shard-{number}"
    return Way(name, name, connect, exclusive=True, patient=True, connections=STORE_CONNECTIONS)


def to_smarthost(reader: DirectoryReader, bulk: bool, account: AccountId | None = None) -> Way:
    """The server that takes all mail for others. `account`: who logs in there by itself (R-004-10)."""

    async def connect() -> Connection:
        server = _server(reader)
        if server.smarthost is None:
            raise LookupError("no smarthost is set any more")
        own = reader.account(account) if account else None
        to = server.smarthost
        if own and own.smarthost:
            to = replace(to, username=own.smarthost[0], password=own.smarthost[1])
        return await _over(to, identity(server, bulk))

    name = f"smarthost {account}" if account else "smarthost"
    return Way(name, "smarthost", connect, patient=not account, connections=STORE_CONNECTIONS)


def by_rule(name: str, reader: DirectoryReader, bulk: bool) -> Way:
    """The host that a delivery rule names."""

    async def connect() -> Connection:
        server = _server(reader)
        route = next((route for route in server.routes if route.name == name), None)
        if route is None or route.via is None:
            raise LookupError(f"the delivery rule {name!r} names no host any more")
        return await _over(route.via, identity(server, bulk))

    return Way(f"rule {name}", "rule", connect, connections=STORE_CONNECTIONS)


async def _over(to: Smarthost, us: Identity) -> Connection:
    host, port = resolve(f"{to.host}:{to.port}")
    target = Target(host, port, us.hello, False, to.tls, to.username, to.password, source=us.source)
    return await Connection.open(target)


@dataclass(frozen=True, slots=True)
class Site:
    """The mail servers that one or many domains share: what is polite towards a server is counted by site."""

    hosts: tuple[MailHost, ...]  # the best first; equals by name
    verified: bool = False  # only by TLS, with certificates of these names (MTA-STS)
    tried: bool = False  # by TLS, and it is told where there are none (MTA-STS in mode testing)
    signed: bool = False  # so that TLSA records of these hosts bind (DANE)
    unlisted: frozenset[str] = frozenset()  # names that a policy in mode testing does not allow

    @property
    def name(self) -> str:
        """Tells it from all others, and all of it."""
        hosts = ",".join(
            f"{host.preference}:{host.name}{UNLISTED if host.name in self.unlisted else ''}"
            for host in self.hosts
        )
        marks = ((VERIFIED, self.verified), (TRIED, self.tried), (SIGNED, self.signed))
        return SITE + "".join(mark for mark, there in marks if there) + hosts

    @classmethod
    def of(cls, name: str) -> "Site":
        """The one of this name."""
        verified = name.removeprefix(SITE)
        tried = verified.removeprefix(VERIFIED)
        signed = tried.removeprefix(TRIED)
        hosts = signed.removeprefix(SIGNED)
        pairs = [each.partition(":") for each in hosts.split(",")]
        found = tuple(MailHost(int(preference), host.removesuffix(UNLISTED)) for preference, _, host in pairs)
        unlisted = frozenset(host.removesuffix(UNLISTED) for *_, host in pairs if host.endswith(UNLISTED))
        return cls(found, verified != tried, tried != signed, signed != hosts, unlisted)


async def site_of(
    domain: str, reader: DirectoryReader, dns: Callable[[], Resolver], policies: Policies | None = None
) -> Site:
    """The mail servers of a domain (RFC 5321 §5.1), or the one that is set for it.

    Raises Undeliverable where there are none, Disconnected where DNS is silent, LookupError without a
    directory.
    """
    server = _server(reader)
    if domain.startswith("["):
        raise Undeliverable(550, f"5.1.2 {domain} is an address and no domain: mail goes by MX alone")
    if hop := server.relayed.get(DomainName(domain)):
        return Site((MailHost(0, hop),))
    hosts = await dns().mail_hosts(domain, server.hostname)
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
        verified=mode == "enforce",
        tried=mode == "testing",
        signed=await dns().is_signed(domain),
        unlisted=frozenset(unlisted),
    )


def to_domain(
    domain: str,
    reader: DirectoryReader,
    dns: Callable[[], Resolver],
    bulk: bool = False,
    policies: Policies | None = None,
) -> Way:
    """The mail servers of a domain, found anew for each connection."""

    async def connect() -> Connection:
        site = await site_of(domain, reader, dns, policies)
        return await _best(site, dns(), identity(_server(reader), bulk))

    return Way(f"@{domain}", "remote", connect)


def to_site(site: Site, reader: DirectoryReader, dns: Callable[[], Resolver], bulk: bool) -> Way:
    """Mail servers that are known; only their addresses are looked up."""

    async def connect() -> Connection:
        return await _best(site, dns(), identity(_server(reader), bulk))

    rules = reader.server.shaping if reader.server else ()
    shape = shaping.of((host.name for host in site.hosts), rules)
    if shape is None:
        return Way(site.name, "remote", connect)
    most = shape.connections or REMOTE_CONNECTIONS
    return Way(site.name, "remote", connect, False, False, most, shape.messages, shape.per_minute)


async def _best(site: Site, resolver: Resolver, us: Identity) -> Connection:
    """A connection to the best server that takes one; of equal ones to any."""
    failed: Disconnected | Refusal | None = None
    left = MAX_ATTEMPTS
    sessions: list[TlsSession] = []
    for host in sorted(site.hosts, key=lambda host: (host.preference, random.random())):
        try:
            tlsa = await resolver.tlsa(host.name) if site.signed else None
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
                return await _open(_Attempt(host, address, us, site, tlsa), sessions)
            except (Disconnected, Refusal) as error:
                failed = error
        if not left:
            break
    if failed is None:
        names = ", ".join(host.name for host in site.hosts)
        failed = Disconnected(f"no mail server has an address: {names}")
    failed.sessions = tuple(sessions)
    raise failed


@dataclass(frozen=True, slots=True)
class _Attempt:
    """At one address of a mail server. `tlsa`: what binds it by DANE, None where nothing does."""

    host: MailHost
    address: str
    us: Identity
    site: Site
    tlsa: tuple[Tlsa, ...] | None

    @property
    def is_trial(self) -> bool:
        """Whether TLS is tried as if it were promised, and nothing depends on it."""
        return self.site.tried and self.tlsa is None

    @property
    def target(self) -> Target:
        """What DANE asks for holds beside what MTA-STS does (RFC 8461 §2)."""
        tls: TlsMode | Literal["dane"] = "opportunistic" if self.tlsa is None else "dane"
        return Target(
            self.address,
            SMTP_PORT,
            self.us.hello,
            tls="starttls" if self.site.verified else tls,
            name=self.host.name,
            source=self.us.source_for(self.address),
            tlsa=self.tlsa or (),
        )

    def session(self, result: str = "") -> TlsSession:
        """For reports."""
        has_policy = self.site.verified or self.site.tried
        bound: Literal["sts", "no-policy-found"] = "sts" if has_policy else "no-policy-found"
        return TlsSession(bound if self.tlsa is None else "tlsa", self.host.name, result)

    @property
    def label(self) -> str:
        """Of the connections that come of it by TLS, for metrics."""
        return "dane" if self.tlsa else "verified" if self.site.verified else "opportunistic"


async def _open(attempt: _Attempt, sessions: list[TlsSession]) -> Connection:
    """The connection; how TLS went is added to `sessions`, those of the attempts before it."""
    target, label = attempt.target, attempt.label
    try:
        if attempt.is_trial:
            connection = await _try_out(attempt, sessions)
        else:
            connection = await Connection.open(target, CONNECT_SECONDS)
    except TlsMissing:
        sessions.append(attempt.session(NO_STARTTLS))
        raise
    except TlsFailed as error:
        if not attempt.is_trial:
            sessions.append(attempt.session(error.result))
        metrics.TLS.labels("failed").inc()
        if target.tls != "opportunistic":
            raise
        # Better in clear than not at all, where nothing promises TLS (RFC 7435).
        connection, label = await Connection.open(replace(target, tls="none"), CONNECT_SECONDS), "none"
    else:
        if not attempt.is_trial:
            sessions.append(attempt.session("" if connection.is_encrypted else NO_STARTTLS))
    connection.sessions = tuple(sessions)
    metrics.TLS.labels(label if connection.is_encrypted else "none").inc()
    return connection


async def _try_out(attempt: _Attempt, sessions: list[TlsSession]) -> Connection:
    """As the policy wants it; where that fails, it is told, and mail goes as without one (RFC 8461 §5).

    Raises TlsFailed where TLS fails without a policy, too.
    """
    target, result = attempt.target, ""
    if attempt.host.name in attempt.site.unlisted:
        result = "validation-failure"
    else:
        try:
            connection = await Connection.open(replace(target, tls="starttls"), CONNECT_SECONDS)
        except TlsMissing:
            result = NO_STARTTLS
        except TlsFailed as error:
            result = error.result
    sessions.append(attempt.session(result))
    return await Connection.open(target, CONNECT_SECONDS) if result else connection


def _server(reader: DirectoryReader) -> Server:
    if reader.server is None:
        raise LookupError("no directory")
    return reader.server
