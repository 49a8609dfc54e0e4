"""Of an object's finalizers the operator takes its own, and of just the version that it has seen."""

import asyncio
from collections.abc import Mapping
from typing import Any

from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.runtime import ClusterRuntime
from mail_operator.engine.runtime import FINALIZER
from mail_operator.kinds.meta import ObjectRef


class Cluster(ApiClient):
    """An API server with one domain that others hold, too."""

    def __init__(self) -> None:
        self.written: list[Any] = []

    async def find(self, path: str, name: str, *, metadata_only: bool = False) -> dict[str, Any] | None:
        return {"metadata": {"finalizers": ["backup/a", FINALIZER, "backup/b"], "resourceVersion": "5"}}

    async def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.written.append(body)
        return {}


def test_finalizers_of_others_stay() -> None:
    cluster = Cluster()
    runtime = ClusterRuntime(cluster, "image", print)
    asyncio.run(runtime.release(ObjectRef("MailDomain", "t", "a-test")))
    assert cluster.written == [{"metadata": {"finalizers": ["backup/a", "backup/b"], "resourceVersion": "5"}}]
