"""A spool and its deliverer among mail servers that do as a test wants, in one process."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from mailpods.delivery.queues.manager import QueueManager
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import (
    Account,
    AccountId,
    Address,
    AddressEntry,
    Bucket,
    Domain,
    DomainName,
    Route,
    Server,
    Shard,
    Smarthost,
)
from mailpods.directory.shards import SERVER_FILE, encode, encode_server, file_name
from mailpods.dns.resolver import Resolvers
from mailpods.spool.message import Envelope, MessageId, Recipient
from mailpods.spool.spool import Spool
from mailpods.spool.view import QueueView
from tests.support.peer import Peer, peer

Behaviour = dict[str, Any]  # fields of a Peer
INFO = AccountId("7/info")
ENTRIES = {
    Address("info@a.test"): AddressEntry("Mailbox t/info", INFO),
    Address("both@a.test"): AddressEntry(
        "MailAlias t/both", targets=(Address("info@a.test"), Address("x@far.test"))
    ),
}


def directory(folder: Path, peers: dict[str, Peer], store: Peer, **server: object) -> DirectoryReader:
    """A directory whose delivery rules lead the domains to the peers."""
    routes = tuple(
        Route(domain, recipient=domain, via=Smarthost("127.0.0.1", each.port, "none", *credentials))
        for domain, each in peers.items()
        for credentials in [("user", "wrong") if "AUTH" in each.says else ()]
    )
    shard = Shard(f"127.0.0.1:{store.port}", "127.0.0.1:1")
    record = Server("mx.a.test", routes=routes, shards=(shard,), direct=True, **server)  # type: ignore[arg-type]
    accounts = {INFO: Account(Address("info@a.test"), 0)}
    bucket = Bucket({DomainName("a.test"): Domain(7)}, ENTRIES, accounts)
    folder.mkdir(exist_ok=True)
    (folder / SERVER_FILE).write_bytes(encode_server(record))
    (folder / file_name(0)).write_bytes(encode(bucket))
    reader = DirectoryReader(folder, 1)
    reader.refresh()
    return reader


class Harness:
    """A spool and its deliverer, which may be started again."""

    def __init__(self, folder: Path, reader: DirectoryReader) -> None:
        self._folder, self.reader = folder / "spool", reader
        self.log: list[str] = []
        self.spool = Spool.open(self._folder)
        self.manager: QueueManager | None = None

    def start(self) -> None:
        dns = Resolvers(self.reader)
        self.manager = QueueManager(self.reader, self.spool, dns, self.log.append, key="key")
        self.manager.start()

    async def stop(self) -> None:
        if self.manager:
            await self.manager.stop(0)
            self.manager = None
        self.spool.close()

    async def take(
        self,
        *to: str,
        account: str | None = "7/info",
        sender: str = "info@a.test",
        at: float | None = None,
    ) -> MessageId:
        envelope = Envelope(
            sender,
            tuple(Recipient(Address(each)) for each in to),
            at or time.time(),
            account=AccountId(account) if account else None,
        )
        return await self.spool.accept(envelope, f"Subject: to {to[0]}\r\n\r\nhello\r\n".encode())

    def look_again(self, most: int) -> None:
        """At so many of what is due, as the sweep does."""
        assert self.manager
        found, _ = self.spool.schedule.due(0, time.time(), most)
        self.manager._scheduler.forget()
        self.manager._scheduler.note(found, time.time())

    @property
    def queue(self) -> list[dict[str, object]]:
        return QueueView(self._folder).queue({})


@asynccontextmanager
async def harness(
    tmp_path: Path, peers: dict[str, Peer], store: Peer, **server: object
) -> AsyncIterator[Harness]:
    made = Harness(tmp_path, directory(tmp_path / "directory", peers, store, **server))
    try:
        yield made
    finally:
        await made.stop()


async def until(what: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.01)


def run(
    tmp_path: Path,
    use: Callable[[Harness, dict[str, Peer], Peer], Awaitable[None]],
    domains: Sequence[str] = ("far.test",),
    **behaviour: Behaviour,
) -> None:
    """Run a scenario with a peer for each domain, one of which may behave in its own way, and a store."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            peers = {
                name: await stack.enter_async_context(peer(**behaviour.get(name.partition(".")[0], {})))
                for name in domains
            }
            store = await stack.enter_async_context(peer())
            async with harness(tmp_path, peers, store) as made:
                await use(made, peers, store)

    asyncio.run(scenario())
