"""compile(): decides about every object, domain by domain, and keeps what needs no new decision."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from mail_operator.compiler import budgets, ownership
from mail_operator.compiler.buckets import merge
from mail_operator.compiler.containment import assemble, outcome, statuses
from mail_operator.compiler.domain_builder import build_domain_plan
from mail_operator.compiler.domain_plan import DomainPlan, Member, domain_of
from mail_operator.compiler.faults import internal_error
from mail_operator.compiler.logins import claims, unique
from mail_operator.compiler.memory import Memory
from mail_operator.compiler.placement import place
from mail_operator.compiler.plan import GeneratedSecret, Plan, Status
from mail_operator.compiler.reach import Reach, reach
from mail_operator.compiler.renames import Renames
from mail_operator.compiler.server import build_server, orphaned
from mail_operator.compiler.snapshot import SecretName, Snapshot
from mail_operator.compiler.status import ready, status
from mail_operator.compiler.topology import build_topology
from mail_operator.kinds import Resource
from mail_operator.kinds.mailalias import MailAlias
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies import alias as alias_rules
from mail_operator.policies.verdict import Verdict, first
from mailpods.directory.records import AddressEntry, Domain


def compile(snapshot: Snapshot, previous: Plan | None = None) -> Plan:
    """The installation that the snapshot describes. `previous` only makes it faster, never different."""
    memory = previous.memory if previous else None
    return _Run(snapshot, memory if isinstance(memory, Memory) else Memory()).plan()


class _Run:
    def __init__(self, snapshot: Snapshot, old: Memory) -> None:
        self.snapshot = snapshot
        self.old = old
        before, now = old.snapshot.objects, snapshot.objects
        self.changed = {ref: r for ref, r in now.items() if before.get(ref) is not r}
        self.gone = before.keys() - now.keys()
        touched = self.changed.keys() | self.gone
        answers, old_answers = snapshot.answers, old.snapshot.answers
        self.changed_answers = {
            question
            for question in answers.keys() | old_answers.keys()
            if answers is not old_answers and answers.get(question) != old_answers.get(question)
        }
        self.topology_changed = (
            any(not isinstance((now.get(ref) or before[ref]), Member) for ref in touched)
            or snapshot.namespaces != old.snapshot.namespaces
            or snapshot.secrets != old.snapshot.secrets
            or snapshot.image != old.snapshot.image
            or snapshot.now != old.snapshot.now
            or snapshot.components != old.snapshot.components
            or snapshot.wiped != old.snapshot.wiped
            or snapshot.addresses != old.snapshot.addresses
            or any(question.name.startswith(ownership.LABEL) for question in self.changed_answers)
            or bool(old.faults)  # what had a fault is tried again each time
        )
        self.new = Memory(
            snapshot=snapshot,
            members=dict(old.members),
            renamed=dict(old.renamed),
            claims=dict(old.claims),
            domain_plans=dict(old.domain_plans),
            parts=dict(old.parts),
            files=dict(old.files),
            manifests=dict(old.manifests),
            reaches=dict(old.reaches),
            statuses=dict(old.statuses),
            dependencies=dict(old.dependencies),
        )

    def plan(self) -> Plan:
        """The steps, each of which needs the one before."""
        new = self.new
        new.topology = (
            build_topology(self.snapshot, self._topology_objects(), self.old.topology)
            if self.topology_changed
            else self.old.topology
        )
        new.faults |= {fault.ref: fault for fault in new.topology.faults}
        dirty = self._regroup() | self._moved_domains() | self._new_passwords() | self._new_secrets()
        dirty |= self._new_answers() | self._had_faults()
        dirty |= self._logins(dirty)
        dirty |= place(self.old, new)
        dirty |= self._neighbours(dirty)
        new.full = self.old.full
        addresses = self._build_domain_plans(dirty)
        refilled = self._fill(dirty)
        addresses |= self._build_domain_plans(refilled)
        dirty |= refilled
        merge(self.old, new, dirty)
        self._follow_aliases(addresses)
        self._servers(dirty)
        return self._assemble()

    def _topology_objects(self) -> Iterable[Resource]:
        return (r for r in self.snapshot.objects.values() if not isinstance(r, Member))

    def _regroup(self) -> set[ObjectRef]:
        """Sort changed objects to their domains. Returns the domains that this touches."""
        members, dirty = self.new.members, set()
        before = self.old.snapshot.objects
        taken = {domain: dict(members[domain]) for domain in self._domains_of(before, members)}
        for ref in self.changed.keys() | self.gone:
            was, now = before.get(ref), self.changed.get(ref)
            self.new.renamed.pop(ref, None)
            if isinstance(now, Mailbox) and now.spec.former_address:
                self.new.renamed[ref] = now
            if isinstance(was, Member):
                taken[domain_of(was)].pop(ref)
                dirty.add(domain_of(was))
            if isinstance(now, Member):
                taken.setdefault(domain_of(now), dict(members.get(domain_of(now), {})))[ref] = now
                dirty.add(domain_of(now))
        members.update(taken)
        for domain in dirty:
            if not members[domain]:
                del members[domain]
        return dirty

    def _domains_of(
        self, before: Mapping[ObjectRef, Resource], members: Mapping[ObjectRef, object]
    ) -> set[ObjectRef]:
        touched = (before.get(ref) for ref in self.changed.keys() | self.gone)
        return {domain_of(was) for was in touched if isinstance(was, Member)} & members.keys()

    def _moved_domains(self) -> set[ObjectRef]:
        old, new = self.old.topology.domains, self.new.topology.domains
        if old is new:
            return set()
        return {ref for ref in old.keys() | new.keys() if old.get(ref) != new.get(ref)}

    def _new_passwords(self) -> set[ObjectRef]:
        old, new = self.old.snapshot.passwords, self.snapshot.passwords
        if old is new:
            return set()
        changed: set[SecretName] = {
            name for name in old.keys() | new.keys() if old.get(name) != new.get(name)
        }
        if not changed:
            return set()
        return self._readers(changed)

    def _new_secrets(self) -> set[ObjectRef]:
        """The domains with an account whose login at the smarthost changed."""
        old, new = self.old.snapshot.secrets, self.snapshot.secrets
        if old is new or old == new:
            return set()
        return self._readers({name for name in old.keys() | new.keys() if old.get(name) != new.get(name)})

    def _new_answers(self) -> set[ObjectRef]:
        """The domains of whose zones DNS says something else."""
        if not self.changed_answers:
            return set()
        plans = self.old.domain_plans.items()
        return {domain for domain, plan in plans if not self.changed_answers.isdisjoint(plan.questions)}

    def _had_faults(self) -> set[ObjectRef]:
        refs = {fault.ref for fault in self.old.faults.values()}
        members = (self.snapshot.objects.get(ref) for ref in refs)
        return {ref for ref in refs if ref.kind == "MailDomain"} | {
            domain_of(member) for member in members if isinstance(member, Member)
        }

    def _readers(self, changed: Collection[SecretName]) -> set[ObjectRef]:
        domain_plans = self.old.domain_plans.items()
        return {domain for domain, built in domain_plans if not built.secrets_read.isdisjoint(changed)}

    def _logins(self, dirty: set[ObjectRef]) -> set[ObjectRef]:
        """Give out generated logins. Returns the domains in which one changed."""
        new = self.new
        for domain in dirty:
            state = new.topology.domains.get(domain)
            new.claims.pop(domain, None)
            try:
                found = claims(state, new.members.get(domain, {}).values(), self.snapshot) if state else ()
            except Exception as error:
                new.fault(domain, error)
                found = self.old.claims.get(domain, ())
            if found:
                new.claims[domain] = found
        if new.claims == self.old.claims:
            new.generated = self.old.generated
            return set()
        new.generated = unique(new.claims)
        domains = new.generated.keys() | self.old.generated.keys()
        return {d for d in domains if new.generated.get(d) != self.old.generated.get(d)}

    def _fill(self, dirty: set[ObjectRef]) -> set[ObjectRef]:
        """Find for what there is no room. Returns the domains for which that changed."""
        old, new = self.old, self.new
        if not (dirty or self.topology_changed):
            new.full = old.full
            return set()
        new.full = budgets.full(new)
        domains = new.full.keys() | old.full.keys()
        return {domain for domain in domains if new.full.get(domain) != old.full.get(domain)}

    def _neighbours(self, dirty: set[ObjectRef]) -> set[ObjectRef]:
        """The domains that mailboxes left or went to, where the other one of the two is looked at."""
        renamed = (*self.old.renamed.values(), *self.new.renamed.values())
        pairs = ({each.former[0], domain_of(each)} for each in renamed if each.former)
        return {domain for pair in pairs if not pair.isdisjoint(dirty) for domain in pair}

    def _build_domain_plans(self, dirty: set[ObjectRef]) -> set[str]:
        """Decide about the domains. Returns the addresses that lead elsewhere than before."""
        new, addresses = self.new, set[str]()
        renames = Renames(new.renamed, new.topology.domains, new.members, self.snapshot)
        for domain in dirty:
            if old := new.domain_plans.get(domain):
                for ref in [*old.statuses, *old.aliases]:
                    new.statuses.pop(ref, None)
                    new.dependencies.pop(ref, None)
                    new.reaches.pop(ref, None)
        for domain in dirty:
            old = self.old.domain_plans.get(domain)
            domain_plan = self._domain_plan(domain, old, renames)
            new.domain_plans[domain] = domain_plan
            new.faults |= {fault.ref: fault for fault in domain_plan.faults}
            if new.topology.domains.get(domain) is None and not new.members.get(domain):
                del new.domain_plans[domain]
            new.statuses.update(domain_plan.statuses)
            new.dependencies.update(domain_plan.dependencies)
            was = old.addresses if old else {}
            now = domain_plan.addresses
            addresses |= {a for a in was.keys() | now.keys() if was.get(a) != now.get(a)}
        return addresses

    def _domain_plan(self, domain: ObjectRef, old: DomainPlan | None, renames: Renames) -> DomainPlan:
        new, before = self.new, self.old.topology.domains.get(domain)
        state, members = new.topology.domains.get(domain), new.members.get(domain, {})
        if state is None and not members:
            return DomainPlan()
        same = state and before and (state.number, state.names[:1]) == (before.number, before.names[:1])
        try:
            built = build_domain_plan(
                domain,
                state,
                members.values(),
                new.generated.get(domain, {}),
                new.placed,
                new.full.get(domain, ()),
                self.snapshot,
                renames,
                old if same else None,
            )
            if old:
                built.share(old)
            return built
        except Exception as error:
            new.fault(domain, error)
            lasting = old.lasting({domain, *members}) if old else DomainPlan()
            for ref, member in members.items():
                if ref not in lasting.statuses and ref not in lasting.aliases:
                    lasting.statuses[ref] = internal_error(member, new.faults[domain], None)
            return lasting

    def _follow_aliases(self, addresses: set[str]) -> None:
        """Find where aliases lead, of which something on their way changed."""
        new = self.new
        domains_changed = new.topology is not self.old.topology
        for domain, domain_plan in new.domain_plans.items():
            state = new.topology.domains.get(domain)
            if not domain_plan.aliases or state is None:
                continue
            for ref, (alias, address, fault) in domain_plan.aliases.items():
                found = new.reaches.get(ref)
                if found and not domains_changed and found.visited.isdisjoint(addresses):
                    continue
                try:
                    found = reach(address, *self._lookups(state.server_ref))
                    new.statuses[ref] = self._alias_status(alias, address, found, fault)
                    new.reaches[ref] = found
                except Exception as error:
                    new.fault(ref, error)

    def _lookups(
        self, server: ObjectRef
    ) -> tuple[Callable[[str], Domain | None], Callable[[str], AddressEntry | None]]:
        """What a server knows: a domain by its name, an address."""
        names, domain_plans = self.new.topology.names.get(server, {}), self.new.domain_plans

        def domain_plan_of(name: str) -> DomainPlan | None:
            domain = names.get(name)
            return domain_plans.get(domain) if domain else None

        def domain_of(name: str) -> Domain | None:
            domain_plan = domain_plan_of(name)
            return domain_plan.domains.get(name) if domain_plan else None

        def entry_of(address: str) -> AddressEntry | None:
            domain_plan = domain_plan_of(address.rpartition("@")[2])
            return domain_plan.addresses.get(address) if domain_plan else None

        return domain_of, entry_of

    @staticmethod
    def _alias_status(alias: MailAlias, address: str, found: Reach, fault: Verdict | None) -> Status:
        fault = fault or first(alias_rules.REACH, found.facts)
        message = f"{address} leads to {found.facts.destinations} destinations."
        return status(alias, ready(fault, message), {"address": address})

    def _servers(self, dirty: set[ObjectRef]) -> None:
        new = self.new
        for server, before in self.old.servers.items():
            if self.topology_changed or server not in new.topology.servers:
                for ref in before.statuses:
                    new.statuses.pop(ref, None)
                    new.dependencies.pop(ref, None)
        for policy in self.old.topology.orphaned_policies:
            new.statuses.pop(policy.ref, None)
        for policy in new.topology.orphaned_policies:
            try:
                new.statuses[policy.ref] = orphaned(policy, self.snapshot)
            except Exception as error:
                new.fault(policy.ref, error)
        if not (self.topology_changed or self.changed_answers or dirty):
            new.servers = dict(self.old.servers)
            return
        for ref, resource in new.topology.servers.items():
            served = [d for d, s in new.topology.domains.items() if s.server_ref == ref and not s.refusal]
            mailboxes = sum(
                isinstance(new.snapshot.objects.get(member), Mailbox) and member in new.dependencies
                for domain in served
                for member in new.members.get(domain, ())
            )
            policies = new.topology.policies[ref]
            # A number that somebody has now is not wiped, whoever had it before.
            alive = {new.topology.domains[domain].number for domain in served}
            wiped = self.snapshot.wiped.get(ref, frozenset()) - alive
            names = [name for domain in served for name in new.topology.domains[domain].hostnames]
            tenants: dict[str, list[str]] = defaultdict(list)
            for domain in served:
                tenants[domain.namespace] += new.topology.domains[domain].names
            build = partial(
                build_server,
                resource,
                counts=(len(served), mailboxes),
                wiped=wiped,
                tenants=tenants,
                names=names,
                numbered={
                    state.names[0]: state.number for state in (new.topology.domains[d] for d in served)
                },
                owned=new.topology.names[ref],
                snapshot=self.snapshot,
            )
            if found := outcome(self.old, new, ref, policies, build):
                new.servers[ref] = found
                there = self.snapshot.objects
                new.statuses.update({r: s for r, s in found.statuses.items() if r in there})
                new.dependencies.update({r: d for r, d in found.dependencies.items() if r in there})
            for policy in policies:
                if policy.ref not in new.statuses and ref in new.faults:
                    new.statuses[policy.ref] = internal_error(policy, new.faults[ref], None)

    def _assemble(self) -> Plan:
        new = self.new
        for ref in sorted(new.servers):
            try:
                new.assembled[ref] = assemble(new, ref)
            except Exception as error:
                new.fault(ref, error)
                if ref in self.old.assembled:
                    new.assembled[ref] = self.old.assembled[ref]
        for ref in new.servers.keys() - new.assembled.keys():
            del new.servers[ref]
        domain_plans = [new.domain_plans[domain] for domain in sorted(new.domain_plans)]
        secrets: list[GeneratedSecret] = [s for ref in sorted(new.servers) for s in new.servers[ref].secrets]
        return Plan(
            objects=tuple(each for objects, _, _ in new.assembled.values() for each in objects),
            directory={ref: directory for ref, (_, directory, _) in new.assembled.items()},
            credentials={ref: credentials for ref, (_, _, credentials) in new.assembled.items()},
            statuses=statuses(new),
            allocations={ref: patch for f in domain_plans for ref, patch in f.allocations.items()},
            dependencies=new.dependencies,
            secrets=(*secrets, *(s for f in domain_plans for s in f.secrets)),
            questions=frozenset(
                (
                    *(question for server in new.servers.values() for question in server.questions),
                    *(question for domain_plan in domain_plans for question in domain_plan.questions),
                )
            ),
            components=self.snapshot.components,
            prunable={ref: server.prunable for ref, server in sorted(new.servers.items())},
            faults=tuple(new.faults[ref] for ref in sorted(new.faults)),
            memory=new,
        )
