"""What each namespace may take of a server's directory, so that one that fills it fills it for itself.

The directory is spread over 16 buckets by a hash that anybody can compute, and a bucket is a Secret of at
most 1 MiB. So there is a budget for all that a namespace has, and one for each bucket. Where namespaces
together want more of a bucket than it holds, the smaller ones get all that they want, and the larger ones the
same (max-min fairness). Of one namespace the older objects are in, its domains first.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring_ascii

from mail_operator.compiler.domain_plan import BUCKETS, DomainPlan, Member, Records
from mail_operator.compiler.memory import Memory
from mail_operator.compiler.snapshot import Snapshot
from mail_operator.compiler.status import ready, status
from mail_operator.compiler.topology import DomainState, age_key
from mail_operator.kinds import Resource
from mail_operator.kinds.limits import ServerLimits
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.meta import ObjectRef
from mail_operator.kinds.values import quantity_bytes
from mail_operator.policies.budget import directory_full
from mailpods.directory.records import Account, AccountId, Address, AddressEntry, Credential, Domain
from mailpods.directory.shards import bucket_of

CAPACITY = 1_000_000  # bytes of a bucket's records, of the 1 MiB of its Secret
SHARE = 8  # a namespace's part of its bytes in one bucket: twice what an even spread needs


def weigh(
    plan: DomainPlan,
    ref: ObjectRef,
    state: DomainState,
    members: Iterable[Member],
    old: DomainPlan | None,
) -> None:
    """Note what of a domain's records is whose: bytes, at least as many as they take in either file.

    What had no room has none, either, when a fault keeps it from being weighed again.
    """
    known = old.weights if old else {}
    plan.weights.update({f.ref: known[f.ref] for f in plan.faults if f.ref in known})
    own = _own(plan, state)
    plan.weights[ref] = tuple(own.items())
    for member in members:
        if member.ref in plan.dependencies:
            address, account = _keys(member, state)
            bucket = bucket_of(address, BUCKETS)
            plan.weights[member.ref] = ((bucket, _weight(plan.buckets[bucket], member, address, account)),)
    for weight in plan.weights.values():
        for bucket, size in weight:
            plan.sizes[bucket] = plan.sizes.get(bucket, 0) + size


def _own(plan: DomainPlan, state: DomainState) -> dict[int, int]:
    """Bucket -> bytes of the domain itself: its names with its keys, its administrator."""
    found: dict[int, int] = defaultdict(int)
    for name, record in plan.domains.items():
        found[bucket_of(name, BUCKETS)] += _domain(name, record)
    for address, entry in plan.addresses.items():
        if entry.targets and entry.source.startswith("Mailbox "):  # somebody's former address, led on
            found[bucket_of(address, BUCKETS)] += _entry(address, entry)
    bucket = bucket_of(f"maint@{state.name}", BUCKETS)
    records, account = plan.buckets.get(bucket, Records()), AccountId(f"{state.number}/maint")
    found[bucket] += _account(
        records, account, state.domain.metadata.namespace, state.domain.password_secret()
    )
    return found


def _weight(records: Records, member: Member, address: Address, account: AccountId) -> int:
    entry = records.addresses.get(address)
    size = _entry(address, entry) if entry and entry.source == str(member.ref) else 0
    if not isinstance(member, Mailbox):
        return size
    held = records.accounts.get(account)
    size += _in_directory(account, held) if held else 0
    # Its directory and its credentials lie in two files: the larger counts.
    return max(size, _account(records, account, member.metadata.namespace, _secret(member)))


def _secret(member: Member) -> str | None:
    if not isinstance(member, Mailbox):
        return None
    return member.password_secret() or f"{member.metadata.name}-password"


def _keys(member: Member, state: DomainState) -> tuple[Address, AccountId]:
    return Address(f"{member.local_part}@{state.name}"), AccountId(f"{state.number}/{member.local_part}")


def _account(records: Records, account: AccountId, namespace: str, secret: str | None) -> int:
    """Of an account the larger of its two records; the password's version lies beside the credentials."""
    held, credential = records.accounts.get(account), records.credentials.get(account)
    version = records.versions.get(f"{namespace}/{secret}")
    size = _credential(account, credential) if credential else 0
    size += _octets(f"{namespace}/{secret}", *version) + 10 if version else 0
    return max(size, _in_directory(account, held) if held else 0)


# Each constant is what JSON takes around the texts, and for the numbers.


def _octets(*texts: str | None) -> int:
    return sum(len(encode_basestring_ascii(text)) + 1 for text in texts if text is not None)


def _domain(name: str, record: Domain) -> int:
    keys = sum(_octets(key.selector, key.algorithm, key.private) + 50 for key in record.dkim)
    return _octets(name, record.users_of, record.catch_all) + keys + 100


def _entry(address: str, entry: AddressEntry) -> int:
    return _octets(address, entry.source, entry.account, *entry.targets) + 50


