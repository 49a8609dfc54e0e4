"""Slow clients are sent away when their time is up, and nobody else is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import (
    Account,
    AccountId,
    Address,
    AddressEntry,
    Bucket,
    Domain,
    DomainName,
    Server,
)
from mailpods.directory.shards import SERVER_FILE, encode, encode_server, file_name
from mailpods.dns.names import Names
from mailpods.dns.resolver import Resolvers
from mailpods.identity.dovecot import DovecotAuth
from mailpods.reception.session import Session
from mailpods.reception.state import ReceptionState
from mailpods.reception.timeouts import Timeouts
from mailpods.rules.connection_limits import ConnectionLimits
from mailpods.smtp.listeners import Listener
from mailpods.smtp.tls import Certificate
from mailpods.spool.spool import Spool

HURRIED = Timeouts(command=1.5, data=1.5, refused=1, handshake=1)


@asynccontextmanager
async def serving(folder: Path, timeouts: Timeouts) -> AsyncIterator[int]:
    """The sessions of one worker on a free port."""
    address, account = Address("info@a.test"), AccountId("7/info")
    bucket = Bucket(
        {DomainName("a.test"): Domain(7)},
        {address: AddressEntry("test", account)},
        {account: Account(address, 0)},
    )
    for name in ("directory", "spool"):
        (folder / name).mkdir()
    (folder / "directory" / SERVER_FILE).write_bytes(
        encode_server(Server("mx.a.test", max_message_bytes=10_000))
    )
    (folder / "directory" / file_name(0)).write_bytes(encode(bucket))
    reader = DirectoryReader(folder / "directory", 1)
    reader.refresh()
    spool = Spool.open(folder / "spool")
    clients = ConnectionLimits(1)
    clients.take_row(0)
    names = Names(Resolvers(reader))
    certificate = Certificate(folder, print)
    state = ReceptionState(
        reader, spool, DovecotAuth("/nonexistent", print), certificate, clients, names, timeouts
    )
    listener = Listener("smtp")
    server = await state.loop.create_server(lambda: Session(state, listener), "127.0.0.1", 0)
    watch = asyncio.create_task(state.sessions.watch())
    yield server.sockets[0].getsockname()[1]
    watch.cancel()
    server.close()
    spool.close()


async def said_at_the_end(port: int, *lines: bytes, dribble: bytes = b"") -> bytes:
    """What the server says last to a client that sends lines, then a byte twice a second, until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(line + b"\r\n" for line in lines))

    async def trickle() -> None:
        while dribble:
            writer.write(dribble)
            await asyncio.sleep(0.5)

    trickling = asyncio.create_task(trickle())
    last = b""
    try:
        async with asyncio.timeout(15):
            # A byte that crosses the server's goodbye is answered by a reset.
            with suppress(ConnectionResetError):
                while line := await reader.readline():
                    last = line
    finally:
        trickling.cancel()
        writer.close()
    return last


ENVELOPE = (b"EHLO x.example", b"MAIL FROM:<x@b.test>", b"RCPT TO:<info@a.test>", b"DATA")


def test_slow_clients_have_to_go(tmp_path: Path) -> None:
    async def run() -> tuple[bytes, ...]:
        async with serving(tmp_path, HURRIED) as port:
            return await asyncio.gather(
                said_at_the_end(port),  # never says anything
                said_at_the_end(port, b"EHLO x.example", dribble=b"N"),  # a command that never ends
                said_at_the_end(port, *ENVELOPE),  # a message that does not come
                said_at_the_end(port, *ENVELOPE, b"a\nb"),  # refused already, and does not end
            )

    silent, slow_command, no_text, refused = asyncio.run(run())
    assert silent.startswith(b"421 4.4.2")
    assert slow_command.startswith(b"421 4.4.2")
    assert no_text.startswith(b"421 4.4.2")
    assert refused.startswith(b"554 5.6.0")


def test_a_message_that_dribbles_on_has_a_deadline_too(tmp_path: Path) -> None:
    class Hasty(Timeouts):
        def message(self, limit: int) -> float:
            return 2.5

    async def run() -> bytes:
        async with serving(tmp_path, Hasty()) as port:
            return await said_at_the_end(port, *ENVELOPE, dribble=b"x")

    assert asyncio.run(run()).startswith(b"421 4.4.2")
