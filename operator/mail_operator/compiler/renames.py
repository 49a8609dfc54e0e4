"""Mailboxes that had another address before: who holds it now, and which of them still answer to it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mail_operator.compiler.domain_plan import Member
from mail_operator.compiler.snapshot import Snapshot
from mail_operator.compiler.topology import DomainState, age_key
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies import mailbox as mailbox_rules
from mail_operator.policies.mailbox import FormerFacts
from mail_operator.policies.verdict import Verdict, first
from mailpods.directory.records import Address


@dataclass(frozen=True, slots=True)
class Former:
    """The address that a mailbox had. `domain_served`: by the mailbox's own server; else there is no address.

    `mailbox`: an older one that holds it; `other`: an older alias or list.
    """

    domain_ref: ObjectRef
    domain_exists: bool
    domain_served: bool
    local_part: str
    address: Address | None
    mailbox: ObjectRef | None
    other: ObjectRef | None
    keep_as_alias: bool

    def fault(self, crowded: str | None) -> Verdict | None:
        """What is wrong with it; `crowded`: the mailbox's own address, if that has no room for an alias."""
        facts = FormerFacts(
            self.domain_ref,
            self.domain_exists,
            self.domain_served,
            self.address,
            self.keep_as_alias,
            self.other,
            crowded,
        )
        return first(mailbox_rules.FORMER_FAULTS, facts)


class Renames:
    """What is known of the former addresses in all domains; `renamed`: the mailboxes that name one."""

    def __init__(
        self,
        renamed: Mapping[ObjectRef, Mailbox],
        domains: Mapping[ObjectRef, DomainState],
        members: Mapping[ObjectRef, Mapping[ObjectRef, Member]],
        snapshot: Snapshot,
    ) -> None:
        self._domains, self._members, self._snapshot = domains, members, snapshot
        self._renamed: dict[tuple[ObjectRef, str], list[Member]] = defaultdict(list)
        self._by_domain: dict[ObjectRef, list[Mailbox]] = defaultdict(list)
        for mailbox in sorted(renamed.values(), key=lambda each: age_key(each, snapshot)):
            if place := mailbox.former:
                self._renamed[place].append(mailbox)
                self._by_domain[place[0]].append(mailbox)
        self._there: dict[ObjectRef, Mapping[str, list[Member]]] = {}

    def of(self, mailbox: Mailbox) -> Former | None:
        """What is known of the former address of a mailbox; None where it names none but its own."""
        given = mailbox.spec.former_address
        if given is None or mailbox.former is None:
            return None
        domain_ref, local_part = mailbox.former
        state, own = self._domains.get(domain_ref), self._domains.get(mailbox.domain or domain_ref)
        served = bool(state and own and not state.refusal and state.server_ref == own.server_ref)
        age = age_key(mailbox, self._snapshot)
        older = sorted(
            (key, each)
            for each in (*self._holders(domain_ref).get(local_part, ()), *self._renamed[mailbox.former])
            if (key := age_key(each, self._snapshot)) < age
        )
        refs = [each.ref for _, each in older]
        return Former(
            domain_ref,
            state is not None,
            served,
            local_part,
            Address(f"{local_part}@{state.name}") if served and state else None,
            next((ref for ref in refs if ref.kind == "Mailbox"), None),
            next((ref for ref in refs if ref.kind != "Mailbox"), None),
            given.keep_as_alias,
        )

    def aliases(self, domain: ObjectRef) -> Iterator[tuple[Mailbox, str, Address]]:
        """The former addresses in a domain that lead on: whose, local part, target; the older first."""
        for mailbox in self._by_domain.get(domain, ()):
            former, own = self.of(mailbox), self._domains.get(mailbox.domain or domain)
            if not (own and former and former.keep_as_alias):
                continue
            if former.domain_served and former.mailbox is None:
                yield mailbox, former.local_part, Address(f"{mailbox.local_part}@{own.name}")

    def _holders(self, domain: ObjectRef) -> Mapping[str, list[Member]]:
        """Local part -> the objects of a domain that ask for it."""
        if domain not in self._there:
            found: dict[str, list[Member]] = defaultdict(list)
            for member in self._members.get(domain, {}).values():
                found[member.local_part].append(member)
            self._there[domain] = found
        return self._there[domain]
