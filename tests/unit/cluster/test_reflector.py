"""What is known of a collection stays what the API server holds, whatever becomes of lists and watches."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from mail_operator.cluster import reflector
from mail_operator.cluster.client import ApiClient, ApiError
from mail_operator.cluster.reflector import Key, Reflector, Source

Json = dict[str, Any]
GONE = ApiError(410, "Expired", "too old resource version")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting after errors."""
    monkeypatch.setattr(reflector, "FIRST_BACKOFF_SECONDS", 0.001)


def thing(name: str, version: int, **content: Any) -> Json:
    """An object; `value` is what is cached of it."""
    return {"metadata": {"namespace": "t", "name": name, "resourceVersion": str(version)}, **content}


def event(type_: str, item: Json) -> Json:
    return {"type": type_, "object": item}


class Scripted(ApiClient):
    """Answers lists, page by page, and watches as it is told; a watch too many never says anything."""

    def __init__(self, pages: Sequence[Json], watches: Sequence[Sequence[Json | Exception]]) -> None:
        self.pages, self.watches = list(pages), list(watches)
        self.continued: list[str] = []  # from where pages were asked for
        self.versions: list[str] = []  # from which it was watched
        self.renewed = 0
        self.over = asyncio.Event()

    async def get(self, path: str, *, metadata_only: bool = False, **query: str) -> Json:
        self.continued.append(query.get("continue", ""))
        return self.pages.pop(0)

    def renew(self) -> None:
        self.renewed += 1

    @asynccontextmanager
    async def watch(
        self, path: str, *, metadata_only: bool, seconds: int, **query: str
    ) -> AsyncIterator[Any]:
        self.versions.append(query["resourceVersion"])
        if not self.watches:
            self.over.set()
            await asyncio.Event().wait()
        told = self.watches.pop(0)
        if told and isinstance(told[0], ApiError):
            raise told[0]
        yield _events(told)


async def _events(told: Sequence[Json | Exception]) -> AsyncIterator[Json]:
    for each in told:
        if isinstance(each, Exception):
            raise each
        yield each


def page(version: int, *items: Json, going_on: str = "") -> Json:
    """An answer to a list."""
    return {"metadata": {"resourceVersion": str(version), "continue": going_on}, "items": list(items)}


class Followed:
    """What a reflector knows and told when a script was over."""

    def __init__(self, pages: Sequence[Json], *watches: Sequence[Json | Exception]) -> None:
        self.told: list[str] = []
        self.log: list[str] = []
        asyncio.run(self._run(pages, watches))

    async def _run(self, pages: Sequence[Json], watches: Sequence[Sequence[Json | Exception]]) -> None:
        self.client = client = Scripted(pages, watches)

        def keep(item: Json, known: int | None) -> int | None:
            value: int = item["value"]
            return value

        def changed(key: Key) -> None:
            self.told.append(key[1])

        made = Reflector(client, Source("/things"), keep, changed, self.log.append)
        task = asyncio.create_task(made.run())
        async with asyncio.timeout(20):
            await client.over.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        self.objects = {name: value for (_, name), value in made.objects.items()}


BEFORE = page(5, thing("stays", 1, value=1), thing("goes", 2, value=2), thing("changes", 3, value=3))
AFTER = page(9, thing("stays", 1, value=1), thing("changes", 7, value=4), thing("comes", 8, value=5))


@pytest.mark.parametrize(
    "lost",
    [GONE, event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"})],
    ids=["at once", "under way"],
)
def test_a_watch_that_lost_its_place_lists_again_and_sees_what_was_deleted(lost: Any) -> None:
    found = Followed([BEFORE, AFTER], [lost])
    assert found.objects == {"stays": 1, "changes": 4, "comes": 5}
    assert sorted(found.told[:3]) == ["changes", "goes", "stays"]
    assert sorted(found.told[3:]) == ["changes", "comes", "goes"], "of what is as before nothing is told"
    assert found.client.versions == ["5", "9"]


def test_a_list_in_pages_is_one_list() -> None:
    pages = [page(5, thing("one", 1, value=1), going_on="more"), page(5, thing("two", 2, value=2))]
    found = Followed(pages)
    assert found.objects == {"one": 1, "two": 2} and found.client.continued == ["", "more"]


def test_events_are_followed_and_each_is_told() -> None:
    events = [
        event("ADDED", thing("comes", 6, value=6)),
        event("MODIFIED", thing("changes", 7, value=7)),
        event("MODIFIED", thing("stays", 8, value=1)),
        event("DELETED", thing("goes", 9, value=2)),
    ]
    found = Followed([BEFORE], events)
    assert found.objects == {"stays": 1, "changes": 7, "comes": 6}
    assert found.told[3:] == ["comes", "changes", "goes"]


def test_a_watch_that_ends_or_breaks_goes_on_from_where_it_came_to() -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "20"}})
    added = event("ADDED", thing("comes", 30, value=6))
    broken: list[Json | Exception] = [added, aiohttp.ClientPayloadError("cut")]
    found = Followed([BEFORE], [bookmark], broken, [aiohttp.SocketTimeoutError()])
    assert found.client.versions == ["5", "20", "30", "30"]
    assert found.objects == {"stays": 1, "goes": 2, "changes": 3, "comes": 6}


def test_other_errors_change_nothing_and_one_of_credentials_has_them_renewed() -> None:
    found = Followed([BEFORE], [ApiError(500, "", "")], [ApiError(401, "Unauthorized", "")])
    assert found.objects == {"stays": 1, "goes": 2, "changes": 3}
    assert found.client.versions == ["5", "5", "5"] and found.client.renewed == 1


def test_what_cannot_be_read_stays_as_it_was_and_hinders_nobody() -> None:
    events = [event("MODIFIED", thing("changes", 6)), event("ADDED", thing("comes", 7, value=7))]
    found = Followed([BEFORE], events)
    assert found.objects == {"stays": 1, "goes": 2, "changes": 3, "comes": 7}
    assert [line for line in found.log if "t/changes cannot be read" in line]
    relisted = page(9, thing("stays", 1, value=1), thing("changes", 7), thing("new", 8))
    assert Followed([BEFORE, relisted], [GONE]).objects == {"stays": 1, "changes": 3}
