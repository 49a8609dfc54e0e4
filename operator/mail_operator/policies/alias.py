"""May this MailAlias (or MailingList) have its address, and does it lead anywhere?"""

from collections.abc import Callable
from dataclasses import dataclass

from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.mailbox import long_address, missing_domain, taken_address, unserved_domain
from mail_operator.policies.verdict import Verdict


@dataclass(frozen=True, slots=True)
class AliasFacts:
    """An alias or list, the state of its domain, and what older objects hold."""

    domain_ref: ObjectRef
    domain_exists: bool
    domain_served: bool
    address: str
    holder: ObjectRef | None  # who has the address
    missing: tuple[str, ...]  # names of mailboxes that do not exist
    remaining: int  # targets that are left without those
    forwarders: int  # targets outside the domain
    forwarder_limit: int
    crowded: str | None  # a target that has as many aliases as it may
    alias_limit: int


def domain_missing(facts: AliasFacts) -> Verdict | None:
    """The domain must exist."""
    return missing_domain(facts.domain_ref, facts.domain_exists)


def domain_not_served(facts: AliasFacts) -> Verdict | None:
    """A domain that is refused has no addresses."""
    return unserved_domain(facts.domain_ref, facts.domain_served)


def address_too_long(facts: AliasFacts) -> Verdict | None:
    """An address must fit into an SMTP path."""
    return long_address(facts.address)


def address_taken(facts: AliasFacts) -> Verdict | None:
    """An address belongs to one object: the older wins (R-001-16)."""
    return taken_address(facts.address, facts.holder)


def forwarder_limit(facts: AliasFacts) -> Verdict | None:
    """An address leads to so many others outside its domain (R-001-17)."""
    if facts.forwarders <= facts.forwarder_limit:
        return None
    return Verdict(
        "ForwarderLimit",
        f"{facts.address} leads to {facts.forwarders} addresses outside its domain, at most "
        f"{facts.forwarder_limit} are allowed (MailDomain spec.limits.forwardersPerAddress): remove some.",
    )


def alias_limit(facts: AliasFacts) -> Verdict | None:
    """So many aliases lead to one address (R-001-18)."""
    if facts.crowded is None:
        return None
    return Verdict(
        "AliasLimit",
        f"{facts.crowded} has {facts.alias_limit} aliases already, the most that are allowed "
        "(MailDomain spec.limits.aliasesPerAddress): remove one.",
        waits=True,
    )


def all_targets_missing(facts: AliasFacts) -> Verdict | None:
    """An alias whose mailboxes are all missing has no address."""
    return mailbox_missing(facts) if not facts.remaining else None


def mailbox_missing(facts: AliasFacts) -> Verdict | None:
    """A mailbox that does not exist is left out."""
    if not facts.missing:
        return None
    return Verdict(
        "MailboxMissing",
        f"Mailbox {facts.missing[0]} does not exist in domain {facts.domain_ref.name}: create it, or remove "
        "it from spec.targets" + ("; the other targets work." if facts.remaining else "."),
        waits=True,
    )


Rule = Callable[[AliasFacts], Verdict | None]

# An alias that breaks one of these has no address.
REFUSALS: list[Rule] = [
    domain_missing,
    domain_not_served,
    address_too_long,
    address_taken,
    forwarder_limit,
    alias_limit,
    all_targets_missing,
]

# An alias that breaks one of these works in part.
FAULTS: list[Rule] = [mailbox_missing]


@dataclass(frozen=True, slots=True)
class ReachFacts:
    """Where an address leads in the end. Paths are addresses, the first one included."""

    address: str
    destinations: int  # accounts here and addresses elsewhere
    cycle: tuple[str, ...] = ()  # a path that comes back to where it began
    too_far: bool = False  # the expansion was cut
    unknown: tuple[str, ...] = ()  # addresses of domains here that nobody has


def leads_back(facts: ReachFacts) -> Verdict | None:
    """An alias must not lead to itself; routing cuts the loop, its other targets work."""
    if not facts.cycle:
        return None
    path = " → ".join(facts.cycle)
    rest = "; the other targets work." if facts.destinations else "."
    return Verdict("AliasCycle", f"Leads back to itself ({path}): remove one of these targets{rest}")


def leads_too_far(facts: ReachFacts) -> Verdict | None:
    """Expansion is bounded, as in routing."""
    if not facts.too_far:
        return None
    return Verdict(
        "AliasTooFar",
        f"{facts.address} leads over more than 20 aliases in a row or to more than 1,000 addresses: "
        "use fewer steps, or a MailingList.",
    )


def leads_nowhere(facts: ReachFacts) -> Verdict | None:
    """An alias must reach at least one mailbox or foreign address."""
    if facts.destinations:
        return None
    where = f": {facts.unknown[0]} does not exist" if facts.unknown else ""
    return Verdict(
        "LeadsNowhere", f"{facts.address} reaches no mailbox{where}; correct spec.targets.", waits=True
    )


# An alias that breaks one of these is in the directory, for routing is safe from loops, but not Ready.
REACH: list[Callable[[ReachFacts], Verdict | None]] = [leads_back, leads_too_far, leads_nowhere]
