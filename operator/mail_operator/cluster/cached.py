"""What is cached of each object: little, for there may be ten thousand."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mail_operator.cluster.client import Json
from mail_operator.kinds import Invalid, Resource, load
from mail_operator.kinds.meta import API_VERSION, GROUP

FINALIZER = f"{GROUP}/wipe"  # of a MailDomain whose mail goes with it
HASH = f"{GROUP}/hash"  # annotation of what the operator applied: the hash of that


@dataclass(frozen=True, slots=True)
class CachedResource:
    """A custom resource. `resource` is its last valid version, None where there was none."""

    made_of: tuple[str, int, tuple[tuple[str, str], ...]]  # uid, generation, our annotations
    resource: Resource | None
    problems: tuple[tuple[str, str], ...]  # (field, sentence) of the newest version
    deleting: bool
    held: bool  # by our finalizer
    status: bytes = field(compare=False)  # JSON; our own writes are no news


@dataclass(frozen=True, slots=True)
class CachedChild:
    """What somebody applied under a name of ours. `mark` changes whenever its content may have."""

    hash: str | None
    mark: str
    version: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class CachedSecret:
    """Which version of a Secret there is, and, of one that was applied by us, its hash."""

    mark: str  # uid/resourceVersion
    hash: str | None
    version: int


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


@dataclass(frozen=True, slots=True)
class CachedService:
    """The addresses that a load balancer gave an installation's smtp pods."""

    server: str
    addresses: tuple[str, ...]


def cache_resource(kind: str) -> Callable[[Json, CachedResource | None], CachedResource]:
    """How a custom resource is cached: parsed once for each generation."""

    def keep(item: Json, known: CachedResource | None) -> CachedResource:
        meta = item["metadata"]
        annotations = {k: v for k, v in meta.get("annotations", {}).items() if k.startswith(f"{GROUP}/")}
        made_of = (meta["uid"], meta["generation"], tuple(sorted(annotations.items())))
        status = json.dumps(item.get("status", {}), separators=(",", ":")).encode()
        deleting, held = "deletionTimestamp" in meta, FINALIZER in meta.get("finalizers", ())
        if known and known.made_of == made_of:
            return CachedResource(made_of, known.resource, known.problems, deleting, held, status)
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
        return CachedResource(made_of, resource, problems, deleting, held, status)

    return keep


_META = ("name", "generation")
_SHARED = ("namespace", "creationTimestamp")  # by many objects: one string for all


def cache_child(item: Json, known: CachedChild | None) -> CachedChild:
    """How an object that was applied is cached. Where there is a generation, its status does not matter."""
    meta = item["metadata"]
    mark = str(meta.get("generation") or meta["resourceVersion"])
    return CachedChild(meta.get("annotations", {}).get(HASH), mark, int(meta["resourceVersion"]))


def cache_secret(item: Json, known: CachedSecret | None) -> CachedSecret:
    """How a Secret is cached: without its content, which is never asked for."""
    meta = item["metadata"]
    version = meta["resourceVersion"]
    return CachedSecret(f"{meta['uid']}/{version}", meta.get("annotations", {}).get(HASH), int(version))


def cache_pod(item: Json, known: CachedPod | None) -> CachedPod:
    """How a mail pod is cached."""
    meta, status = item["metadata"], item.get("status", {})
    labels: Mapping[str, Any] = meta.get("labels", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", ())}
    return CachedPod(
        uid=meta["uid"],
        server=labels.get("app.kubernetes.io/instance", ""),
        component=labels.get("app.kubernetes.io/component", ""),
        index=labels.get("apps.kubernetes.io/pod-index", ""),
        address=status.get("podIP", ""),
        ready=conditions.get("Ready") == "True",
        deleting="deletionTimestamp" in meta,
    )


def cache_service(item: Json, known: CachedService | None) -> CachedService | None:
    """How the Service is cached at which an installation takes mail; others are not."""
    labels = item["metadata"].get("labels", {})
    if labels.get("app.kubernetes.io/component") != "smtp":
        return None
    ingress = item.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    addresses = tuple(each["ip"] for each in ingress if each.get("ip"))
    return CachedService(labels.get("app.kubernetes.io/instance", ""), addresses) if addresses else None


def cache_labels(item: Json, known: dict[str, str] | None) -> dict[str, str]:
    """How a namespace is cached."""
    labels: dict[str, str] = item["metadata"].get("labels", {})
    return labels
