"""What a removal means: whose mail goes with its domain, and what is taken for an accident and waits.

A domain that somebody deletes by name is meant. Very many at once, or with their namespace or their kind, are
an accident: those are wiped only when each says by an annotation that it is meant.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mail_operator.compiler.server import CONFIRM_REMOVAL
from mail_operator.compiler.status import condition, ready
from mail_operator.compiler.topology import server_of
from mail_operator.engine.runtime import FINALIZER, Observation, ObservedResource, Status
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict

# More domains of a server at once than either are taken for an accident.
GUARD_COUNT, GUARD_SHARE = 10, 0.2
CONFIRMED = (CONFIRM_REMOVAL, "mail")  # annotation of a MailDomain whose end is meant


@dataclass(frozen=True)
class Removals:
    """The domains that are being deleted and whose mail is to go with them."""

    wiped: Mapping[ObjectRef, frozenset[int]] = field(default_factory=dict)  # MailServer -> numbers
    held: Mapping[ObjectRef, str] = field(default_factory=dict)  # MailDomain -> why it waits


def number_of(observed: ObservedResource) -> int | None:
    """The domain's number as the status has it, which the operator alone writes.

    One that was refused has none, whatever its spec says: it must not have another's mail wiped.
    """
    number = json.loads(observed.status).get("number")
    return number if isinstance(number, int) else None


def removals(observation: Observation) -> Removals:
    """Decide about all domains that are being deleted."""
    ending: dict[ObjectRef, list[tuple[ObjectRef, int, ObservedResource]]] = {}
    alive: Counter[ObjectRef] = Counter()
    for ref, observed in observation.resources.items():
        domain = observed.resource
        if not isinstance(domain, MailDomain):
            continue
        if not observed.deleting:
            alive[server_of(domain)] += 1
        elif (
            observed.held
            and domain.spec.deletion_policy == "Delete"
            and (number := number_of(observed)) is not None  # read from the status: not of all that stay
            and ref not in observation.unclear
        ):
            ending.setdefault(server_of(domain), []).append((ref, number, observed))
    wiped: dict[ObjectRef, frozenset[int]] = {}
    held: dict[ObjectRef, str] = {}
    for server, domains in ending.items():
        total = alive[server] + len(domains)
        many = len(domains) > max(GUARD_COUNT, int(total * GUARD_SHARE))
        meant: set[int] = set()
        for ref, number, observed in domains:
            if observed.has_annotation(*CONFIRMED):
                meant.add(number)
            elif sweep := observation.swept.get(ref):
                held[ref] = f"it is being deleted with {sweep}"
            elif many or _was_held(observed):
                held[ref] = f"{len(domains)} of {total} domains of {server} are being deleted at once"
            else:
                meant.add(number)
        if meant:
            wiped[server] = frozenset(meant)
    return Removals(wiped, held)


def _was_held(observed: ObservedResource) -> bool:
    """Whether it waits already: that others of its number are gone by now does not make it meant."""
    conditions = json.loads(observed.status).get("conditions", ())
    return any(each["reason"] == "DeletionHeld" for each in conditions if each["type"] == "Ready")


def deleting_status(observed: ObservedResource, held: str | None, progress: str) -> Status:
    """The status of a domain that is being deleted: what it waits for, how far it is, and what ends that."""
    if held is None:
        verdict = Verdict("Deleting", f"It is being deleted with all its mail: {progress}.", waits=True)
    else:
        verdict = Verdict(
            "DeletionHeld",
            f"Its deletion waits, for {held}, as by accident, and its mail would go with it. To delete both, "
            f"annotate it {CONFIRMED[0]}={CONFIRMED[1]}; to keep the mail parked, set spec.deletionPolicy to "
            f"Retain, or remove its finalizer {FINALIZER}.",
            waits=True,
        )
    before: dict[str, Any] = json.loads(observed.status)
    generation = observed.made_of[1]
    said = [*ready(verdict, ""), condition("Accepting", False, "Deleting", "Takes no mail.")]
    conditions = [{**each, "observedGeneration": generation} for each in said]
    return {**before, "observedGeneration": generation, "conditions": conditions}


def of_member(domain: ObjectRef, held: bool) -> Verdict:
    """What an account, alias or list of such a domain says."""
    if held:
        remedy = "its mail is parked until that is over; its Ready condition says what ends it"
        return Verdict("DomainDeleting", f"The deletion of {domain} waits: {remedy}.", waits=True)
    return Verdict("DomainDeleting", f"{domain} is being deleted, and this with it.", waits=True)
