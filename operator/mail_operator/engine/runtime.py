"""What the engine needs of the ground that it runs on: a cluster, one machine, or the memory of a test.

A runtime observes and carries out. What is to be done, and when, the engine alone decides.
"""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mail_operator.compiler.plan import Manifest
from mail_operator.compiler.snapshot import PasswordHash, SecretName
from mail_operator.components.component import Component
from mail_operator.kinds import Resource
from mail_operator.kinds.meta import GROUP, ObjectRef
from mail_operator.policies.verdict import Verdict

Status = Mapping[str, Any]
Changed = Callable[[ObjectRef], None]

FINALIZER = f"{GROUP}/wipe"  # of a MailDomain whose mail goes with it
MADE_FOR = f"{GROUP}/made-for"  # label of a Secret that Mailpods made: the kind of its object


class Unavailable(Exception):
    """It was not done now, and may be later: no fault of the object or of ours. The message says why."""


class FatalError(Exception):
    """What no later round mends: the engine ends with it."""


@dataclass(frozen=True, slots=True)
class ObservedResource:
    """A custom resource. `resource` is its last valid version, None where there was none."""

    made_of: tuple[str, int, tuple[tuple[str, str], ...]]  # uid, generation, our annotations
    resource: Resource | None
    problems: tuple[tuple[str, str], ...]  # (field, sentence) of the newest version
    deleting: bool
    held: bool  # by our finalizer
    status: bytes = field(compare=False)  # JSON; our own writes are no news

    @property
    def uid(self) -> str:
        """Tells it from others that had its name."""
        return self.made_of[0]

    def has_annotation(self, name: str, value: str) -> bool:
        """Whether it bears this annotation, one of ours."""
        return (name, value) in self.made_of[2]


@dataclass(frozen=True, slots=True)
class ObservedSecret:
    """Which version of a Secret there is: `mark` changes whenever its content may have."""

    mark: str
    made: bool  # by Mailpods, for an object


@dataclass(frozen=True)
class SecretContent:
    """What was read of a Secret, and in which version."""

    mark: str
    values: Mapping[str, bytes]
    made: bool  # by Mailpods


@dataclass(frozen=True)
class Observation:
    """Everything that is there now. The mappings may be live ones: copy what is to stay."""

    resources: Mapping[ObjectRef, ObservedResource] = field(default_factory=dict)
    secrets: Mapping[SecretName, ObservedSecret] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # name -> labels
    addresses: Mapping[ObjectRef, tuple[str, ...]] = field(default_factory=dict)  # MailServer -> Service's
    age: Mapping[ObjectRef, int] = field(default_factory=dict)  # where no creation time is set: less is older
    image: str = "mailpods:0.1.0"  # of the mail pods
    # Of what is being deleted: with what else, e.g. its namespace. What was deleted by name is not in it.
    swept: Mapping[ObjectRef, str] = field(default_factory=dict)
    unclear: Collection[ObjectRef] = ()  # of which that is not known yet


@dataclass(frozen=True)
class Program:
    """One run of a program of a pod that serves. After a restart its key is another."""

    key: Hashable
    server: ObjectRef
    component: str
    mount: str  # of the files that it reads: "directory" or "credentials"
    at: str  # where the runtime asks it
    shard: int | None = None  # of a store


@dataclass(frozen=True, slots=True)
class ObservedPod:
    """A pod, whether or not it serves."""

    server: ObjectRef
    component: str
    name: str
    ready: bool
    index: int | None = None  # of a StatefulSet's
    trouble: str = ""  # why it is not ready, where more is known than that


@dataclass(frozen=True)
class Applied:
    """What came of applying: what was written, and why what was not."""

    written: frozenset[ObjectRef] = frozenset()
    failed: Mapping[ObjectRef, Verdict] = field(default_factory=dict)


@dataclass(frozen=True)
class Timings:
    """How patient the engine is on a ground, in seconds."""

    quiet: float = 0.2  # after a change, for others that come with it
    longest_quiet: float = 1.0  # of changes that do not end
    settle: float = 0.1  # that a round waits for hashes and Secrets that it asked for
    first_settle: float = 30.0  # the same of the first round: without them it would take back what there is
    acknowledge: float = 3.0  # that the next round waits for the pods to load what the last one wrote
    ask: float = 0.1  # between questions to programs that are behind
    hurry: float = 2.0  # until pods that are still behind are hurried again
    patience: float = 5.0  # until an object that waits for its pods is told to be waiting
    look: float = 300.0  # between rounds when nothing changes: certificates, and what failed before
    retry: float = 5.0  # after a round in which something failed
    calm: float = 2.0  # without changes, after which memory is given back


