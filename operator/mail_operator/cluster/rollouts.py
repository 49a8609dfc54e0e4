"""Rollouts that are stuck: a StatefulSet waits for ever for a pod of an older template that cannot start.

By itself it never replaces such a pod, not even when its template is right again (Kubernetes documentation,
"StatefulSets: Forced rollback").
"""

import asyncio
import datetime
from collections.abc import Callable, Mapping

from mail_operator.cluster.cached import CachedPod
from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.kinds import collection, path
from mail_operator.cluster.reflector import Key
from mail_operator.engine.runtime import Unavailable
from mail_operator.kinds.meta import ObjectRef

LOOK_SECONDS = 10.0
STUCK_SECONDS = 30.0  # that a pod of an older template was not ready


def stuck(pods: Mapping[Key, CachedPod], now: datetime.datetime) -> list[tuple[Key, CachedPod]]:
    """The pods that may be: they have not been ready for a while."""
    late = (now - datetime.timedelta(seconds=STUCK_SECONDS)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        (key, pod)
        for key, pod in pods.items()
        if pod.revision and not pod.ready and not pod.deleting and pod.since and pod.since < late
    ]


async def unblock(
    client: ApiClient, pods: Callable[[], Mapping[Key, CachedPod]], log: Callable[[str], None]
) -> None:
    """Until cancelled: evict pods that are stuck, so that others are made by the template as it is now."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for (namespace, name), pod in stuck(pods(), datetime.datetime.now(datetime.UTC)):
            try:
                owner = await client.find(collection("StatefulSet", namespace), name.rpartition("-")[0])
                if owner is None or owner.get("status", {}).get("updateRevision") in (None, pod.revision):
                    continue
                body = {
                    "apiVersion": "policy/v1",
                    "kind": "Eviction",
                    "metadata": {"namespace": namespace, "name": name},
                }
                await client.create(path(ObjectRef("Pod", namespace, name), "eviction"), body)
                log(f"Pod {namespace}/{name}: evicted: made from an older template, it does not get ready")
            except Unavailable as error:
                log(f"Pod {namespace}/{name}: not evicted: {error}")
