"""Volumes that grow, and what else a StatefulSet may be refused for."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from mail_operator.cluster.applier import Applier
from mail_operator.cluster.client import ApiClient, ApiError
from mail_operator.kinds.meta import ObjectRef

MAIN = ObjectRef("MailServer", "mail", "main")
STORE = ObjectRef("StatefulSet", "mail", "main-store")
LABELS = {"app.kubernetes.io/instance": "main", "app.kubernetes.io/component": "store"}
FORBIDDEN = ApiError(422, "Invalid", "spec: Forbidden: updates to statefulset spec", ["spec"])


def statefulset(**sizes: str) -> dict[str, Any]:
    """One with such volumes."""
    claims = [
        {"metadata": {"name": name}, "spec": {"resources": {"requests": {"storage": size}}}}
        for name, size in sizes.items()
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "main-store", "namespace": "mail", "labels": LABELS},
        "spec": {"selector": {"matchLabels": LABELS}, "volumeClaimTemplates": claims},
    }


class Cluster(ApiClient):
    """An API server that holds a StatefulSet, of which it lets nobody change the claims."""

    def __init__(self, there: dict[str, Any], claims: Mapping[str, str], expandable: bool = True) -> None:
        self.there: dict[str, Any] | None = there
        self.claims = dict(claims)
        self.expandable = expandable
        self.labels = ""

    async def find(self, path: str, name: str, *, metadata_only: bool = False) -> dict[str, Any] | None:
        if metadata_only or self.there is None:
            return None
        return self.there

    async def get(self, path: str, *, metadata_only: bool = False, **query: str) -> dict[str, Any]:
        self.labels = query["labelSelector"]
        spec = {name: {"resources": {"requests": {"storage": size}}} for name, size in self.claims.items()}
        return {"items": [{"metadata": {"name": name}, "spec": each} for name, each in spec.items()]}

    async def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if not self.expandable:
            raise ApiError(403, "Forbidden", "the storageclass must support resize")
        self.claims[path.rpartition("/")[2]] = body["spec"]["resources"]["requests"]["storage"]
        return {}

    async def delete(self, path: str, *, orphan: bool = False) -> None:
        assert orphan, "its pods would go"
        self.there = None

    async def apply(
        self, path: str, body: Mapping[str, Any], *, force: bool = True, manager: str = ""
    ) -> dict[str, Any]:
        if self.there is not None:
            raise FORBIDDEN
        self.there = {**body, "metadata": {**body["metadata"], "resourceVersion": "2", "uid": "new"}}
        return self.there


def rounds(cluster: Cluster, manifest: dict[str, Any]) -> list[tuple[bool, str]]:
    """Two rounds: what was written, and what was said of it."""
    log: list[str] = []

    async def restored(*what: object) -> None: ...

    applier = Applier(cluster, lambda ref: None, restored, log.append)

    async def run() -> list[tuple[bool, str]]:
        said = []
        for _ in range(2):
            written = await applier.apply([manifest], {MAIN: "uid"})
            verdict = applier.failed.get(STORE)
            said.append((STORE in written, verdict.message if verdict else ""))
        return said

    return asyncio.run(run())


def test_larger_volumes_grow_and_the_statefulset_is_made_anew_around_its_pods() -> None:
    claims = {
        "mail-main-store-0": "10Gi",
        "mail-main-store-1": "30Gi",
        "mail-main-store-x-0": "1Gi",
        "other": "1Gi",
    }
    cluster = Cluster(statefulset(mail="10Gi", state="1Gi"), claims)
    first, second = rounds(cluster, statefulset(mail="20Gi", state="1Gi"))
    assert first[0] is False and "volumes grow" in first[1]
    assert second == (True, "")
    assert cluster.claims == claims | {"mail-main-store-0": "20Gi"}
    assert cluster.labels == "app.kubernetes.io/instance=main,app.kubernetes.io/component=store"


@pytest.mark.parametrize(
    "wanted", [{"mail": "10Gi"}, {"mail": "9Gi"}, {"mail": "20Gi", "more": "1Gi"}, {"post": "20Gi"}], ids=str
)
def test_a_statefulset_that_is_refused_for_something_else_stays(wanted: dict[str, str]) -> None:
    cluster = Cluster(statefulset(mail="10Gi"), {"mail-main-store-0": "10Gi"})
    for written, said in rounds(cluster, statefulset(**wanted)):
        assert not written and "Forbidden" in said
    assert cluster.there == statefulset(mail="10Gi") and cluster.claims == {"mail-main-store-0": "10Gi"}


def test_a_class_that_cannot_grow_leaves_the_statefulset_and_says_so() -> None:
    cluster = Cluster(statefulset(mail="10Gi"), {"mail-main-store-0": "10Gi"}, expandable=False)
    for written, said in rounds(cluster, statefulset(mail="20Gi")):
        assert not written and "must support resize" in said
    assert cluster.there is not None
