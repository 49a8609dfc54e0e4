"""Where the API server keeps what: the paths of collections, objects and subresources."""

from collections.abc import Mapping, Sequence
from typing import Any

from mail_operator.cluster.reflector import Source
from mail_operator.kinds import KINDS
from mail_operator.kinds.meta import API_VERSION, ObjectRef

# Kind -> its API group and version, and its plural, of what a Plan holds beside the custom resources.
BUILT_IN = {
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "Pod": ("v1", "pods"),
    "Event": ("v1", "events"),
    "Namespace": ("v1", "namespaces"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "Deployment": ("apps/v1", "deployments"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "Certificate": ("cert-manager.io/v1", "certificates"),
}
CHILDREN = ("Service", "StatefulSet", "Deployment", "NetworkPolicy", "PodDisruptionBudget")


def collection(kind: str, namespace: str = "") -> str:
    """The path of all objects of a kind, or of those of a namespace."""
    version, plural = (API_VERSION, KINDS[kind].plural) if kind in KINDS else BUILT_IN[kind]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def sources(
    kind: str, namespaces: Sequence[str] = (), labels: str = "", metadata_only: bool = False
) -> list[Source]:
    """Where to list and watch a kind: in the whole cluster, or in some namespaces; or those themselves."""
    if not namespaces:
        return [Source(collection(kind), labels, metadata_only)]
    if kind == "Namespace":
        return [Source(collection(kind), labels, metadata_only, name) for name in namespaces]
    return [Source(collection(kind, namespace), labels, metadata_only) for namespace in namespaces]


def path(ref: ObjectRef, subresource: str = "") -> str:
    """The path of one object."""
    return f"{collection(ref.kind, ref.namespace)}/{ref.name}" + (f"/{subresource}" if subresource else "")


def ref_of(manifest: Mapping[str, Any]) -> ObjectRef:
    """The name of the object that a manifest describes."""
    meta = manifest["metadata"]
    return ObjectRef(manifest["kind"], meta.get("namespace", ""), meta["name"])
