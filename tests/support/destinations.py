"""Destinations that are reached as a test wants."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar, cast

from mailpods.delivery.client.connection import Connection
from mailpods.delivery.destinations.base import STORE_CONNECTIONS, Destination, Network
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import Server
from mailpods.dns.resolver import Resolver

NETWORK = Network(
    cast(DirectoryReader, SimpleNamespace(server=Server("mail.a.test"))), lambda: cast(Resolver, None)
)


@dataclass(frozen=True)
class Elsewhere(Destination):
    """As another's server."""

    to: Callable[[], Awaitable[Connection]]
    label: ClassVar[str] = "remote"

    @property
    def name(self) -> str:
        return "@b.test"

    async def connect(self, network: Network, avoid: Collection[str] = ()) -> Connection:
        return await self.to()


@dataclass(frozen=True)
class Here(Elsewhere):
    """As a shard."""

    label: ClassVar[str] = "shard-0"
    is_one_per_recipient: ClassVar[bool] = True
    is_held_in_memory: bool = True
    connections: ClassVar[int] = STORE_CONNECTIONS
