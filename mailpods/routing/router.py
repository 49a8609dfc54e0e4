"""Follows an address through the directory: mailbox, alias, catch-all, smarthost, or nowhere, and why."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mailpods.directory.reader import NotLoaded
from mailpods.directory.records import Account, AccountId, Address, AddressEntry, Domain, DomainName, Server
from mailpods.message.srs import Srs
from mailpods.refusal import Refusal
from mailpods.routing import routes
from mailpods.routing.patterns import matches_address

MAX_DEPTH = 20  # aliases in a row
MAX_RESULTS = 1000  # places that one address may lead to
POSTMASTERS = ("postmaster", "mailer-daemon")
DELIMITER = "+"  # of a subaddress (RFC 5233)


class Directory(Protocol):
    """What of the directory routing needs."""

    @property
    def server(self) -> Server | None: ...
    def domain(self, name: DomainName) -> Domain | None: ...
    def address(self, address: Address) -> AddressEntry | None: ...
    def account(self, account: AccountId) -> Account | None: ...
    @property
    def first_number(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Routed:
    """Where a recipient's mail goes: mailboxes here, and addresses elsewhere."""

    accounts: tuple[AccountId, ...]
    remote: tuple[Address, ...] = ()


Outcome = Routed | Refusal


@dataclass
class _Walk:
    accounts: list[AccountId] = field(default_factory=list)
    remote: list[Address] = field(default_factory=list)
    seen: set[Address] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.accounts) + len(self.remote) >= MAX_RESULTS


