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
    former: str | None = None  # the address it had; None where there is none that can be told
    former_holder: ObjectRef | None = None  # an older Mailbox that has that
    placed: bool = True  # it is known which store pod has its mail


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


def former_address_held(facts: MailboxFacts) -> Verdict | None:
    """Nobody's mailbox is taken over while he has it."""
    if facts.former_holder is None:
        return None
    return Verdict(
        "FormerAddressHeld",
        f"{facts.former or 'The former address'} still belongs to {facts.former_holder}, which is older: "
        "remove that one, or spec.formerAddress here if its mail is not to move.",
        waits=True,
    )


def former_shard_unnamed(facts: MailboxFacts) -> Verdict | None:
    """A mailbox moves within its store pod: who has the mail cannot be guessed."""
    if facts.placed:
        return None
    return Verdict(
        "FormerShardUnnamed",
        f"It is not known which of {facts.shards} store pods has the mail of "
        f"{facts.former or 'the former address'}: write the spec.shard of its former Mailbox into this one.",
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
    former_address_held,
    former_shard_unnamed,
]


@dataclass(frozen=True, slots=True)
class FormerFacts:
    """The former address of a mailbox that has its account."""

    domain_ref: ObjectRef
    domain_exists: bool
    domain_served: bool  # by the same server
    address: str | None
    keep_as_alias: bool
    holder: ObjectRef | None  # an older alias or list that has it
    crowded: str | None  # its own address, if that has as many aliases as it may


def former_domain_missing(facts: FormerFacts) -> Verdict | None:
    """Where the domain of the former address is gone, nothing moves."""
    if facts.domain_exists:
        return None
    return Verdict(
        "DomainMissing",
        f"{facts.domain_ref}, which spec.formerAddress names, does not exist: correct or remove that; the "
        "account works.",
        waits=True,
    )


def former_domain_not_served(facts: FormerFacts) -> Verdict | None:
    """Mail moves within one server."""
    if facts.domain_served:
        return None
    return Verdict(
        "DomainNotServed",
        f"{facts.domain_ref}, which spec.formerAddress names, is not served by the same MailServer: correct "
        "or remove that; the account works.",
        waits=True,
    )


def former_address_taken(facts: FormerFacts) -> Verdict | None:
    """The former address leads on unless somebody older has it."""
    if facts.holder is None or not facts.keep_as_alias:
        return None
    return Verdict(
        "AddressTaken",
        f"{facts.address} belongs to {facts.holder}, which is older: remove that one, or set "
        "spec.formerAddress.keepAsAlias to false; the account works.",
        waits=True,
    )


def former_alias_limit(facts: FormerFacts) -> Verdict | None:
    """The former address is one of so many aliases."""
    if facts.crowded is None:
        return None
    return Verdict(
        "AliasLimit",
        f"{facts.crowded} has as many aliases as are allowed (MailDomain spec.limits.aliasesPerAddress): "
        "remove one, or set spec.formerAddress.keepAsAlias to false; the account works.",
        waits=True,
    )


# A mailbox that breaks one of these has its account, and not all of what it had.
FORMER_FAULTS: list[Callable[[FormerFacts], Verdict | None]] = [
    former_domain_missing,
    former_domain_not_served,
    former_address_taken,
    former_alias_limit,
]
