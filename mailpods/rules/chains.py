"""The rules that a command must pass, phase by phase: pure functions in order; the first refusal wins.

A new rule is one function and one line in a list.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from mailpods.dns.names import Known
from mailpods.refusal import Refusal
from mailpods.rules.context import PolicyContext

Rule = Callable[[PolicyContext], Refusal | None]


def first(rules: Iterable[Rule], context: PolicyContext) -> Refusal | None:
    """The first refusal of a phase, or None."""
    for rule in rules:
        if refusal := rule(context):
            return refusal
    return None


# --- connection


def connections_per_client(context: PolicyContext) -> Refusal | None:
    """R-003-24. 0 means no limit."""
    limit = context.settings.server.max_connections_per_client
    if limit and context.connections > limit:
        return Refusal(421, "4.7.0", "Too many connections from your address", "client-connections", True)
    return None


def rate_per_client(context: PolicyContext) -> Refusal | None:
    """R-003-24. 0 means no limit."""
    limit = context.settings.server.screening.rate_per_minute
    if limit and context.rate > limit:
        return Refusal(421, "4.7.0", "Too many connections within a minute", "client-rate", True)
    return None


# --- MAIL


def hello_first(context: PolicyContext) -> Refusal | None:
    """RFC 5321 §4.1.4, unless the server is lenient (R-003-25)."""
    if context.settings.server.screening.helo_required and not context.helo:
        return Refusal(503, "5.5.1", "EHLO first", "sequence")
    return None


_LOGIN_FIRST = Refusal(530, "5.7.0", "Authentication required", "authentication-required")


def authentication(context: PolicyContext) -> Refusal | None:
    """Every client must log in where the server says so (R-003-01)."""
    return _LOGIN_FIRST if context.settings.server.auth_required and not context.may_relay else None


def bulk(context: PolicyContext) -> Refusal | None:
    """Mass mailings are a domain's to allow (R-002-21)."""
    if context.bulk and not context.bulk_allowed:
        text = "Mass mailing is off for your domain: send over ports 587 or 465"
        return Refusal(550, "5.7.1", text, "bulk-not-allowed")
    return None


def sender_belongs_to_login(context: PolicyContext) -> Refusal | None:
    """R-003-04. The null sender belongs to everyone: receipts and vacation replies carry it."""
    if context.settings.server.sender_must_match and context.account and not context.sender_is_own:
        return Refusal(553, "5.7.1", "Sender address does not belong to your login", "sender-mismatch")
    return None


def size(context: PolicyContext) -> Refusal | None:
    """RFC 1870 §6.1 before the message, and again behind it."""
    limit = context.settings.server.max_message_bytes
    if context.size > limit:
        return Refusal(552, "5.3.4", f"Message larger than {limit} bytes", "message-size")
    return None


# --- RCPT


def recipients(context: PolicyContext) -> Refusal | None:
    """RFC 5321 §4.5.3.1.10: the client sends the others in a transaction of their own."""
    if context.recipients >= context.settings.server.max_recipients:
        return Refusal(452, "4.5.3", "Too many recipients", "too-many-recipients")
    return None


def relay(context: PolicyContext) -> Refusal | None:
    """Elsewhere without permission: on every port with the same words (R-001-37)."""
    if isinstance(context.outcome, Refusal) and context.outcome.reason == "relay_not_permitted":
        return recipient(context)
    return None


def listed(context: PolicyContext) -> Refusal | None:
    """What a deny list refuses (R-003-18). What it discards is taken, and thrown away by the session."""
    rule = context.listed
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


def client_named(context: PolicyContext) -> Refusal | None:
    """R-003-23: the client's address must have a name (RFC 1912 §2.1)."""
    if not (context.screened and context.settings.server.screening.client_named):
        return None
    text = f"Your address {context.ip} has no name in DNS"
    return _identified(context.client_known, context.ip, text, "client-without-name")


def helo_fqdn(context: PolicyContext) -> Refusal | None:
    """R-003-25; an address literal will do (RFC 5321 §4.1.4)."""
    if context.screened and context.settings.server.screening.helo_fqdn and not _is_full(context.helo):
        return Refusal(550, "5.7.1", "Say your full host name in EHLO", "helo-not-full")
    return None


def helo_known(context: PolicyContext) -> Refusal | None:
    """R-003-25."""
    if not (context.screened and context.settings.server.screening.helo_known):
        return None
    text = f"The name {context.helo} that you gave in EHLO is not in DNS"
    return _identified(context.helo_known, context.helo, text, "helo-unknown")


def sender_fqdn(context: PolicyContext) -> Refusal | None:
    """R-003-22. The null sender needs no domain."""
    if not (context.screened and context.settings.server.screening.sender_fqdn and context.sender):
        return None
    if _is_full(context.sender.rpartition("@")[2]):
        return None
    return Refusal(550, "5.1.8", "The sender address needs a full domain", "sender-not-full")


def sender_known(context: PolicyContext) -> Refusal | None:
    """R-003-22."""
    if not (context.screened and context.settings.server.screening.sender_known and context.sender):
        return None
    domain = context.sender.rpartition("@")[2]
    text = f"The sender's domain {domain} has neither MX nor address"
    refusal = _identified(context.sender_known, domain, text, "sender-unknown")
    return replace(refusal, enhanced="5.1.8") if refusal and refusal.code == 550 else refusal


def _is_full(name: str) -> bool:
    return name.startswith("[") or "." in name.strip(".")


def suppressed(context: PolicyContext) -> Refusal | None:
    """Who bounced, complained or left gets no more mass mailings of this domain."""
    if context.suppressed is None:
        return None
    text = f"<{context.recipient}> is on the suppression list of your domain: {context.suppressed}"
    return Refusal(550, "5.7.1", text, "suppressed")


def submission(context: PolicyContext) -> Refusal | None:
    """On the submission ports even mail for here needs a login (RFC 6409 §4.3)."""
    return _LOGIN_FIRST if context.submission and not context.may_relay else None


def recipient(context: PolicyContext) -> Refusal | None:
    """What routing refuses: unknown here (550 5.1.1), or no way to there."""
    return context.outcome if isinstance(context.outcome, Refusal) else None


def quota(context: PolicyContext) -> Refusal | None:
    """Over quota is refused at once, not bounced later."""
    if context.over_quota:
        return Refusal(552, "5.2.2", "Mailbox is full", "over-quota")
    return None


# --- the message


def hops(context: PolicyContext) -> Refusal | None:
    """RFC 5321 §6.3: too many Received fields mean a loop."""
    if context.hops > context.settings.server.max_hops:
        return Refusal(554, "5.4.6", "Too many hops: this message is in a loop", "too-many-hops")
    return None


def visible_sender(context: PolicyContext) -> Refusal | None:
    """R-003-04 for what people see: From and Sender, not the envelope alone."""
    return Refusal(553, "5.7.1", context.foreign_sender, "from-mismatch") if context.foreign_sender else None


CONNECTION: tuple[Rule, ...] = (connections_per_client, rate_per_client)
MAIL: tuple[Rule, ...] = (hello_first, authentication, bulk, sender_belongs_to_login, size)
SCREENING: tuple[Rule, ...] = (client_named, helo_fqdn, helo_known, sender_fqdn, sender_known)
RECIPIENT: tuple[Rule, ...] = (recipients, relay, submission, suppressed, listed, *SCREENING, recipient)
QUOTA: tuple[Rule, ...] = (quota,)
MESSAGE: tuple[Rule, ...] = (size, hops, visible_sender)
