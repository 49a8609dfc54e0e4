"""Decides what one domain adds to the directory: its objects one by one, the older first."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from mail_operator.compiler import budgets
from mail_operator.compiler.domain_plan import DomainPlan, Member, services_of
from mail_operator.compiler.domain_records import DomainRecords
from mail_operator.compiler.faults import fault_of
from mail_operator.compiler.logins import derive, logins
from mail_operator.compiler.plan import GeneratedSecret
from mail_operator.compiler.renames import Renames
from mail_operator.compiler.snapshot import Snapshot
from mail_operator.compiler.status import condition, ready, status
from mail_operator.compiler.topology import DomainState, age_key
from mail_operator.kinds.mailalias import MailAlias, Target
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.mailinglist import MailingList
from mail_operator.kinds.meta import ObjectRef
from mail_operator.kinds.values import quantity_bytes
from mail_operator.policies import alias as alias_rules
from mail_operator.policies import mailbox as mailbox_rules
from mail_operator.policies import secret as secret_rules
from mail_operator.policies.alias import AliasFacts
from mail_operator.policies.budget import directory_full
from mail_operator.policies.mailbox import MailboxFacts
from mail_operator.policies.verdict import Verdict, first
from mailpods.directory.records import (
    Account,
    AccountId,
    Address,
    AddressEntry,
    Credential,
)

T = TypeVar("T")


def build_domain_plan(
    domain_ref: ObjectRef,
    state: DomainState | None,
    members: Collection[Member],
    generated: Mapping[ObjectRef, str],
    placed: Mapping[ObjectRef, int],
    full: Collection[ObjectRef],
    snapshot: Snapshot,
    renames: Renames,
    old: DomainPlan | None = None,
) -> DomainPlan:
    """Decide about a domain's objects, the older first.

    `generated`: the logins made for its mailboxes; `placed`: the shards chosen for them; `full`: those of
    its objects, perhaps itself, for which the directory has no room; `old`: what was made of a domain of this
    name and number before, for objects of which nothing can be made now.
    """
    plan = _Builder(domain_ref, state, generated, placed, snapshot, renames, old).build(members)
    if state is None or state.refusal:
        return plan
    budgets.weigh(plan, domain_ref, state, members, old)
    if domain_ref in full:
        refused = replace(state, refusal=directory_full(state.server_ref, domain_ref.namespace))
        out = _Builder(domain_ref, refused, generated, placed, snapshot, renames, old).build(members)
        return replace(out, weights=plan.weights, sizes=plan.sizes)
    budgets.drop(plan, state, [member for member in members if member.ref in full])
    return plan


class _Builder(DomainRecords):
    def __init__(
        self,
        domain_ref: ObjectRef,
        state: DomainState | None,
        generated: Mapping[ObjectRef, str],
        placed: Mapping[ObjectRef, int],
        snapshot: Snapshot,
        renames: Renames,
        old: DomainPlan | None,
    ) -> None:
        super().__init__(state, snapshot)
        self.old = old
        self.domain_ref = domain_ref
        self.served = state is not None and state.refusal is None
        self.generated, self.placed = generated, placed
        self.renames = renames
        self.mailboxes: dict[str, ObjectRef] = {}  # local part -> who has its account
        self.names: dict[str, ObjectRef] = {}  # name of a Mailbox that has an account
        self.covered: dict[str, ObjectRef] = {}  # local part -> the alias that beats its mailbox
        self.others: dict[str, ObjectRef] = {}  # local part -> alias or list
        self.alias_count: dict[str, int] = {}  # address -> aliases that lead to it
        self.crowded: dict[ObjectRef, str] = {}  # mailboxes that no former address can lead to -> address

    def build(self, members: Iterable[Member]) -> DomainPlan:
        ordered = sorted(members, key=lambda member: age_key(member, self.snapshot))
        alias_wins = self.state is not None and self.state.domain.spec.address_conflict == "AliasWins"
        if alias_wins:
            # The names of all mailboxes must be known before the aliases that cover them.
            ordered.sort(key=lambda member: not isinstance(member, Mailbox))
        holders = self._holders(ordered) if not alias_wins else {}
        mailboxes = [m for m in ordered if isinstance(m, Mailbox)]
        admitted = [m for m in mailboxes if self._contained(m, partial(self._admit_mailbox, m, holders))]
        for mailbox, local_part, target in self.renames.aliases(self.domain_ref) if self.served else ():
            self._former_alias(mailbox, local_part, target, holders)
        for member in ordered:
            if not isinstance(member, Mailbox):
                self._contained(member, partial(self._other, member, holders))
        for mailbox in admitted:
            self._contained(mailbox, partial(self._serve_mailbox, mailbox))
        if self.state is not None:
            self._domain(self.state, len(self.mailboxes))
        return self.out

    def _contained(self, member: Member, step: Callable[[], T]) -> T | None:
        """A step for one member; where it raises, what was made of the member before stays."""
        try:
            return step()
        except Exception as error:
            self.out.faults.append(fault_of(member.ref, error))
            local_part, number = member.local_part, self.state.number if self.state else 0
            address, account = Address(self._address(local_part)), AccountId(f"{number}/{local_part}")
            self.out.drop(member.ref, address, account)
            held = self.mailboxes if isinstance(member, Mailbox) else self.others
            free = held.get(local_part, member.ref) == member.ref
            if self.old and free and self.out.keep(member.ref, self.old, address, account):
                held[local_part] = member.ref
                if isinstance(member, Mailbox):
                    self.names[member.metadata.name] = member.ref
            return None

    def _holders(self, ordered: list[Member]) -> dict[str, ObjectRef]:
        """Local part -> the oldest object that asks for it, of whatever kind."""
        asked = [(member, member.local_part) for member in ordered]
        if former := [(mailbox, part) for mailbox, part, _ in self.renames.aliases(self.domain_ref)]:
            asked = sorted((*asked, *former), key=lambda each: age_key(each[0], self.snapshot))
        holders: dict[str, ObjectRef] = {}
        for member, local_part in asked:
            holders.setdefault(local_part, member.ref)
        return holders

    def _holder(
        self, member: Member, same_kind: Mapping[str, ObjectRef], holders: Mapping[str, ObjectRef]
    ) -> ObjectRef | None:
        holder = same_kind.get(member.local_part) or holders.get(member.local_part)
        return None if holder == member.ref else holder

    def _admit_mailbox(self, mailbox: Mailbox, holders: Mapping[str, ObjectRef]) -> bool:
        spec = self.state.domain.spec if self.state else None
        server = self.state.server if self.state else None
        shards, spec_shard = server.spec.store.shards if server else 0, mailbox.spec.shard
        former = self.renames.of(mailbox)
        facts = MailboxFacts(
            mailbox=mailbox,
            domain_ref=self.domain_ref,
            domain_exists=self.state is not None,
            domain_served=self.served,
            address=self._address(mailbox.local_part),
            holder=self._holder(mailbox, self.mailboxes, holders),
            mailboxes_before=len(self.mailboxes),
            mailbox_limit=spec.limits.mailboxes if spec else None,
            shards=shards,
            former=former.address if former else None,
            former_holder=former.mailbox if former else None,
            placed=not former or spec_shard is not None or shards < 2 or mailbox.ref in self.placed,
        )
        refusal = first(mailbox_rules.REFUSALS, facts)
        if refusal:
            self.out.statuses[mailbox.ref] = status(mailbox, ready(refusal, ""), {})
            return False
        self.mailboxes[mailbox.local_part] = mailbox.ref
        self.names[mailbox.metadata.name] = mailbox.ref
        return True

    def _former_alias(
        self, mailbox: Mailbox, local_part: str, target: Address, holders: Mapping[str, ObjectRef]
    ) -> None:
        """The former address leads to the mailbox, unless somebody else has it."""
        assert self.state is not None
        own = mailbox.domain == self.domain_ref
        holder = self.others.get(local_part) or holders.get(local_part) or mailbox.ref
        if holder != mailbox.ref or (own and self.mailboxes.get(mailbox.local_part) != mailbox.ref):
            return
        count = self.alias_count.get(target, 0)
        if own and count >= self.state.domain.spec.limits.aliases_per_address:
            self.crowded[mailbox.ref] = target
            return
        self.alias_count[target] = count + 1
        self.others[local_part] = mailbox.ref
        if local_part in self.mailboxes:
            self.covered[local_part] = mailbox.ref
        address = Address(self._address(local_part))
        entry = AddressEntry(f"Mailbox {mailbox.metadata.namespace}/{mailbox.metadata.name}", None, (target,))
        self.out.records(address).addresses[address] = self.out.addresses[address] = entry

    def _serve_mailbox(self, mailbox: Mailbox) -> None:
        assert self.state is not None
        spec, address = mailbox.spec, Address(self._address(mailbox.local_part))
        account = AccountId(f"{self.state.number}/{mailbox.local_part}")
        quota = quantity_bytes(spec.quota) if spec.quota else None
        hashed, fault = self._password(mailbox)
        login = self.generated.get(mailbox.ref)
        if login and login != derive(address) and spec.login_name is None:
            self.out.allocations[mailbox.ref] = {"loginName": login}
        shard = spec.shard or 0
        if spec.shard is None and mailbox.ref in self.placed:
            shard = self.placed[mailbox.ref]
            self.out.allocations[mailbox.ref] = {
                **self.out.allocations.get(mailbox.ref, {}),
                "shard": shard,
            }
        if login is None and "generated" in self.state.forms:
            fault = fault or Verdict(
                "LoginNameTaken",
                f"Login {spec.login_name} belongs to another mailbox, which is older: remove spec.loginName.",
            )
        former = self.renames.of(mailbox)
        former_address = former.address if former else None
        accepted = logins(self.state, mailbox.local_part, login)
        records = self.out.records(address)
        given = spec.services
        services = services_of(imap=given.imap, pop3=given.pop3, sieve=given.sieve, smtp=given.smtp)
        records.credentials[account] = Credential(
            logins=accepted,
            hash=hashed,
            services=services,
            shard=shard,
            quota=quota,
            address=address,
            former=former_address,
        )
        smarthost, smarthost_fault = self._smarthost_login(mailbox, address)
        records.accounts[account] = Account(address, shard, quota, smarthost)
        fault = fault or smarthost_fault or (former.fault(self.crowded.get(mailbox.ref)) if former else None)
        conditions = ready(fault, "Takes mail, and its login works.")  # the same text for ten thousand
        if covering := self.covered.get(mailbox.local_part):
            message = f"{covering} has the address {address} and takes its mail (addressConflict AliasWins)."
            conditions.append(condition("Shadowed", True, "AliasWins", message))
        else:
            entry = AddressEntry(f"Mailbox {mailbox.metadata.namespace}/{mailbox.metadata.name}", account)
            records.addresses[address] = self.out.addresses[address] = entry
        shown = {
            "address": address,
            "login": accepted[0] if accepted else None,
            "loginName": login,
            "server": self.state.server.spec.hostname if self.state.server else None,
            "account": account,
        }
        self.out.statuses[mailbox.ref] = status(mailbox, conditions, shown)
        self._depend(mailbox.ref, address, *filter(None, [former_address]), shards=frozenset({shard}))

    def _smarthost_login(
        self, mailbox: Mailbox, address: str
    ) -> tuple[tuple[str, str] | None, Verdict | None]:
        """Its own login at the smarthost, if it has one (R-004-10, R-004-11)."""
        given = mailbox.spec.smarthost_auth
        if given is None:
            return None, None
        name = (mailbox.metadata.namespace, given.password_secret_ref.name)
        self.out.secrets_read.add(name)
        facts = self.snapshot.secret_facts(name, ("password",))
        if fault := secret_rules.unusable(facts):
            return None, fault
        assert facts.found is not None
        password = facts.found["password"].decode("utf-8", "replace").strip()
        return (given.username or address, password), None

    def _password(self, mailbox: Mailbox) -> tuple[str | None, Verdict | None]:
        if mailbox.spec.password_hash:
            return mailbox.spec.password_hash, None
        name, key = mailbox.password_secret(), self._address(mailbox.local_part)
        if name is None:
            name = f"{mailbox.metadata.name}-password"
            wanted = GeneratedSecret("password", mailbox.metadata.namespace, name, mailbox.ref)
            self.out.secrets.append(wanted)
            return self._look_up((mailbox.metadata.namespace, name), key, generated=True)
        return self._look_up((mailbox.metadata.namespace, name), key, generated=False)

    def _other(self, member: MailAlias | MailingList, holders: Mapping[str, ObjectRef]) -> None:
        address = Address(self._address(member.local_part))
        targets = self._targets(member) if isinstance(member, MailAlias) else []
        found = [target for _, target in targets if target]
        limits = self.state.domain.spec.limits if self.state else None
        own = self.state.names if self.state else ()
        outside = [target for target in found if target.rpartition("@")[2] not in own]
        limit = limits.aliases_per_address if limits else 0
        facts = AliasFacts(
            domain_ref=self.domain_ref,
            domain_exists=self.state is not None,
            domain_served=self.served,
            address=address,
            holder=self._holder(member, self.others, holders),
            missing=tuple(name for name, target in targets if target is None),
            remaining=len(found) if isinstance(member, MailAlias) else 1,
            forwarders=len(set(outside)),
            forwarder_limit=limits.forwarders_per_address if limits else 0,
            crowded=next(
                (t for t in found if t not in outside and self.alias_count.get(t, 0) >= limit), None
            ),
            alias_limit=limit,
        )
        refusal = first(alias_rules.REFUSALS, facts)
        if refusal:
            self.out.statuses[member.ref] = status(member, ready(refusal, ""), {})
            return
        self.others[member.local_part] = member.ref
        if member.local_part in self.mailboxes:
            self.covered[member.local_part] = member.ref
        for target in set(found) - set(outside):
            self.alias_count[target] = self.alias_count.get(target, 0) + 1
        source = f"{member.kind} {member.metadata.namespace}/{member.metadata.name}"
        # A list holds its address, so that no catch-all takes the posts: they are refused until it works.
        entry = AddressEntry(source, targets=tuple(dict.fromkeys(Address(target) for target in found)))
        self.out.records(address).addresses[address] = self.out.addresses[address] = entry
        self._depend(member.ref, address)
        if isinstance(member, MailAlias):
            self.out.aliases[member.ref] = (member, address, first(alias_rules.FAULTS, facts))
        else:
            verdict = Verdict(
                "NotYet", "Mailing lists have no effect in this version; the address is reserved."
            )
            self.out.statuses[member.ref] = status(member, ready(verdict, ""), {"address": address})

    def _targets(self, alias: MailAlias) -> list[tuple[str, str | None]]:
        """(what is named, its address); None where a mailbox does not exist."""
        return [self._target(target) for target in alias.spec.targets]

    def _target(self, target: Target) -> tuple[str, str | None]:
        if target.mailbox_ref is None:
            assert target.address is not None  # load() refuses a target that is neither
            return target.address, self._own_name(target.address)
        name = target.mailbox_ref.name
        if name not in self.names:
            return name, None
        mailbox = self.snapshot.objects[self.names[name]]
        assert isinstance(mailbox, Mailbox)
        return name, self._address(mailbox.local_part)

    def _own_name(self, address: str) -> str:
        """The address under the domain's own name, if it is one of those that share its users."""
        local, _, name = address.lower().rpartition("@")
        return self._address(local) if self.state and name in self.state.names else f"{local}@{name}"
