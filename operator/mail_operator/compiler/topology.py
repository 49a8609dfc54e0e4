"""Which server serves which domain, under which names, number and login forms."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mail_operator.compiler import numbers, ownership
from mail_operator.compiler.faults import Fault, fault_of, verdict_of
from mail_operator.compiler.snapshot import Snapshot
from mail_operator.compiler.zones import Record
from mail_operator.kinds import Resource
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.mailserver import LoginForm, MailServer
from mail_operator.kinds.meta import ObjectRef
from mail_operator.kinds.relaypolicy import RelayPolicy
from mail_operator.policies import domain as rules
from mail_operator.policies.domain import DomainFacts
from mail_operator.policies.verdict import Verdict, first


@dataclass(frozen=True)
class DomainState:
    """What was decided about a domain. One that is refused has no names."""

    domain: MailDomain
    server_ref: ObjectRef
    server: MailServer | None
    refusal: Verdict | None
    fault: Verdict | None = None
    number: int = 0
    names: tuple[str, ...] = ()  # the first one is its own, the others share its users
    forms: tuple[LoginForm, ...] = ()
    prefix: str | None = None
    hostnames: tuple[str, ...] = ()  # further names of the server, below its own
    resolvers: tuple[str, ...] = ()  # whom its server asks
    challenges: tuple[Record, ...] = ()  # what proves that its names are its own, where that is asked for

    @property
    def name(self) -> str:
        """The domain's own name."""
        return self.domain.spec.domain_name


@dataclass(frozen=True)
class Topology:
    """All servers with what belongs to them."""

    servers: Mapping[ObjectRef, MailServer] = field(default_factory=dict)
    domains: Mapping[ObjectRef, DomainState] = field(default_factory=dict)
    policies: Mapping[ObjectRef, tuple[RelayPolicy, ...]] = field(default_factory=dict)  # oldest first
    orphaned_policies: tuple[RelayPolicy, ...] = ()  # of servers that do not exist
    names: Mapping[ObjectRef, Mapping[str, ObjectRef]] = field(
        default_factory=dict
    )  # server -> name -> domain
    faults: tuple[Fault, ...] = ()  # while something was decided about one of them


def age_key(resource: Resource, snapshot: Snapshot) -> tuple[str, int, ObjectRef]:
    """Sorts the oldest first. Ties, as in one `kubectl apply`, go by name, so that they stay as they are."""
    return resource.metadata.creation_timestamp or "", snapshot.age.get(resource.ref, 0), resource.ref


def build_topology(
    snapshot: Snapshot, resources: Iterable[Resource], old: Topology | None = None
) -> Topology:
    """Decide about every server and domain among `resources`; `old` stays where nothing can be decided."""
    old, faults = old or Topology(), list[Fault]()
    ordered = sorted(resources, key=lambda resource: age_key(resource, snapshot))
    servers = {r.ref: r for r in ordered if isinstance(r, MailServer)}
    domains: dict[ObjectRef, list[MailDomain]] = defaultdict(list)
    policies: dict[ObjectRef, list[RelayPolicy]] = defaultdict(list)
    for resource in ordered:
        if isinstance(resource, MailDomain):
            domains[server_of(resource)].append(resource)
        elif isinstance(resource, RelayPolicy):
            policies[server_of(resource)].append(resource)
    states: dict[ObjectRef, DomainState] = {}
    names: dict[ObjectRef, Mapping[str, ObjectRef]] = {ref: {} for ref in servers}
    for ref, members in domains.items():
        held = _Held()
        before = [state for state in old.domains.values() if state.server_ref == ref]
        try:
            held.resolvers = resolvers(policies[ref], ref.namespace)
            held.had = numbers.had(ref, snapshot)
            if ref in servers and servers[ref].spec.domain_verification == "DNS":
                written = numbers.owners(ref, snapshot)
                had = old.names.get(ref, {}) if written is None else written
                held.owners = ownership.owners(servers[ref], members, had, held.resolvers, snapshot)
        except Exception as error:
            faults.append(fault_of(ref, error))
            held.resolvers = next((state.resolvers for state in before), ())
            held.had = {name: state.number for state in before for name in state.names[:1]}
            if ref in servers and servers[ref].spec.domain_verification == "DNS":
                held.owners = dict(old.names.get(ref, {}))
        held.hostnames = len(servers[ref].hosts) if ref in servers else 0
        held.asked = {d.spec.number for d in members if d.spec.number}
        held.reserved = held.asked | set(held.had.values())
        for domain in members:
            try:
                states[domain.ref] = held.admit(domain, ref, servers.get(ref), snapshot)
            except Exception as error:
                faults.append(fault := fault_of(domain.ref, error))
                refused = DomainState(domain, ref, servers.get(ref), verdict_of(fault))
                states[domain.ref] = held.readmit(old.domains.get(domain.ref)) or refused
        names[ref] = held.names
    return Topology(
        servers=servers,
        domains=states,
        policies={ref: tuple(policies[ref]) for ref in servers},
        orphaned_policies=tuple(
            p for ref, members in policies.items() if ref not in servers for p in members
        ),
        names=names,
        faults=tuple(faults),
    )