class Router:
    """Routes by the directory as it is at each call."""

    def __init__(self, directory: Directory, srs: Srs | None = None) -> None:
        self._directory = directory
        self._srs = srs

    def route(self, address: Address, may_relay: bool) -> Outcome:
        """Where mail to the address goes. `may_relay`: the client may send to other servers."""
        try:
            return self._route(address, may_relay)
        except NotLoaded:  # it is neither unknown nor another's
            text = f"<{address}>: not all accounts are loaded, try again"
            return Refusal(451, "4.3.0", text, "directory_not_loaded")

    def _route(self, address: Address, may_relay: bool) -> Outcome:
        domain = _domain_of(address)
        if self._directory.domain(domain) is None and not self._is_system(address):
            if domain in self._relayed:
                return Routed((), (address,))  # from anybody: it is ours to pass on
            return self._route_elsewhere(address, may_relay)
        walk = _Walk()
        self._follow(address, walk, 0)
        remote = tuple(each for each in walk.remote if self._leaves or _domain_of(each) in self._relayed)
        if walk.accounts or remote:
            return Routed(tuple(walk.accounts), remote)
        if walk.remote:
            return Refusal(
                550, "5.7.1", f"<{address}> leads to another server, and mail has no way there", "no_route"
            )
        return Refusal(550, "5.1.1", f"<{address}> is unknown here", "unknown_recipient")

    def _route_elsewhere(self, address: Address, may_relay: bool) -> Outcome:
        if not may_relay:
            server = self._directory.server
            help_url = f" {server.help_url}" if server and server.help_url else ""
            return Refusal(550, "", f"relay not permitted{help_url}", "relay_not_permitted")
        if not (self._leaves or self._by_rule(address)):
            return Refusal(
                550, "5.7.1", "mail to other servers has no way: the smarthost is not set", "no_route"
            )
        return Routed((), (address,))

    @property
    def _leaves(self) -> bool:
        server = self._directory.server
        return server is not None and (server.smarthost is not None or server.direct)

    def _is_system(self, address: Address) -> bool:
        """Whether it is the postmaster of the server itself, whom everybody reaches (RFC 5321 §4.5.1)."""
        server, (local, _, name) = self._directory.server, address.lower().rpartition("@")
        return bool(server and name == server.hostname.lower() and self._postmaster(local, None))

    def _by_rule(self, address: Address) -> bool:
        """Whether a delivery rule may take the recipient's mail, whoever sends it."""
        server = self._directory.server
        rules = server.routes if server else ()
        return any(rule.recipient is None or matches_address(rule.recipient, address) for rule in rules)

    @property
    def _relayed(self) -> Mapping[DomainName, str]:
        server = self._directory.server
        return server.relayed if server else {}

    def way_out(self, sender: str, address: str) -> str:
        """Where mail for another server goes, in words."""
        server = self._directory.server
        if server and (to := server.relayed.get(_domain_of(address))) is not None:
            return f"goes to {to or 'the servers that its MX records name'}"
        if server and (rule := routes.of(server, sender, address)):
            to = rule.via.host if rule.via else "the servers of its domain"
            return f"goes to {to}, by delivery rule {rule.name}"
        if server and server.smarthost:
            return f"goes to the smarthost {server.smarthost.host}"
        return "goes to the servers of its domain" if self._leaves else "is refused: no smarthost is set"

    def owns(self, account: AccountId, sender: str) -> bool:
        """Whether the sender address leads, over aliases here, to the account (R-003-04)."""
        walk = _Walk()
        self._follow(Address(sender), walk, 0)
        return account in walk.accounts

    def explain(self, address: str, sender: str = "") -> list[str]:
        """The path of an address, a step a line, indented by depth."""
        domain, way = _domain_of(address), self.way_out(sender, address)
        if self._directory.domain(domain) is None and domain in self._relayed:
            return [f"{address}: {domain} is taken for another server: {way}"]
        if self._directory.domain(domain) is None and not self._is_system(Address(address)):
            place = f"{domain or 'no domain'} is not served here"
            return [f"{address}: {place}; from authorised senders it {way}"]
        walk = _Walk()
        self._follow(Address(address), walk, 0)
        walk.lines += [f"{remote} {self.way_out(sender, remote)}" for remote in walk.remote]
        outcome = self.route(Address(address.lower()), may_relay=True)
        if isinstance(outcome, Refusal):
            walk.lines.append(f"refused: {outcome}")
        return walk.lines

    def _follow(self, address: Address, walk: _Walk, depth: int) -> None:
        indent = "  " * depth
        local, _, name = address.lower().rpartition("@")
        domain = self._directory.domain(DomainName(name))
        if domain is None and self._is_system(address):
            domain = Domain(
                self._directory.first_number or 0
            )  # its own name, at which it has no other address
        if domain is None:
            walk.lines.append(f"{indent}{address}: at another server")
            if address not in walk.remote and not walk.full:
                walk.remote.append(address)
            return
        key = Address(f"{local}@{domain.users_of or name}")
        if domain.users_of:
            walk.lines.append(f"{indent}{address}: {name} shares the users of {domain.users_of}")
        if key in walk.seen:
            walk.lines.append(f"{indent}{key}: was followed before")
            return
        walk.seen.add(key)
        if depth > MAX_DEPTH or walk.full:
            walk.lines.append(f"{indent}{key}: not followed, over {MAX_DEPTH} steps or {MAX_RESULTS} places")
            return
        owner = self._directory.domain(DomainName(domain.users_of)) if domain.users_of else domain
        entry, why = self._entry(key, owner)
        if entry is None:
            walk.lines.append(f"{indent}{key}: unknown")
        elif entry.account is not None:
            walk.lines.append(f"{indent}{key}: {why} -> mailbox {entry.account}")
            if entry.account not in walk.accounts:
                walk.accounts.append(entry.account)
        else:
            walk.lines.append(f"{indent}{key}: {why} -> {', '.join(entry.targets)}")
            for target in entry.targets:
                self._follow(target, walk, depth + 1)

    def _entry(self, key: Address, domain: Domain | None) -> tuple[AddressEntry | None, str]:
        """The first that knows the address: itself, without its detail, as postmaster, the catch-all."""
        if entry := self._directory.address(key):
            return entry, entry.source
        local, _, name = key.rpartition("@")
        base, delimiter, detail = local.partition(DELIMITER)
        if base and delimiter and (entry := self._directory.address(Address(f"{base}@{name}"))):
            return entry, f"{entry.source}, with detail {detail!r}"
        if found := self._postmaster(local, domain):
            return found
        if self._srs and (sender := self._srs.reverse(local, time.time())):
            return AddressEntry("SRS", targets=(Address(sender),)), "the bounce of a forward"
        if domain and domain.catch_all:
            return AddressEntry("catch-all", targets=(domain.catch_all,)), "catch-all"
        return None, ""

    def _postmaster(self, local: str, domain: Domain | None) -> tuple[AddressEntry, str] | None:
        """Who is postmaster of a domain, or of the server where that is None (RFC 5321 §4.5.1): external ones
        where there are, or else the domain's administrator, or that of the server's first domain."""
        server = self._directory.server
        if local in POSTMASTERS and server and server.postmasters:
            return AddressEntry("postmasters", targets=server.postmasters), "external postmasters"
        number = domain.number if domain else self._directory.first_number
        administrator = AccountId(f"{number}/maint")
        if local != "postmaster" or self._directory.account(administrator) is None:
            return None
        return AddressEntry("administrator", administrator), "the administrator"


def _domain_of(address: str) -> DomainName:
    return DomainName(address.rpartition("@")[2].lower())
