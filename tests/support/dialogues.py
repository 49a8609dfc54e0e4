"""Plays written dialogues against a session without a socket, a disk or a Dovecot.

A dialogue is a text file of lines:
  # text          a comment; the first one says what is right, and why
  on NAME         connect: smtp, submission, submissions (these two with TLS on, and EHLO said)
  login           AUTH PLAIN as info@a.test; the answer is 235
  C: text         send text and CRLF. Escapes: \\xff \\r \\n \\\\ ; {600*(} repeats; c: sends without CRLF
  S: 250          the next reply (its last line) must begin with that; `S: 250|550` allows either
  D: text         send text (escapes as above, \\n becomes CRLF), then CRLF . CRLF
  closed          the server must have closed the connection
  mail TEXT       a mail that holds TEXT was stored;  `no mail TEXT`: none was
  has TEXT / lacks TEXT   of the mail found last
"""

import asyncio
import base64
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import (
    Account,
    AccountId,
    Address,
    AddressEntry,
    Domain,
    DomainName,
    Server,
)
from mailpods.dns.names import Names
from mailpods.identity.dovecot import DovecotAuth, Login
from mailpods.reception.session import Session
from mailpods.reception.state import ReceptionState
from mailpods.reception.timeouts import Timeouts
from mailpods.rules.connection_limits import ConnectionLimits
from mailpods.smtp.listeners import LISTENERS
from mailpods.smtp.tls import Certificate
from mailpods.spool.message import Envelope, MessageId
from mailpods.spool.spool import Spool

USER, PASSWORD = "info@a.test", "correct-horse-1"
SERVER = Server("mail.example.org", sender_must_match=True, direct=True)
ADDRESSES = {
    Address("info@a.test"): AddressEntry("info", AccountId("7/info")),
    Address("anna@a.test"): AddressEntry("anna", AccountId("7/anna")),
    Address("sales@a.test"): AddressEntry("sales", targets=(Address("info@a.test"),)),
    Address("info@strasse.test"): AddressEntry("info2", AccountId("8/info")),
}
ACCOUNTS = {
    AccountId("7/maint"): Account(Address("maint@a.test"), 0),
    **{entry.account: Account(address, 0) for address, entry in ADDRESSES.items() if entry.account},
}


class Directory:
    """As much of one as sessions ask for."""

    def __init__(self, server: Server = SERVER) -> None:
        self.server = server
        self._domains = {DomainName("a.test"): Domain(7), DomainName("strasse.test"): Domain(8)}

    def domain(self, name: DomainName) -> Domain | None:
        """A domain."""
        return self._domains.get(name)

    @property
    def first_number(self) -> int | None:
        """The lowest number of a domain."""
        return 7

    def address(self, address: Address) -> AddressEntry | None:
        """An address."""
        return ADDRESSES.get(address)

    def account(self, id: AccountId) -> Account | None:
        """An account."""
        return ACCOUNTS.get(id)


class StoringSpool:
    """Keeps what it takes, in memory."""

    def __init__(self) -> None:
        self.stored: list[tuple[Envelope, bytes]] = []

    async def accept(self, envelope: Envelope, body: bytes) -> MessageId:
        """Take a message."""
        await asyncio.sleep(0)
        self.stored.append((envelope, body))
        return MessageId(f"m{len(self.stored)}")


class Authenticator:
    """Knows one account."""

    async def check(self, login: Login) -> AccountId | None:
        """As DovecotAuth.check()."""
        await asyncio.sleep(0)
        good = (login.username, login.password) == (USER.encode(), PASSWORD.encode())
        return AccountId("7/info") if good else None


class Transport(asyncio.Transport):
    """Notes what is written."""

    def __init__(self, ip: str = "192.0.2.7") -> None:
        super().__init__({"peername": (ip, 4711)})
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        """Note it."""
        self.written += bytes(data)

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def pause_reading(self) -> None:
        """Who plays waits anyway."""

    def resume_reading(self) -> None:
        """Who plays waits anyway."""


