"""Which pods hold up a rollout, and that no others are evicted."""

import asyncio
import datetime
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from mail_operator.cluster import rollouts
from mail_operator.cluster.cached import CachedPod
from mail_operator.cluster.client import ApiClient
from mail_operator.cluster.rollouts import stuck, unblock

NOW = datetime.datetime(2026, 1, 1, 12, 0, 0, tzinfo=datetime.UTC)
STUCK = CachedPod(
    "uid", "main", "store", "0", "", False, False, revision="wrong", since="2026-01-01T11:59:29Z"
)
KEY = ("t", "main-store-0")


@pytest.mark.parametrize(
    "changed",
    [
        {"ready": True},
        {"deleting": True},
        {"revision": ""},
        {"since": ""},
        {"since": "2026-01-01T11:59:31Z"},  # not half a minute ago: it may be on its way
    ],
    ids=str,
)
def test_who_is_ready_or_on_its_way_holds_up_nothing(changed: dict[str, Any]) -> None:
    assert stuck({KEY: STUCK}, NOW) == [(KEY, STUCK)]
    assert stuck({KEY: replace(STUCK, **changed)}, NOW) == []


class Cluster(ApiClient):
    """An API server with a StatefulSet of this revision."""

    def __init__(self, revision: str | None) -> None:
        self.revision = revision
        self.looks = 0
        self.twice = asyncio.Event()
        self.evicted: list[str] = []

    async def find(self, path: str, name: str, *, metadata_only: bool = False) -> dict[str, Any] | None:
        self.looks += 1
        if self.looks > 1:
            self.twice.set()
        assert name == "main-store"
        return {"status": {"updateRevision": self.revision}} if self.revision is not None else None

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.evicted.append(path)
        return {}


@pytest.mark.parametrize(("revision", "evicts"), [("right", True), ("wrong", False), (None, False)])
def test_a_pod_of_the_template_as_it_is_now_is_left_to_itself(
    revision: str | None, evicts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "LOOK_SECONDS", 0.0)

    async def looked() -> list[str]:
        cluster = Cluster(revision)
        task = asyncio.create_task(unblock(cluster, lambda: {KEY: STUCK}, lambda text: None))
        async with asyncio.timeout(20):
            await cluster.twice.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return cluster.evicted

    found = asyncio.run(looked())
    assert bool(found) == evicts
    assert set(found) <= {"/api/v1/namespaces/t/pods/main-store-0/eviction"}
