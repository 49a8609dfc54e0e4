"""Does this Mailbox get its account, and may its user log in?"""

from collections.abc import Callable
from dataclasses import dataclass

from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict

MAX_ADDRESS = 254  # octets, RFC 5321 §4.5.3.1.3 less the angle brackets


@dataclass(frozen=True, slots=True)
class MailboxFacts:
    """A mailbox, the state of its domain, and what older objects hold."""

    mailbox: Mailbox
    domain_ref: ObjectRef
    domain_exists: bool
    domain_served: bool
    address: str
    holder: ObjectRef | None  # who has the address
    mailboxes_before: int
    mailbox_limit: int | None
    shards: int


def domain_missing(facts: MailboxFacts) -> Verdict | None:
    """The domain must exist (R-000-25)."""
    return missing_domain(facts.domain_ref, facts.domain_exists)


def domain_not_served(facts: MailboxFacts) -> Verdict | None:
    """A domain that is refused has no mailboxes."""
    return unserved_domain(facts.domain_ref, facts.domain_served)


def missing_domain(ref: ObjectRef, exists: bool) -> Verdict | None:
    """What every object of a domain says when there is none."""
    if exists:
        return None
    return Verdict(
        "DomainMissing", f"{ref} does not exist: create it, or correct spec.domainRef.", waits=True
    )


def unserved_domain(ref: ObjectRef, served: bool) -> Verdict | None:
    """What every object of a domain says when that is not served."""
    if served:
        return None
    return Verdict("DomainNotServed", f"{ref} is not served: see its conditions for the reason.", waits=True)


def address_too_long(facts: MailboxFacts) -> Verdict | None:
    """An address must fit into an SMTP path."""
    return long_address(facts.address)


def long_address(address: str) -> Verdict | None:
    """What every object with too long an address says."""
    if len(address) <= MAX_ADDRESS:
        return None
    return Verdict(
        "AddressTooLong",
        f"{address} is {len(address)} characters long: at most {MAX_ADDRESS} are allowed.",
    )


def address_taken(facts: MailboxFacts) -> Verdict | None:
    """An address belongs to one object: the older wins (R-001-16)."""
    return taken_address(facts.address, facts.holder)


def taken_address(address: str, holder: ObjectRef | None) -> Verdict | None:
    """What the younger of two objects with one address says."""
    if holder is None:
        return None
    return Verdict(
        "AddressTaken",
        f"{address} belongs to {holder}, which is older: remove one of them, or choose another localPart.",
        waits=True,
    )


def mailbox_limit(facts: MailboxFacts) -> Verdict | None:
    """The domain may bound the number of its mailboxes."""
    if facts.mailbox_limit is None or facts.mailboxes_before < facts.mailbox_limit:
        return None
    return Verdict(
        "MailboxLimit",
        f"{facts.domain_ref} takes at most {facts.mailbox_limit} mailboxes (spec.limits.mailboxes): "
        "remove one, or have the limit raised.",
        waits=True,
    )


def shard_missing(facts: MailboxFacts) -> Verdict | None:
    """The store pod must exist."""
    shard = facts.mailbox.spec.shard
    if shard is None or shard < facts.shards:
        return None
    return Verdict(
        "ShardMissing",
        f"Shard {shard} does not exist, the server has {facts.shards} (spec.store.shards, counted from 0): "
        "correct spec.shard.",
    )


Rule = Callable[[MailboxFacts], Verdict | None]

# A mailbox that breaks one of these has no account.
REFUSALS: list[Rule] = [
    domain_missing,
    domain_not_served,
    address_too_long,
    address_taken,
    mailbox_limit,
    shard_missing,
]