def reception(
    spool: object | None = None, server: Server = SERVER, timeouts: Timeouts | None = None
) -> ReceptionState:
    """The state that sessions share; call it within a loop."""
    limits = ConnectionLimits(1)
    limits.take_row(0)
    return ReceptionState(
        cast(DirectoryReader, Directory(server)),
        cast(Spool, spool or StoringSpool()),
        cast(DovecotAuth, Authenticator()),
        cast(Certificate, SimpleNamespace(context=None)),
        limits,
        cast(Names, None),
        timeouts,
    )


def text(raw: str) -> bytes:
    """What a line of a dialogue stands for."""
    raw = re.sub(r"\{(\d+)\*([^}]*)\}", lambda m: m[2] * int(m[1]), raw)
    out = b""
    for part in re.split(r"(\\x[0-9a-f]{2}|\\r|\\n|\\\\)", raw):
        known = {"\\r": b"\r", "\\n": b"\n", "\\\\": b"\\"}.get(part)
        if known is None and part.startswith("\\x") and len(part) == 4:
            known = bytes([int(part[2:], 16)])
        out += part.encode() if known is None else known
    return out


class Player:
    """One client."""

    def __init__(self, state: ReceptionState, ip: str = "192.0.2.7") -> None:
        self.state, self.ip = state, ip
        self.transport, self.session = Transport(ip), cast(Session, None)
        self.found = b""

    async def connect(self, name: str = "smtp") -> None:
        """Begin a session."""
        listener = LISTENERS[name.upper()]
        self.transport = Transport(self.ip)
        self.session = Session(self.state, listener, None, tls=listener.submission)
        self.session.connection_made(self.transport)
        await self.expect("220")
        if listener.submission:
            await self.say(b"EHLO client.example.net", "250")

    async def say(self, line: bytes, wanted: str) -> None:
        """A command, and what is answered."""
        self.send(line + b"\r\n")
        await self.expect(wanted)

    def send(self, data: bytes) -> None:
        """Octets."""
        self.session.data_received(data)

    async def expect(self, wanted: str) -> None:
        """The next reply must begin with one of these."""
        reply = await self.line()
        while reply[3:4] == "-":
            reply = await self.line()
        assert reply.startswith(tuple(wanted.split("|"))), f"{reply!r}, wanted {wanted}"

    async def line(self) -> str:
        """The next line; where none comes, time passes."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(15):
            looks = 0
            while b"\n" not in self.transport.written:
                assert not self.transport.closed, "the server closed the connection"
                await asyncio.sleep(0)
                looks += 1
                if looks % 100 == 0:
                    self.session.look_at_the_clock(loop.time() + looks / 20)
        line, _, self.transport.written = self.transport.written.partition(b"\n")
        return line.decode("latin-1").rstrip("\r")

    async def play(self, lines: str) -> None:
        """A dialogue."""
        for raw in lines.splitlines():
            word, _, rest = raw.partition(" ")
            if not raw or word in ("#", "wait"):
                continue
            if word == "on":
                await self.connect(rest)
            elif word == "login":
                token = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
                await self.say(b"AUTH PLAIN " + token, "235")
            elif word in ("C:", "c:"):
                self.send(text(rest) + (b"\r\n" if word == "C:" else b""))
            elif word == "S:":
                await self.expect(rest)
            elif word == "D:":
                data = re.sub(rb"(?<!\r)\n", b"\r\n", text(rest))
                self.send(re.sub(rb"(?m)^\.", b"..", data).removesuffix(b"\r\n") + b"\r\n.\r\n")
            elif word == "closed":
                assert self.transport.closed
            elif word == "mail" or raw.startswith("no mail "):
                stored = cast(StoringSpool, self.state.spool).stored
                wanted = text(rest if word == "mail" else raw[8:])
                found = [body for _, body in stored if wanted in body]
                assert bool(found) == (word == "mail"), f"{len(stored)} mails, {len(found)} with {wanted!r}"
                self.found = found[0] if found else b""
            elif word == "has":
                assert text(rest) in self.found, f"the mail lacks {rest}: {self.found!r}"
            elif word == "lacks":
                assert text(rest) not in self.found, f"the mail has {rest}: {self.found!r}"
            else:
                raise AssertionError(f"what is {raw!r}?")


def play(path: Path) -> None:
    """The dialogue of a file."""

    async def run() -> None:
        await Player(reception()).play(path.read_text())

    asyncio.run(run())
