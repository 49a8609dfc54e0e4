"""The rules that a command must pass, phase by phase: pure functions in order; the first refusal wins.

A new rule is one function and one line in a list.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mailpods.directory.records import AccountId, ListRule
from mailpods.dns.names import Known
from mailpods.refusal import Refusal
from mailpods.routing.router import Outcome
from mailpods.rules.settings import Settings


@dataclass(slots=True)
class Facts:
    """What the rules may look at. The session fills it in as the dialogue goes on; rules only read it."""

    settings: Settings
    ip: str
    lan: bool
    trusted: bool
    submission: bool = False  # came in on a port for submission
    bulk: bool = False  # … and of the bulk pool
    bulk_allowed: bool = True  # the domain of who logged in may use that
    connections: int = 0  # this client's, this one included
    rate: float = 0  # connections that this client opened within the last minute, this one included
    client_known: Known = "unasked"
    client_name: str = ""  # as DNS confirms it
    tls: bool = False
    helo: str = ""
    helo_known: Known = "unasked"
    account: AccountId | None = None  # who authenticated
    sender: str = ""
    sender_known: Known = "unasked"  # whether its domain is
    sender_is_own: bool = True  # looked up only where a rule needs it
    size: int = 0  # announced with MAIL, later what arrived; bytes
    recipients: int = 0  # taken so far
    recipient: str = ""  # of this RCPT
    suppressed: str | None = None  # why the sender's domain sends nothing to the recipient in bulk
    listed: ListRule | None = None  # the rule of the lists that decides about it
    outcome: Outcome | None = None  # where the recipient of this RCPT leads
    over_quota: bool = False
    hops: int = 0  # Received fields

    @property
    def may_relay(self) -> bool:
        """Whether this client may send to other servers: it logged in, or its network is excepted."""
        return self.account is not None or self.trusted or (self.settings.server.skip_lan and self.lan)

    @property
    def screened(self) -> bool:
        """Whether the client must be identified: it may not relay, and no allow list admits the message."""
        return not self.may_relay and (self.listed is None or self.listed.action != "allow")


Rule = Callable[[Facts], Refusal | None]


def first(rules: Iterable[Rule], facts: Facts) -> Refusal | None:
    """The first refusal of a phase, or None."""
    for rule in rules:
        if refusal := rule(facts):
            return refusal
    return None


# --- connection


def connections_per_client(facts: Facts) -> Refusal | None:
    """R-003-24. 0 means no limit."""
    limit = facts.settings.server.max_connections_per_client
    if limit and facts.connections > limit:
        return Refusal(421, "4.7.0", "Too many connections from your address", "client-connections", True)
    return None


def rate_per_client(facts: Facts) -> Refusal | None:
    """R-003-24. 0 means no limit."""
    limit = facts.settings.server.screening.rate_per_minute
    if limit and facts.rate > limit:
        return Refusal(421, "4.7.0", "Too many connections within a minute", "client-rate", True)
    return None


# --- MAIL


def hello_first(facts: Facts) -> Refusal | None:
    """RFC 5321 §4.1.4, unless the server is lenient (R-003-25)."""
    if facts.settings.server.screening.helo_required and not facts.helo:
        return Refusal(503, "5.5.1", "EHLO first", "sequence")
    return None


_LOGIN_FIRST = Refusal(530, "5.7.0", "Authentication required", "authentication-required")


def authentication(facts: Facts) -> Refusal | None:
    """Every client must log in where the server says so (R-003-01)."""
    return _LOGIN_FIRST if facts.settings.server.auth_required and not facts.may_relay else None


def bulk(facts: Facts) -> Refusal | None:
    """Mass mailings are a domain's to allow (R-002-21)."""
    if facts.bulk and not facts.bulk_allowed:
        text = "Mass mailing is off for your domain: send over ports 587 or 465"
        return Refusal(550, "5.7.1", text, "bulk-not-allowed")
    return None


def sender_belongs_to_login(facts: Facts) -> Refusal | None:
    """R-003-04. The null sender belongs to everyone: receipts and vacation replies carry it."""
    if facts.settings.server.sender_must_match and facts.account and not facts.sender_is_own:
        return Refusal(553, "5.7.1", "Sender address does not belong to your login", "sender-mismatch")
    return None


def size(facts: Facts) -> Refusal | None:
    """RFC 1870 §6.1 before the message, and again behind it."""
    limit = facts.settings.server.max_message_bytes
    if facts.size > limit:
        return Refusal(552, "5.3.4", f"Message larger than {limit} bytes", "message-size")
    return None


# --- RCPT


def recipients(facts: Facts) -> Refusal | None:
    """RFC 5321 §4.5.3.1.10: the client sends the others in a transaction of their own."""
    if facts.recipients >= facts.settings.server.max_recipients:
        return Refusal(452, "4.5.3", "Too many recipients", "too-many-recipients")
    return None


