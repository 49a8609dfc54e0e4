"""Volumes that grow: StatefulSets refuse a change of their claim templates, so they are made anew, pods kept.

The claims grow first, which the storage class must allow; then the StatefulSet goes without its pods
(propagation Orphan), and the next round makes it anew around them.
"""

import re
from collections.abc import Mapping
from typing import Any

from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.kinds import collection, path, ref_of
from mail_operator.kinds.meta import ObjectRef
from mail_operator.kinds.values import quantity_bytes

_CLAIM = "PersistentVolumeClaim"


async def grow(client: ApiClient, manifest: Mapping[str, Any]) -> bool:
    """Grow the claims of a StatefulSet that wants larger ones, and take it away, so that it is made anew.

    Returns False where that is not what it wants: it was refused for something else. Raises Unavailable, also
    where the storage class does not allow it; the StatefulSet is then left as it is.
    """
    ref = ref_of(manifest)
    there = await client.find(collection(ref.kind, ref.namespace), ref.name)
    if there is None:
        return False
    texts = _requests(manifest)
    wanted, held = _sizes(texts), _sizes(_requests(there))
    larger = {volume for volume in wanted.keys() & held.keys() if wanted[volume] > held[volume]}
    if not larger or wanted.keys() != held.keys() or any(wanted[v] < held[v] for v in wanted):
        return False
    labels = ",".join(f"{k}={v}" for k, v in manifest["spec"]["selector"]["matchLabels"].items())
    found = await client.get(collection(_CLAIM, ref.namespace), labelSelector=labels)
    for claim in found["items"]:
        name, requests = claim["metadata"]["name"], claim["spec"]["resources"]["requests"]
        names = (v for v in larger if re.fullmatch(rf"{re.escape(v)}-{re.escape(ref.name)}-[0-9]+", name))
        of = next(names, None)
        if of and quantity_bytes(str(requests["storage"])) < wanted[of]:
            body = {"spec": {"resources": {"requests": {"storage": texts[of]}}}}
            await client.merge(path(ObjectRef(_CLAIM, ref.namespace, name)), body)
    await client.delete(path(ref), orphan=True)
    return True


def _requests(workload: Mapping[str, Any]) -> dict[str, str]:
    """Name of each claim template -> quantity."""
    return {
        claim["metadata"]["name"]: str(claim["spec"]["resources"]["requests"]["storage"])
        for claim in workload["spec"].get("volumeClaimTemplates", ())
    }


def _sizes(requests: Mapping[str, str]) -> dict[str, int]:
    """The same in bytes."""
    return {name: quantity_bytes(text) for name, text in requests.items()}