class Runtime(Protocol):
    """A ground. Its methods raise `Unavailable` for what may work later; anything else is a fault of ours."""

    timings: Timings
    issues_certificates: bool  # whether somebody else writes the Secret that a Certificate asks for

    # Observing ----------------------------------------------------------------------------------------

    async def run(self, changed: Changed) -> None:
        """Observe until cancelled; tell `changed` of whatever changed. A Pod: its programs may be others."""

    async def synced(self) -> None:
        """Return once everything was seen for the first time."""

    def observe(self) -> Observation:
        """What is there."""

    def observed(self, ref: ObjectRef) -> ObservedResource | None:
        """One custom resource of it."""

    def secret(self, name: SecretName) -> ObservedSecret | None:
        """One Secret of it."""

    def care_for(self, names: Collection[SecretName]) -> None:
        """From now on changes of just these Secrets are of interest."""

    async def remembered_hashes(self, servers: Mapping[ObjectRef, str]) -> Mapping[SecretName, PasswordHash]:
        """The hashes that a former run made, by what is ours beyond doubt; `servers`: MailServer -> uid."""

    # Secrets ------------------------------------------------------------------------------------------

    async def read_secret(self, name: SecretName) -> SecretContent | None:
        """Its content; None if there is none. Raises Unavailable, with the reason as a person reads it."""

    async def create_secret(
        self, name: SecretName, type_: str, owner_kind: str, values: Mapping[str, bytes]
    ) -> None:
        """Create it as made by Mailpods. One that exists stays as it is, which is no error."""

    async def change_secret(self, name: SecretName, mark: str, changes: Mapping[str, bytes | None]) -> None:
        """Change these keys, None takes one away; Unavailable if it is not in version `mark` any more."""

    def authority(self) -> SecretName:
        """Where the own certificate authority lies."""

    # Carrying out -------------------------------------------------------------------------------------

    async def allocate(self, ref: ObjectRef, patch: Mapping[str, Any]) -> bool:
        """Write into spec what is blank there. False: somebody else wrote it, or the object is gone."""

    async def apply(
        self, objects: Sequence[Manifest], owners: Mapping[ObjectRef, str], paused: Collection[ObjectRef]
    ) -> Applied:
        """Make these objects be there, where something differs. `owners`: MailServer -> uid.

        The objects of `paused` servers are none of them, and stay as they are.
        """

    async def prune(self, refs: Collection[ObjectRef]) -> bool:
        """Delete what a server has no longer, where Mailpods applied it. Whether all went well."""

    async def delete(self, ref: ObjectRef) -> None:
        """Delete a custom resource with its domain."""

    async def hold(self, ref: ObjectRef) -> None:
        """Give a MailDomain the finalizer: once deleted it stays, marked as deleting."""

    async def release(self, ref: ObjectRef) -> None:
        """Take the finalizer away."""

    # Pods ---------------------------------------------------------------------------------------------

    def programs(self, components: Sequence[Component]) -> Sequence[Program]:
        """What serves users now, of those of these components that report what they have loaded."""

    def observed_pods(self) -> Sequence[ObservedPod]:
        """All pods, but those on their way out."""

    def replicas(self, workload: Manifest) -> int:
        """How many pods a StatefulSet or Deployment gets here."""

    async def ask(self, program: Program) -> Mapping[str, str] | None:
        """The hash of each file that it has loaded; None if it does not answer."""

    async def reaches(self, server: ObjectRef, components: Sequence[Component]) -> bool:
        """Whether a client of the Services of these components is led to their pods."""

    async def hurry(self, servers: Collection[ObjectRef]) -> None:
        """Have the pods see new files at once."""

    # Telling ------------------------------------------------------------------------------------------

    async def publish(self, ref: ObjectRef, status: Status, removed: Collection[str]) -> None:
        """Write an object's whole status; `removed`: its fields of before. Of one that is gone: nothing."""

    async def event(self, ref: ObjectRef, uid: str, type_: str, reason: str, message: str) -> None:
        """Tell whoever looks at the object what happened. `type_`: Normal or Warning."""

    def round_ended(self) -> None:
        """All of a round is published."""
