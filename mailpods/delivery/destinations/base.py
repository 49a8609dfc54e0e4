"""What all destinations have in common, and what they need to know of the installation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar

from mailpods.delivery.client.connection import Connection
from mailpods.delivery.destinations.sts import Policies
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import Server
from mailpods.dns.resolver import Resolver

STORE_CONNECTIONS = 10  # more do not make Dovecot faster
REMOTE_CONNECTIONS = 20  # at a time, where a server takes so many


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are for other servers: the name in EHLO, and the address that connections come from."""

    hello: str
    source: str | None = None

    def source_for(self, address: str) -> str | None:
        """The address, if it is of the same kind as that of the server."""
        return self.source if self.source and (":" in self.source) == (":" in address) else None


@dataclass(frozen=True)
class Network:
    """What connecting needs. `bulk`: these are the deliveries of the bulk pool."""

    reader: DirectoryReader
    dns: Callable[[], Resolver]
    bulk: bool = False
    policies: Policies | None = None
    key: str = ""  # the installation's

    @property
    def server(self) -> Server:
        """Raises LookupError before there is a directory."""
        if self.reader.server is None:
            raise LookupError("no directory")
        return self.reader.server

    @property
    def identity(self) -> Identity:
        """The bulk pool has its own, so that its reputation is its own."""
        server = self.server
        if self.bulk and server.bulk:
            return Identity(server.bulk.hostname, server.bulk.source)
        return Identity(server.hostname)


class Destination(ABC):
    """One place. Equal ones are one: they are keys of tables."""

    label: ClassVar[str]  # of metrics: remote destinations are too many to have one each
    is_remote: ClassVar[bool] = True  # another server's, and no mailbox of ours
    is_abroad: ClassVar[bool] = False  # found by MX: TLS with it is reported
    is_one_per_recipient: ClassVar[bool] = False  # one message at a time for each recipient
    is_held_in_memory: bool = False  # what it is down for waits in memory; or else it is put off
    connections: ClassVar[int] = REMOTE_CONNECTIONS

    @property
    @abstractmethod
    def name(self) -> str:
        """Tells it from all others, in logs and in the spool."""

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name

    @property
    def metric(self) -> str:
        """Its label in metrics."""
        return self.label

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of its mail servers, where rules may be about those."""
        return ()

    @abstractmethod
    async def connect(self, network: Network, avoid: Collection[str] = ()) -> Connection:
        """A connection. It is found anew at each call, for it may move.

        `avoid`: names of mail servers that did not want us a moment ago, and are asked when no other is left.
        Raises Disconnected, LookupError or ValueError where it cannot be reached now, Unwelcome where it does
        not want us now, and Undeliverable where it never will.
        """


@dataclass(frozen=True)
class Nowhere(Destination):
    """Of what leads to nobody."""

    label: ClassVar[str] = "nowhere"
    is_remote: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return "nowhere"

    async def connect(self, network: Network, avoid: Collection[str] = ()) -> Connection:
        raise LookupError("it leads nowhere")


NOWHERE = Nowhere()
