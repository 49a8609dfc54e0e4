"""What the API server holds of one kind: listed in pages, then watched, listed again where a watch lost it.

A relist is compared with what was known, so that what was deleted meanwhile is noticed. Errors change
nothing: what was known stays until the server says otherwise.
"""

import asyncio
import random
import sys
import time
from collections import ChainMap
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import aiohttp

from mail_operator.cluster.client import ApiClient, ApiError, Json
from mail_operator.engine.runtime import Unavailable

T = TypeVar("T")
Key = tuple[str, str]  # namespace, name

PAGE = 500
WATCH_SECONDS = (240, 360)
FIRST_BACKOFF_SECONDS, MOST_BACKOFF_SECONDS = 0.5, 15.0


@dataclass(frozen=True, slots=True)
class Source:
    """A collection: its path, and which of its objects: by labels, or the one of a name."""

    path: str
    labels: str = ""
    metadata_only: bool = False
    name: str = ""

    @property
    def query(self) -> dict[str, str]:
        """Parameters of list and watch."""
        query = {"labelSelector": self.labels} if self.labels else {}
        return query | ({"fieldSelector": f"metadata.name={self.name}"} if self.name else {})


class Reflector(Generic[T]):
    """`keep` makes of an object what is cached of it, given what was; None: it is not of interest.

    `changed` is told each key of which that is not equal to before.
    """

    def __init__(
        self,
        client: ApiClient,
        source: Source,
        keep: Callable[[Json, T | None], T | None],
        changed: Callable[[Key], None],
        log: Callable[[str], None],
    ) -> None:
        self._client, self._source = client, source
        self._keep, self._changed, self._log = keep, changed, log
        self._objects: dict[Key, T] = {}
        self.complete = asyncio.Event()  # the first list is in
        self.relists = 0

    def get(self, key: Key) -> T | None:
        """What is cached of an object."""
        return self._objects.get(key)

    @property
    def objects(self) -> dict[Key, T]:
        """All that is cached. It changes under way: copy what is to stay."""
        return self._objects

    async def run(self) -> None:
        """Until it is cancelled."""
        version, backoff = "", FIRST_BACKOFF_SECONDS
        while True:
            try:
                if not version:
                    version = await self._list()
                    self.complete.set()
                began = time.monotonic()
                async for reached in self._watch(version):
                    version = reached
                if time.monotonic() - began > FIRST_BACKOFF_SECONDS:
                    backoff = FIRST_BACKOFF_SECONDS
                    continue  # or else the server ends every watch at once: do not spin
            except aiohttp.SocketTimeoutError:
                # Bookmarks come only for kinds that something happened to: one may be silent for good.
                continue
            except ApiError as error:
                if error.code == 410:
                    version = ""  # too old: list again
                if error.code == 401:
                    self._client.renew()
                self._log(f"{self._source.path}: {error}")
            except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError, Unavailable) as error:
                self._log(f"{self._source.path}: {error!r}")
            await asyncio.sleep(backoff * random.uniform(0.5, 1.5))
            backoff = min(backoff * 2, MOST_BACKOFF_SECONDS)

    async def _list(self) -> str:
        """Replace what is known. Returns the version from which to watch."""
        found: dict[Key, T] = {}
        going_on = ""
        while True:
            query = {**self._source.query, "limit": str(PAGE), **({"continue": going_on} if going_on else {})}
            page = await self._client.get(
                self._source.path, metadata_only=self._source.metadata_only, **query
            )
            for item in page["items"] or ():  # null where there are none
                key = _key(item)
                cached = self._kept(item, self._objects.get(key))
                if cached is not None:
                    found[key] = cached
            going_on = page["metadata"].get("continue", "")
            if not going_on:
                break
        self.relists += 1
        before = self._objects
        differing = [key for key in found.keys() | before.keys() if found.get(key) != before.get(key)]
        self._objects = found
        for key in differing:
            self._changed(key)
        return str(page["metadata"]["resourceVersion"])

    def _kept(self, item: Json, known: T | None) -> T | None:
        try:
            return self._keep(item, known)
        except Exception as error:  # of one object that is not as any version writes it: the others go on
            self._log(f"{self._source.path}: {'/'.join(_key(item))} cannot be read: {error!r}")
            return known

    async def _watch(self, version: str) -> AsyncIterator[str]:
        """Follow. Yields the version reached, at the end too."""
        seconds = random.randint(*WATCH_SECONDS)
        source = self._source
        async with self._client.watch(
            source.path,
            metadata_only=source.metadata_only,
            seconds=seconds,
            resourceVersion=version,
            **source.query,
        ) as events:
            async for event in events:
                item = event["object"]
                if event["type"] == "ERROR":
                    raise ApiError(item.get("code", 500), item.get("reason", ""), item.get("message", ""))
                version = item["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._take(event["type"], item)
                yield version

    def _take(self, type_: str, item: Json) -> None:
        key = _key(item)
        known = self._objects.get(key)
        cached = None if type_ == "DELETED" else self._kept(item, known)
        if cached is not None:
            self._objects[key] = cached
        elif known is not None:
            del self._objects[key]
        if cached != known:
            self._changed(key)


class Reflectors(Generic[T]):
    """Those of one kind: one for the whole cluster, or one for each namespace that is watched."""

    def __init__(
        self,
        client: ApiClient,
        sources: Iterable[Source],
        keep: Callable[[Json, T | None], T | None],
        changed: Callable[[Key], None],
        log: Callable[[str], None],
    ) -> None:
        self.each = tuple(Reflector(client, source, keep, changed, log) for source in sources)

    def get(self, key: Key) -> T | None:
        """What is cached of an object."""
        return self.objects.get(key)

    @property
    def objects(self) -> Mapping[Key, T]:
        """All that is cached. It changes under way: copy what is to stay."""
        if len(self.each) == 1:
            return self.each[0].objects
        return ChainMap(*(each.objects for each in self.each))


def _key(item: Json) -> Key:
    # Ten thousand objects lie in a few namespaces: one string each.
    return sys.intern(item["metadata"].get("namespace", "")), item["metadata"]["name"]
