"""What compile() says: the objects of a cluster, the files of the mail pods, a status for every resource."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from mail_operator.compiler.faults import Fault
from mail_operator.compiler.snapshot import Question
from mail_operator.components import COMPONENTS
from mail_operator.components.component import Component
from mail_operator.kinds.meta import ObjectRef

Manifest: TypeAlias = Mapping[str, Any]
Status: TypeAlias = Mapping[str, Any]


def wire(manifest: Manifest) -> Manifest:
    """An object of a Plan as Kubernetes writes it.

    A Plan holds the values of Secrets as bytes: in base64, too, they would take twice the memory.
    """
    if manifest["kind"] != "Secret":
        return manifest
    data = {key: base64.b64encode(value).decode() for key, value in manifest["data"].items()}
    return {**manifest, "data": data}


@dataclass(frozen=True)
class GeneratedSecret:
    """A Secret that the I/O layer makes when it is missing, and owns from then on.

    - `tls`: keys `tls.crt`, `tls.key`, `ca.crt`; the certificate holds `hosts`.
    - `password`: key `password`, made up. An administrator or the user reads it there.
    - `key`: key `key`, made up, by which the pods of an installation know each other.
    - `dkim`: a key `<selector>.key` for each key that signs a domain's mail.
    """

    kind: Literal["tls", "password", "key", "dkim"]
    namespace: str
    name: str
    owner: ObjectRef
    hosts: tuple[str, ...] = ()
    rotate_days: int | None = None  # of a dkim one: after which its keys are to change
    seen: tuple[str, ...] = ()  # of its selectors: those whose records DNS holds


@dataclass(frozen=True)
class Dependencies:
    """What an object needs to work: its files in the pods of its server, and the store pods with its mail."""

    server: ObjectRef
    files: frozenset[str]
    shards: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Plan:
    """An installation, ready to be applied. Equal snapshots give equal Plans, byte for byte.

    - `objects`: Kubernetes manifests in the order in which to apply them, by `wire()`.
    - `directory`, `credentials`: MailServer -> file name -> bytes; `objects` holds them as Secrets.
    - `statuses`: the whole status of each custom resource; its conditions bear no times, and Ready=True
      means "valid and in the files": the engine holds it back until the pods acknowledged `dependencies`.
    - `allocations`: what to write into an object's spec, where it was blank.
    - `secrets`: what the I/O layer makes when it is missing.
    - `questions`: what the I/O layer asks of DNS.
    - `faults`: what went wrong while something was made for an object, for the log.
    - `prunable`: MailServer -> what it has no longer, and may have had.
    - `components`: the declarations of what runs, which say which admin port reports which files.
    """

    objects: tuple[Manifest, ...] = ()
    directory: Mapping[ObjectRef, Mapping[str, bytes]] = field(default_factory=dict)
    credentials: Mapping[ObjectRef, Mapping[str, bytes]] = field(default_factory=dict)
    statuses: Mapping[ObjectRef, Status] = field(default_factory=dict)
    allocations: Mapping[ObjectRef, Mapping[str, Any]] = field(default_factory=dict)
    dependencies: Mapping[ObjectRef, Dependencies] = field(default_factory=dict)
    secrets: tuple[GeneratedSecret, ...] = ()
    questions: frozenset[Question] = frozenset()
    prunable: Mapping[ObjectRef, tuple[ObjectRef, ...]] = field(default_factory=dict)
    components: tuple[Component, ...] = COMPONENTS
    faults: tuple[Fault, ...] = ()
    memory: object = field(default=None, repr=False, compare=False)  # of compile() alone, for the next run