def relay(facts: Facts) -> Refusal | None:
    """Elsewhere without permission: on every port with the same words (R-001-37)."""
    if isinstance(facts.outcome, Refusal) and facts.outcome.reason == "relay_not_permitted":
        return recipient(facts)
    return None


def listed(facts: Facts) -> Refusal | None:
    """What a deny list refuses (R-003-18). What it discards is taken, and thrown away by the session."""
    rule = facts.listed
    if rule and rule.action == "reject":
        return Refusal(550, "5.7.1", f"Refused by rule {rule.name!r}", "deny-list", rule=rule.name)
    return None


_DNS_SILENT = "DNS gives no answer about {}, try again"


def _identified(known: Known, what: str, text: str, reason: str) -> Refusal | None:
    """The refusal of a name that DNS does not know; a temporary one where DNS does not answer."""
    if known == "no":
        return Refusal(550, "5.7.1", text, reason)
    if known == "unsure":
        return Refusal(451, "4.4.3", _DNS_SILENT.format(what), reason)
    return None


def client_named(facts: Facts) -> Refusal | None:
    """R-003-23: the client's address must have a name (RFC 1912 §2.1)."""
    if not (facts.screened and facts.settings.server.screening.client_named):
        return None
    text = f"Your address {facts.ip} has no name in DNS"
    return _identified(facts.client_known, facts.ip, text, "client-without-name")


def helo_fqdn(facts: Facts) -> Refusal | None:
    """R-003-25; an address literal will do (RFC 5321 §4.1.4)."""
    if facts.screened and facts.settings.server.screening.helo_fqdn and not _is_full(facts.helo):
        return Refusal(550, "5.7.1", "Say your full host name in EHLO", "helo-not-full")
    return None


def helo_known(facts: Facts) -> Refusal | None:
    """R-003-25."""
    if not (facts.screened and facts.settings.server.screening.helo_known):
        return None
    text = f"The name {facts.helo} that you gave in EHLO is not in DNS"
    return _identified(facts.helo_known, facts.helo, text, "helo-unknown")


def sender_fqdn(facts: Facts) -> Refusal | None:
    """R-003-22. The null sender needs no domain."""
    if not (facts.screened and facts.settings.server.screening.sender_fqdn and facts.sender):
        return None
    if _is_full(facts.sender.rpartition("@")[2]):
        return None
    return Refusal(550, "5.1.8", "The sender address needs a full domain", "sender-not-full")


def sender_known(facts: Facts) -> Refusal | None:
    """R-003-22."""
    if not (facts.screened and facts.settings.server.screening.sender_known and facts.sender):
        return None
    domain = facts.sender.rpartition("@")[2]
    text = f"The sender's domain {domain} has neither MX nor address"
    refusal = _identified(facts.sender_known, domain, text, "sender-unknown")
    return replace(refusal, enhanced="5.1.8") if refusal and refusal.code == 550 else refusal


def _is_full(name: str) -> bool:
    return name.startswith("[") or "." in name.strip(".")


def suppressed(facts: Facts) -> Refusal | None:
    """Who bounced, complained or left gets no more mass mailings of this domain."""
    if facts.suppressed is None:
        return None
    text = f"<{facts.recipient}> is on the suppression list of your domain: {facts.suppressed}"
    return Refusal(550, "5.7.1", text, "suppressed")


def submission(facts: Facts) -> Refusal | None:
    """On the submission ports even mail for here needs a login (RFC 6409 §4.3)."""
    return _LOGIN_FIRST if facts.submission and not facts.may_relay else None


def recipient(facts: Facts) -> Refusal | None:
    """What routing refuses: unknown here (550 5.1.1), or no way to there."""
    return facts.outcome if isinstance(facts.outcome, Refusal) else None


def quota(facts: Facts) -> Refusal | None:
    """Over quota is refused at once, not bounced later."""
    if facts.over_quota:
        return Refusal(552, "5.2.2", "Mailbox is full", "over-quota")
    return None


# --- behind DATA


def hops(facts: Facts) -> Refusal | None:
    """RFC 5321 §6.3: too many Received fields mean a loop."""
    if facts.hops > facts.settings.server.max_hops:
        return Refusal(554, "5.4.6", "Too many hops: this message is in a loop", "too-many-hops")
    return None


CONNECTION: tuple[Rule, ...] = (connections_per_client, rate_per_client)
MAIL: tuple[Rule, ...] = (hello_first, authentication, bulk, sender_belongs_to_login, size)
SCREENING: tuple[Rule, ...] = (client_named, helo_fqdn, helo_known, sender_fqdn, sender_known)
RECIPIENT: tuple[Rule, ...] = (recipients, relay, submission, suppressed, listed, *SCREENING, recipient)
QUOTA: tuple[Rule, ...] = (quota,)
DATA: tuple[Rule, ...] = (size, hops)
