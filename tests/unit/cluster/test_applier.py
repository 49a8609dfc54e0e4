"""What is applied and when: what differs, in order, and nothing of somebody else's."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from mail_operator.cluster import kinds
from mail_operator.cluster.applier import Applier
from mail_operator.cluster.cached import CachedChild, cache_child
from mail_operator.cluster.client import ApiClient
from mail_operator.kinds.meta import ObjectRef

Json = dict[str, Any]
MAIN = ObjectRef("MailServer", "mail", "main")
OWNERS = {MAIN: "uid"}
SECRET, SERVICE = ObjectRef("Secret", "mail", "main-x"), ObjectRef("Service", "mail", "main-x")


def manifest(ref: ObjectRef, **content: Any) -> Json:
    labels = {"app.kubernetes.io/instance": "main"}
    meta = {"name": ref.name, "namespace": ref.namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": ref.kind, "metadata": meta, **content}


FILES = manifest(SECRET, data={"a": b"1"})
PORTS = manifest(SERVICE, spec={"ports": []})


class Cluster(ApiClient):
    """An API server that holds objects; `watched` is what the operator has seen of it."""

    def __init__(self) -> None:
        self.items: dict[str, Json] = {}
        self.applied: list[str] = []
        self.deleted: list[str] = []
        self.watched: dict[ObjectRef, CachedChild] = {}
        self.version = 0
        self.applier = self.restarted()

    def restarted(self) -> Applier:
        """Another operator."""

        async def restored(*what: object) -> None: ...

        self.applier = Applier(self, self.watched.get, restored, print)
        return self.applier

    def put(self, ref: ObjectRef, item: Json) -> Json:
        """As somebody does."""
        self.version += 1
        meta = {**item["metadata"], "resourceVersion": str(self.version)}
        self.items[kinds.path(ref)] = {**item, "metadata": meta}
        return self.items[kinds.path(ref)]

    def see(self, *refs: ObjectRef) -> None:
        """The watch brings what there is of them."""
        for ref in refs:
            if item := self.items.get(kinds.path(ref)):
                self.watched[ref] = cache_child(item, None)
            else:
                self.watched.pop(ref, None)
                self.applier.removed(ref)

    async def apply(
        self, path: str, body: Mapping[str, Any], *, force: bool = True, manager: str = ""
    ) -> Json:
        ref = ObjectRef(body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        self.applied.append(ref.kind)
        return self.put(ref, dict(body))

    async def find(self, path: str, name: str, *, metadata_only: bool = False) -> Json | None:
        return self.items.get(f"{path}/{name}")

    async def get(self, path: str, *, metadata_only: bool = False, **query: str) -> Json:
        return self.items[path]

    async def delete(self, path: str, *, orphan: bool = False) -> None:
        self.deleted.append(path)

    def round(self, *manifests: Json) -> list[str]:
        """The kinds that were applied, in order."""
        self.applied = []
        asyncio.run(self.applier.apply(manifests, OWNERS))
        return self.applied


def test_secrets_come_first_and_what_is_there_is_not_applied_again() -> None:
    cluster = Cluster()
    assert cluster.round(PORTS, FILES) == ["Secret", "Service"]
    assert cluster.round(PORTS, FILES) == [], "though the watch has brought nothing yet"
    cluster.see(SECRET, SERVICE)
    assert cluster.round(PORTS, FILES) == []
    cluster.restarted()
    assert cluster.round(PORTS, FILES) == []
    assert cluster.round(PORTS, manifest(SECRET, data={"a": b"2"})) == ["Secret"]


def test_what_somebody_deletes_or_changes_comes_back() -> None:
    cluster = Cluster()
    cluster.round(PORTS)
    cluster.see(SERVICE)
    del cluster.items[kinds.path(SERVICE)]
    cluster.see(SERVICE)
    assert cluster.round(PORTS) == ["Service"]
    cluster.see(SERVICE)
    ours = cluster.items[kinds.path(SERVICE)]
    cluster.put(SERVICE, {**ours, "spec": {"ports": [{"port": 1}]}})  # with the hash that it had
    assert cluster.round(PORTS) == []
    cluster.see(SERVICE)
    assert cluster.round(PORTS) == ["Service"]


def test_what_somebody_else_made_is_neither_overwritten_nor_deleted() -> None:
    cluster = Cluster()
    cluster.put(SERVICE, PORTS)
    for seen in (False, True):
        if seen:
            cluster.see(SERVICE)
        assert cluster.round(PORTS) == []
        assert cluster.applier.failed[SERVICE].reason == "ObjectForeign"
    assert asyncio.run(cluster.applier.prune([SERVICE])) and not cluster.deleted


def test_what_was_applied_and_is_not_wanted_any_more_goes() -> None:
    cluster = Cluster()
    cluster.round(PORTS)
    cluster.see(SERVICE)
    assert asyncio.run(cluster.applier.prune([SERVICE, SECRET]))
    assert cluster.deleted == [kinds.path(SERVICE)]


def test_after_a_restart_the_content_of_secrets_counts_and_not_what_they_say() -> None:
    cluster = Cluster()
    cluster.round(FILES)
    ours = cluster.items[kinds.path(SECRET)]
    assert ours["data"] == {"a": base64.b64encode(b"1").decode()}
    for data, again in ((ours["data"], []), ({}, ["Secret"])):
        cluster.put(SECRET, {**ours, "data": data})
        cluster.see(SECRET)
        asyncio.run(cluster.restarted().verify([FILES]))
        assert cluster.round(FILES) == again


def test_of_a_server_that_is_not_there_nothing_is_applied() -> None:
    cluster = Cluster()
    assert asyncio.run(cluster.applier.apply([PORTS], {})) == set() and not cluster.applied