def server_of(resource: MailDomain | RelayPolicy) -> ObjectRef:
    """The MailServer that a domain or policy names."""
    assert resource.server is not None  # their specs require it
    return resource.server


def resolvers(policies: Iterable[RelayPolicy], namespace: str) -> tuple[str, ...]:
    """The DNS servers of a server in this namespace, as its policies name them, in order."""
    own = (policy.spec.inbound for policy in policies if policy.metadata.namespace == namespace)
    return tuple(dict.fromkeys(each for inbound in own for each in inbound.resolvers))


class _Held:
    """What the domains of one server that were admitted so far hold."""

    def __init__(self) -> None:
        self.resolvers: tuple[str, ...] = ()
        self.names: dict[str, ObjectRef] = {}
        self.owners: Mapping[str, ObjectRef] | None = None  # None: a name is his who comes first
        self.numbers: dict[int, ObjectRef] = {}
        self.prefixes: dict[str, ObjectRef] = {}
        self.asked: set[int] = set()  # numbers that some domain asks for
        self.had: dict[str, int] = {}  # the numbers that domains have or had, by name
        self.reserved: set[int] = set()  # all of those
        self.lowest_free = 1
        self.count = 0
        self.hostnames = 0  # in the server's certificate

    def admit(
        self, domain: MailDomain, server_ref: ObjectRef, server: MailServer | None, snapshot: Snapshot
    ) -> DomainState:
        spec = domain.spec
        wanted = ownership.wanted(domain)
        taken = {name: self.names[name] for name in wanted if name in self.names}
        unproven: tuple[str, ...] = ()
        if self.owners is not None:
            unproven = tuple(name for name in wanted if name not in self.owners)
            others = {name: self.owners[name] for name in wanted if name not in unproven}
            taken |= {name: owner for name, owner in others.items() if owner != domain.ref}
        challenges = ownership.challenges(domain, server)
        facts = DomainFacts(
            domain=domain,
            server_ref=server_ref,
            server=server,
            namespace_labels=snapshot.namespaces.get(domain.metadata.namespace, {}),
            names_taken=taken,
            unproven=unproven,
            proofs={
                name: f"{record['name']} TXT {record['value']}"
                for name, record in zip(wanted, challenges, strict=False)
            },
            number_taken=self.numbers.get(spec.number) if spec.number else None,
            prefix_taken=self.prefixes.get(spec.login.prefix) if spec.login.prefix else None,
            domains_before=self.count,
            hostnames_before=self.hostnames,
        )
        refusal = first(rules.REFUSALS, facts)
        if refusal or server is None:
            return DomainState(
                domain, server_ref, server, refusal, resolvers=self.resolvers, challenges=challenges
            )
        before = self.had.get(spec.domain_name)
        if before in self.asked or before in self.numbers:
            before = None
        number = spec.number or before or self._free_number()
        hostnames: tuple[str, ...] = ()
        if not (rules.hostname_foreign(facts) or rules.hostnames_full(facts)):
            hostnames = tuple(spec.hostnames)
        return self._hold(
            DomainState(
                domain=domain,
                server_ref=server_ref,
                server=server,
                refusal=None,
                fault=first(rules.FAULTS, facts),
                number=number,
                names=facts.names,
                forms=tuple(spec.login.forms or server.spec.login_forms),
                prefix=None if facts.prefix_taken else spec.login.prefix,
                hostnames=hostnames,
                resolvers=self.resolvers,
                challenges=challenges,
            )
        )

    def readmit(self, old: DomainState | None) -> DomainState | None:
        """What was decided about a domain before, unless others hold something of that by now."""
        if old is None or old.refusal or old.number in self.numbers or old.prefix in self.prefixes:
            return None
        return None if any(name in self.names for name in old.names) else self._hold(old)

    def _hold(self, state: DomainState) -> DomainState:
        ref = state.domain.ref
        self.numbers[state.number] = ref
        self.names.update(dict.fromkeys(state.names, ref))
        if state.prefix:
            self.prefixes[state.prefix] = ref
        self.count += 1
        self.hostnames += len(state.hostnames)
        return state

    def _free_number(self) -> int:
        while self.lowest_free in self.reserved or self.lowest_free in self.numbers:
            self.lowest_free += 1
        return self.lowest_free
