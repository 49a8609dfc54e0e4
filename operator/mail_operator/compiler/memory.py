"""What one run of compile() leaves to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mail_operator.compiler.domain_plan import DomainPlan, Member, Records
from mail_operator.compiler.faults import Fault, fault_of
from mail_operator.compiler.logins import Claim
from mail_operator.compiler.plan import Dependencies, Manifest, Status
from mail_operator.compiler.reach import Reach
from mail_operator.compiler.server import ServerOutcome
from mail_operator.compiler.snapshot import Snapshot
from mail_operator.compiler.topology import Topology
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.meta import ObjectRef
from mail_operator.kinds.relaypolicy import RelayPolicy

Key = tuple[ObjectRef, int]  # server, bucket
Files = dict[str, bytes]
Assembled = tuple[list[Manifest], Files, Files]  # objects, directory, credentials


@dataclass
class Memory:
    """What one run leaves to the next. Nothing in it is changed once the run is over."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    topology: Topology = field(default_factory=Topology)
    members: dict[ObjectRef, dict[ObjectRef, Member]] = field(default_factory=dict)  # domain -> its objects
    renamed: dict[ObjectRef, Mailbox] = field(default_factory=dict)  # those that name a former address
    claims: dict[ObjectRef, tuple[Claim, ...]] = field(default_factory=dict)
    generated: Mapping[ObjectRef, Mapping[ObjectRef, str]] = field(default_factory=dict)
    placed: Mapping[ObjectRef, int] = field(default_factory=dict)  # Mailbox of a blank shard -> shard
    domain_plans: dict[ObjectRef, DomainPlan] = field(default_factory=dict)
    parts: dict[Key, dict[ObjectRef, Records]] = field(default_factory=dict)
    files: dict[Key, tuple[bytes, bytes, bytes]] = field(default_factory=dict)  # …, credentials, versions
    manifests: dict[Key, tuple[Manifest, Manifest]] = field(default_factory=dict)
    full: dict[ObjectRef, frozenset[ObjectRef]] = field(default_factory=dict)  # domain -> without room
    reaches: dict[ObjectRef, Reach] = field(default_factory=dict)
    statuses: dict[ObjectRef, Status] = field(default_factory=dict)
    dependencies: dict[ObjectRef, Dependencies] = field(default_factory=dict)
    servers: dict[ObjectRef, ServerOutcome] = field(default_factory=dict)
    policies: dict[ObjectRef, RelayPolicy] = field(default_factory=dict)  # of which something could be made
    assembled: dict[ObjectRef, Assembled] = field(default_factory=dict)
    faults: dict[ObjectRef, Fault] = field(default_factory=dict)

    def fault(self, ref: ObjectRef, error: Exception) -> None:
        """Note what went wrong while something was made for this object."""
        self.faults[ref] = fault_of(ref, error)
