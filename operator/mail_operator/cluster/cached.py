"""What is cached of each object: little, for there may be ten thousand."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mail_operator.cluster.client import Json
from mail_operator.engine.runtime import FINALIZER, MADE_FOR, ObservedResource, ObservedSecret
from mail_operator.kinds import Invalid, load
from mail_operator.kinds.meta import API_VERSION, GROUP

_LONGEST_TROUBLE = 300  # characters
HASH = f"{GROUP}/hash"  # annotation of what the operator applied: the hash of that


@dataclass(frozen=True, slots=True)
class CachedChild:
    """What somebody applied under a name of ours. `mark` changes whenever its content may have."""

    hash: str | None
    mark: str
    version: int = field(compare=False)
    owner: tuple[str, str, str] | None = None  # its controller: kind, name, uid

    def is_ours(self, server: str, uid: str) -> bool:
        """Whether the operator made it, for the MailServer of this name: now, or one of before it."""
        if self.owner and self.owner[2] == uid:
            return True
        return self.hash is not None and (self.owner is None or self.owner[:2] == ("MailServer", server))


@dataclass(frozen=True, slots=True)
class CachedSecret(ObservedSecret):
    """A Secret, without its content."""

    child: CachedChild = field(default_factory=lambda: CachedChild(None, "", 0))


@dataclass(frozen=True, slots=True)
class CachedNamespace:
    """A namespace."""

    labels: Mapping[str, str]
    deleting: bool


@dataclass(frozen=True, slots=True)
class CachedPod:
    """A mail pod."""

    uid: str
    server: str
    component: str
    index: str
    address: str
    ready: bool
    deleting: bool
    revision: str = ""  # of the StatefulSet that it was made from
    since: str = ""  # when it became ready, or ceased to be
    trouble: str = ""  # why it does not run


@dataclass(frozen=True, slots=True)
class CachedService:
    """The addresses that a load balancer gave an installation's smtp pods."""

    server: str
    addresses: tuple[str, ...]


def cache_resource(kind: str) -> Callable[[Json, ObservedResource | None], ObservedResource]:
    """How a custom resource is cached: parsed once for each generation."""

    def keep(item: Json, known: ObservedResource | None) -> ObservedResource:
        meta = item["metadata"]
        annotations = {k: v for k, v in meta.get("annotations", {}).items() if k.startswith(f"{GROUP}/")}
        made_of = (meta["uid"], meta["generation"], tuple(sorted(annotations.items())))
        status = json.dumps(item.get("status", {}), separators=(",", ":")).encode()
        deleting, held = "deletionTimestamp" in meta, FINALIZER in meta.get("finalizers", ())
        if known and known.made_of == made_of:
            return ObservedResource(made_of, known.resource, known.problems, deleting, held, status)
        problems: tuple[tuple[str, str], ...] = ()
        resource = known.resource if known and known.made_of[0] == meta["uid"] else None
        shared = {k: sys.intern(meta[k]) for k in _SHARED if k in meta}
        try:
            document = {
                "apiVersion": API_VERSION,
                "kind": kind,
                "metadata": {**{k: meta.get(k) for k in _META}, **shared, "annotations": annotations},
                "spec": item["spec"],
            }
            resource = load(document, lenient=True)
        except Invalid as error:
            problems = tuple(error.problems)  # the schema of a later version may allow more
        return ObservedResource(made_of, resource, problems, deleting, held, status)

    return keep


_META = ("name", "generation")
_SHARED = ("namespace", "creationTimestamp")  # by many objects: one string for all


def cache_child(item: Json, known: CachedChild | None) -> CachedChild:
    """How an object that was applied is cached. Where there is a generation, its status does not matter."""
    meta = item["metadata"]
    mark = str(meta.get("generation") or meta["resourceVersion"])
    owners = (o for o in meta.get("ownerReferences", ()) if o.get("controller"))
    owner = next(((o["kind"], o["name"], o["uid"]) for o in owners), None)
    return CachedChild(meta.get("annotations", {}).get(HASH), mark, int(meta["resourceVersion"]), owner)


def cache_secret(item: Json, known: CachedSecret | None) -> CachedSecret:
    """How a Secret is cached: without its content, which is never asked for."""
    meta = item["metadata"]
    return CachedSecret(
        mark=f"{meta['uid']}/{meta['resourceVersion']}",
        made=MADE_FOR in meta.get("labels", {}),
        child=cache_child(item, None),
    )


def cache_pod(item: Json, known: CachedPod | None) -> CachedPod:
    """How a mail pod is cached."""
    meta, status = item["metadata"], item.get("status", {})
    labels: Mapping[str, Any] = meta.get("labels", {})
    ready: Json = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
    return CachedPod(
        uid=meta["uid"],
        server=labels.get("app.kubernetes.io/instance", ""),
        component=labels.get("app.kubernetes.io/component", ""),
        index=labels.get("apps.kubernetes.io/pod-index", ""),
        address=status.get("podIP", ""),
        ready=ready.get("status") == "True",
        deleting="deletionTimestamp" in meta,
        revision=labels.get("controller-revision-hash", ""),
        since=ready.get("lastTransitionTime") or meta.get("creationTimestamp", ""),
        trouble=_trouble(status),
    )


def _trouble(status: Json) -> str:
    """Why a pod does not run: no node takes it, or a container waits for more than its start."""
    for each in status.get("conditions", ()):
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return f"{each.get('reason', 'Unschedulable')}: {each.get('message', '')}"[:_LONGEST_TROUBLE]
    waiting = (each.get("state", {}).get("waiting", {}) for each in status.get("containerStatuses") or ())
    reasons = dict.fromkeys(each.get("reason", "") for each in waiting)
    return ", ".join(
        reason for reason in reasons if reason not in ("", "ContainerCreating", "PodInitializing")
    )


def cache_service(item: Json, known: CachedService | None) -> CachedService | None:
    """How the Service is cached at which an installation takes mail; others are not."""
    labels = item["metadata"].get("labels", {})
    if labels.get("app.kubernetes.io/component") != "smtp":
        return None
    ingress = item.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    addresses = tuple(each["ip"] for each in ingress if each.get("ip"))
    return CachedService(labels.get("app.kubernetes.io/instance", ""), addresses) if addresses else None


def cache_namespace(item: Json, known: CachedNamespace | None) -> CachedNamespace:
    """How a namespace is cached."""
    meta = item["metadata"]
    return CachedNamespace(meta.get("labels", {}), "deletionTimestamp" in meta)