def _in_directory(account: str, record: Account) -> int:
    return _octets(account, record.address, *(record.smarthost or ())) + 100


def _credential(account: str, record: Credential) -> int:
    services = sum(_octets(service, access) for service, access in record.services.items())
    return _octets(account, record.hash, record.address, record.former, *record.logins) + services + 130


def drop(plan: DomainPlan, state: DomainState, members: Iterable[Member]) -> None:
    """Take out of a domain's plan what has no room."""
    for member in members:
        address, account = _keys(member, state)
        plan.drop(member.ref, address, account)
        plan.records(address).versions.pop(f"{member.metadata.namespace}/{_secret(member)}", None)
        verdict = directory_full(state.server_ref, member.metadata.namespace)
        plan.statuses[member.ref] = status(member, ready(verdict, ""), {})


def full(new: Memory) -> dict[ObjectRef, frozenset[ObjectRef]]:
    """Domain -> those of its objects, perhaps itself, for which there is no room."""
    found: dict[ObjectRef, frozenset[ObjectRef]] = {}
    domains: dict[ObjectRef, dict[str, list[ObjectRef]]] = defaultdict(lambda: defaultdict(list))
    for ref, state in new.topology.domains.items():
        if ref in new.domain_plans and new.domain_plans[ref].weights:
            domains[state.server_ref][ref.namespace].append(ref)
    for server, namespaces in domains.items():
        try:
            found |= _of_server(new, server, namespaces)
        except Exception as error:
            new.fault(server, error)
            found |= {ref: new.full[ref] for refs in namespaces.values() for ref in refs if ref in new.full}
    return found


def _of_server(
    new: Memory, server: ObjectRef, namespaces: Mapping[str, list[ObjectRef]]
) -> dict[ObjectRef, frozenset[ObjectRef]]:
    found: dict[ObjectRef, frozenset[ObjectRef]] = {}
    limits = new.topology.servers[server].spec.limits
    wanted = {namespace: _wanted(new, refs) for namespace, refs in namespaces.items()}
    bounds = {namespace: _bounds(limits, namespace == server.namespace) for namespace in namespaces}
    levels = [_level([min(wanted[each][n], bounds[each][2]) for each in namespaces]) for n in range(BUCKETS)]
    for namespace, refs in namespaces.items():
        objects, octets, share = bounds[namespace]
        room = [min(share, level) for level in levels]
        count, sizes = sum(len(new.domain_plans[ref].weights) for ref in refs), wanted[namespace]
        if count > objects or sum(sizes) > octets or any(map(int.__gt__, sizes, room)):
            found |= _youngest(new, refs, room, objects, octets)
    return found


def _wanted(new: Memory, refs: Iterable[ObjectRef]) -> list[int]:
    sizes = [0] * BUCKETS
    for ref in refs:
        for bucket, size in new.domain_plans[ref].sizes.items():
            sizes[bucket] += size
    return sizes


def _bounds(limits: ServerLimits, platform: bool) -> tuple[int, int, int]:
    """Objects, bytes, and bytes in one bucket. Buckets alone bind the platform's own namespace."""
    if platform:
        return CAPACITY, CAPACITY * BUCKETS, CAPACITY
    octets = quantity_bytes(limits.tenant_bytes)
    return limits.tenant_objects, octets, min(CAPACITY, octets // SHARE)


def _level(wanted: Iterable[int]) -> int:
    """What a namespace gets at most of a bucket, of which all together want this."""
    left, sizes = CAPACITY, sorted(wanted)
    for n, size in enumerate(sizes):
        if size * (len(sizes) - n) > left:
            return left // (len(sizes) - n)
        left -= size
    return CAPACITY


def _youngest(
    new: Memory, domains: Iterable[ObjectRef], room: list[int], objects: int, octets: int
) -> dict[ObjectRef, frozenset[ObjectRef]]:
    """Of a namespace's domains those objects that go beyond what it may have."""
    domain_of = {ref: domain for domain in domains for ref in new.domain_plans[domain].weights}
    resources = [new.snapshot.objects[ref] for ref in domain_of]
    out: dict[ObjectRef, set[ObjectRef]] = defaultdict(set)
    for ref in (r.ref for r in sorted(resources, key=lambda r: _order(r, new.snapshot))):
        domain = domain_of[ref]
        weight = new.domain_plans[domain].weights[ref]
        size = sum(part for _, part in weight)
        if domain in out and domain in out[domain]:
            continue  # it goes with its domain
        if objects < 1 or size > octets or any(part > room[bucket] for bucket, part in weight):
            out[domain].add(ref)
            continue
        objects, octets = objects - 1, octets - size
        for bucket, part in weight:
            room[bucket] -= part
    return {domain: frozenset(refs) for domain, refs in out.items()}


def _order(resource: Resource, snapshot: Snapshot) -> tuple[bool, tuple[str, int, ObjectRef]]:
    return resource.kind != "MailDomain", age_key(resource, snapshot)
