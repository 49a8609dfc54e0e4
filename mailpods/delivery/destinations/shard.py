"""The LMTP server of a store pod."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from mailpods.delivery.client.connection import Connection, Target
from mailpods.delivery.destinations.base import STORE_CONNECTIONS, Destination, Network
from mailpods.directory.endpoints import resolve


@dataclass(frozen=True)
class Shard(Destination):
    """Of mailboxes. Its Dovecot locks a mailbox for every delivery: each gets one message at a time."""

    number: int
    label: ClassVar[str] = "shard"
    is_remote: ClassVar[bool] = False
    is_one_per_recipient: ClassVar[bool] = True
    is_held_in_memory: bool = True
    connections: ClassVar[int] = STORE_CONNECTIONS

    @property
    def name(self) -> str:
        return f"shard-{self.number}"

    @property
    def metric(self) -> str:
        return self.name

    async def connect(self, network: Network, avoid: Collection[str] = ()) -> Connection:
        server = network.server
        host, port = resolve(server.shards[self.number].lmtp)
        return await Connection.open(Target(host, port, server.hostname, lmtp=True))


shard = lru_cache(1000)(Shard)  # asked for with each message
