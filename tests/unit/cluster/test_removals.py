"""With what a domain was deleted is asked of the API server; until that is known, it is unclear."""

import asyncio
from typing import Any

import pytest
from mail_operator.cluster import removals
from mail_operator.cluster.client import ApiClient, ApiError, Unreachable
from mail_operator.cluster.removals import Sweeps
from mail_operator.kinds.meta import ObjectRef

DOMAIN = ObjectRef("MailDomain", "t", "a-test")
ENDING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


class Cluster(ApiClient):
    """An API server with, or without, a namespace and a kind; at first it is away, so often."""

    def __init__(self, namespace: Any, kind: Any, away: int = 0) -> None:
        self.there, self.kind, self.away = namespace, kind, away

    async def find(self, path: str, name: str, *, metadata_only: bool = False) -> dict[str, Any] | None:
        if self.away:
            self.away -= 1
            raise Unreachable("away")
        return None if self.there is None else {"metadata": self.there}

    async def metadata(self, path: str) -> dict[str, Any]:
        if isinstance(self.kind, Exception):
            raise self.kind
        assert isinstance(self.kind, dict)
        return self.kind


@pytest.mark.parametrize(
    ("cluster", "swept"),
    [
        (Cluster({}, {}), None),
        (Cluster({}, {}, away=2), None),
        (Cluster(ENDING, {}), "its namespace t"),
        (Cluster(None, {}), "its namespace t"),
        (Cluster({}, ENDING), "its kind, MailDomain"),
        (Cluster({}, ApiError(404, "NotFound", "")), "its kind, MailDomain"),
    ],
)
def test_what_a_domain_goes_with(
    cluster: Cluster, swept: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removals, "_RETRY_SECONDS", 0.001)

    async def ask() -> None:
        known = asyncio.Event()
        sweeps = Sweeps(cluster, lambda ref: known.set(), lambda text: None)
        assert sweeps.of({DOMAIN: "uid"}) == ({}, {DOMAIN})
        async with asyncio.timeout(20):
            await known.wait()
        assert sweeps.of({DOMAIN: "uid"}) == ({DOMAIN: swept} if swept else {}, set())
        assert sweeps.of({DOMAIN: "another"})[1] == {DOMAIN}, "of another of that name nothing is known"

    asyncio.run(ask())
