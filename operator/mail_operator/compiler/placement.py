"""Which shard keeps a mailbox that names none, where there are several."""

from mail_operator.compiler.domain_plan import domain_of
from mail_operator.compiler.memory import Memory
from mail_operator.compiler.topology import age_key
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.meta import ObjectRef


def place(old: Memory, new: Memory) -> set[ObjectRef]:
    """Choose a shard for mailboxes that name none, where there are several. Returns domains to look at.

    New ones go where the fewest are. Those that had mail before there was a choice are in the first.
    """
    placed = dict[ObjectRef, int]()
    counts = {
        ref: [0] * server.spec.store.shards
        for ref, server in new.topology.servers.items()
        if server.spec.store.shards > 1
    }
    waiting: list[tuple[Mailbox, list[int]]] = []
    for domain, state in new.topology.domains.items() if counts else ():
        if (there := counts.get(state.server_ref)) is None or state.refusal:
            continue
        for member in new.members.get(domain, {}).values():
            if not isinstance(member, Mailbox):
                continue
            shard = member.spec.shard
            if shard is None and member.ref in new.snapshot.served:
                shard = placed[member.ref] = 0
            if shard is None and not member.spec.former_address:  # that one's mail is somewhere
                waiting.append((member, there))
            elif shard is not None and shard < len(there):
                there[shard] += 1
    for member, there in sorted(waiting, key=lambda each: age_key(each[0], new.snapshot)):
        shard = placed[member.ref] = there.index(min(there))
        there[shard] += 1
    new.placed, before = placed, old.placed
    changed = (ref for ref in placed.keys() | before.keys() if placed.get(ref) != before.get(ref))
    members = (new.snapshot.objects.get(ref) for ref in changed)
    return {domain_of(member) for member in members if isinstance(member, Mailbox)}
