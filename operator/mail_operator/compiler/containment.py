"""What a server leads to, whatever of it has a fault: the last plan of that stays, and its status says so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mail_operator.compiler.domain_plan import BUCKETS
from mail_operator.compiler.faults import internal_error
from mail_operator.compiler.memory import Assembled, Files, Memory
from mail_operator.compiler.plan import Manifest, Status
from mail_operator.compiler.server import ServerOutcome, file_secret, installation
from mail_operator.compiler.status import withheld
from mail_operator.kinds.meta import ObjectRef
from mail_operator.kinds.relaypolicy import RelayPolicy
from mailpods.directory.shards import file_name

Build = Callable[[Sequence[RelayPolicy]], ServerOutcome]


def outcome(
    old: Memory,
    new: Memory,
    ref: ObjectRef,
    policies: Sequence[RelayPolicy],
    build: Build,
) -> ServerOutcome | None:
    """What a server leads to, by the last versions of policies that nothing can be made of now."""
    new.policies |= {policy.ref: policy for policy in policies}
    try:
        return build(policies)
    except Exception:
        sound = [each for policy in policies if (each := _sound_policy(old, new, policy, build))]
    try:
        found = build(sound)
        # What the platform wrote is never left out where it was in force, nor at the first start.
        there = {policy.ref for policy in sound}
        lost = [p.ref for p in policies if p.metadata.namespace == ref.namespace and p.ref not in there]
        if ref in old.servers:
            lost = [each for each in lost if each in old.policies]
        if not lost:
            return found
        new.faults[ref] = replace(new.faults[lost[0]], ref=ref)
    except Exception as error:
        for policy in policies:
            new.faults.pop(policy.ref, None)
        new.fault(ref, error)
    new.policies |= {each.ref: each for each in old.policies.values() if each.ref in new.policies}
    return old.servers.get(ref)


def _sound_policy(old: Memory, new: Memory, policy: RelayPolicy, build: Build) -> RelayPolicy | None:
    """The policy, or its last version, if a server can be built with nothing but that."""
    last = old.policies.get(policy.ref)
    new.policies.pop(policy.ref)
    for each in (policy, last) if last else (policy,):
        try:
            build([each])
            new.policies[policy.ref] = each
            return each
        except Exception as error:
            if each is policy:
                new.fault(policy.ref, error)
    return None


def assemble(new: Memory, ref: ObjectRef) -> Assembled:
    """What there is of a server, its domains included."""
    server = new.servers[ref]
    at = installation(new.topology.servers[ref], new.snapshot.image)
    objects: list[Manifest] = []
    files: dict[str, Files] = {}
    for column, mount in enumerate(("directory", "credentials")):
        name, data = server.main[mount]
        objects.append(file_secret(at, mount, at.main_secret(mount), name, data))
        objects += [new.manifests[ref, n][column] for n in range(BUCKETS)]
        files[mount] = {file_name(n): new.files[ref, n][column] for n in range(BUCKETS)} | {name: data}
    return [*objects, *server.objects], files["directory"], files["credentials"]


def statuses(new: Memory) -> Mapping[ObjectRef, Status]:
    """Those that were made, and what those say that have a fault, or wait for a server that has no plan."""
    if not new.faults:
        return new.statuses
    found = dict(new.statuses)
    broken = {ref for ref in new.faults if ref.kind == "MailServer"} - new.servers.keys()
    for ref, dependencies in new.dependencies.items():
        if dependencies.server in broken:
            found[ref] = withheld(found[ref], f"{dependencies.server} has an InternalError")
    for ref, fault in new.faults.items():
        if resource := new.snapshot.objects.get(ref):
            found[ref] = internal_error(resource, fault, new.statuses.get(ref))
    return found
