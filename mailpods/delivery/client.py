"""A pipelining client of SMTP (RFC 5321) and LMTP (RFC 2033), over one connection that is used again.

It is a protocol, not a reader of streams: one wait and one timer for all replies of a step, not one a line.
"""

import asyncio
import base64
import re
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple, cast

from mailpods.delivery import dane
from mailpods.directory.endpoints import is_socket
from mailpods.directory.records import TlsMode
from mailpods.dns.records import Tlsa

CONNECT_SECONDS = 30.0
REPLY_SECONDS = 300.0  # RFC 5321 §4.5.3.2 asks for five minutes, ten after the final dot
FINAL_SECONDS = 600.0
AT_ONCE_BYTES = 256 * 1024  # of a text that is sent before its recipients are known to be taken
MAX_REPLY_LINES = 100
MAX_REPLY_LINE = 65536  # bytes; RFC 5321 §4.5.3.1.5 allows 512


class TlsSession(NamedTuple):
    """An attempt to talk to another server by TLS, in the words of RFC 8460 §4.3 and §4.4."""

    policy: Literal["tlsa", "sts", "no-policy-found"]
    host: str
    result: str  # type of the failure, "" for success


class Disconnected(Exception):
    """The connection failed or was closed: nothing is known of what was not answered."""

    sessions: tuple[TlsSession, ...] = ()  # the attempts that it stands for


class TlsFailed(Disconnected):
    """The server offered TLS, and no connection came of it; `result` as in TlsSession."""

    def __init__(self, text: str, result: str) -> None:
        super().__init__(text)
        self.result = result


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its code, and its text with the lines joined by spaces. `urgent`: senders should know now."""

    code: int
    text: str
    urgent: bool = False

    @property
    def ok(self) -> bool:
        """Done."""
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        """Refused for good."""
        return 500 <= self.code < 600

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and how. `host` may be an address; `name` is then the server's.

    `tlsa`: what its certificate is held against. `tls` may be "dane": as "starttls", but nothing else is.
    """

    host: str
    port: int
    hello: str  # our name
    lmtp: bool = False
    tls: TlsMode | Literal["dane"] = "none"
    username: str | None = None
    password: str | None = None
    name: str = ""
    source: str | None = None  # our address
    tlsa: tuple[Tlsa, ...] = ()


@dataclass(frozen=True, slots=True)
class Mail:
    """One transaction. The lines of `body` end in CRLF; the flags are those of RFC 6152 and RFC 6531."""

    sender: str
    recipients: Sequence[str]
    body: bytes
    eight_bit: bool = False
    utf8: bool = False


Following = Callable[[], Mail | None]


class Refusal(Exception):
    """The server does not want to talk to us: its greeting, HELO, TLS or AUTH failed."""

    sessions: tuple[TlsSession, ...] = ()  # as of Disconnected

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class TlsMissing(Refusal):
    """It offers no TLS where that is a must."""


class LoginRefused(Refusal):
    """It does not take our user name and password."""


_DOT = re.compile(rb"(?m)^\.")


def wire(body: bytes) -> tuple[bytes, bytes]:
    """A body, whose lines end in CRLF, as it goes over the wire (RFC 5321 §4.5.2): dots doubled; its end."""
    if body.startswith(b".") or b"\n." in body:
        body = _DOT.sub(b"..", body)
    return body, b".\r\n" if body.endswith(b"\r\n") or not body else b"\r\n.\r\n"


class Connection(asyncio.Protocol):
    """An open connection. Every method may raise Disconnected; the connection is of no use then."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._lost: str | None = None  # why the connection is of no use any more
        self._inbox = b""
        self._lines: list[str] = []  # of the reply that is not complete yet
        self._said: list[str] = []  # the lines of the last complete one
        self._replies: deque[Reply] = deque()
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self._unsent = 0  # bytes, when the timer last looked
        self._announced: Mail | None = None  # was begun with the one before
        self.extensions: dict[str, str] = {}
        self.sessions: tuple[TlsSession, ...] = ()  # the attempts that led to it, itself the last
        self.reported: set[str] = set()  # domains for which those were counted

    @classmethod
    async def open(cls, target: Target, seconds: float = CONNECT_SECONDS) -> "Connection":
        """Connect, within `seconds`, and say hello. Raises Disconnected, TlsFailed, Refusal."""
        loop = asyncio.get_running_loop()
        context = _context(target) if target.tls == "tls" else None
        try:
            async with asyncio.timeout(seconds):
                if is_socket((target.host, target.port)):
                    _, connection = await loop.create_unix_connection(lambda: cls(target), target.host)
                else:
                    _, connection = await loop.create_connection(
                        lambda: cls(target),
                        target.host,
                        target.port,
                        ssl=context,
                        local_addr=(target.source, 0) if target.source else None,
                    )
        except (OSError, TimeoutError) as error:
            raise Disconnected(f"{target.host}:{target.port}: {error or 'no answer'}") from error
        try:
            await connection._begin()
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _begin(self) -> None:
        (greeting,) = await self._wait(1, REPLY_SECONDS)
        _expect(greeting)
        await self._hello()
        if self._target.tls in ("starttls", "dane", "opportunistic"):
            if "STARTTLS" in self.extensions:
                _expect(await self._command("STARTTLS"))
                await self._start_tls()
                await self._hello()
            elif self._target.tls != "opportunistic":
                raise TlsMissing(Reply(454, f"4.7.5 {self._target.host} offers no STARTTLS, and must"))
        if self._target.username is not None:
            secret = f"\0{self._target.username}\0{self._target.password or ''}".encode()
            answer = await self._command("AUTH PLAIN " + base64.b64encode(secret).decode())
            if not answer.ok:
                raise LoginRefused(answer)

    async def _start_tls(self) -> None:
        if self._inbox or self._lines or self._replies:
            raise Disconnected(f"{self._target.host} said more in clear than its answer to STARTTLS")
        transport = self._transport
        assert transport is not None
        try:
            self._transport = await self._loop.start_tls(
                transport,
                self,
                _context(self._target),
                server_hostname=self._target.name or self._target.host,
            )
            if self._target.tlsa:
                self._hold_against(self._target.tlsa)
        except (OSError, ssl.SSLError) as error:
            raise TlsFailed(f"TLS with {self._target.host}: {error}", _result(error)) from error

    def _hold_against(self, records: Sequence[Tlsa]) -> None:
        assert self._transport is not None
        chain = dane.shown(self._transport.get_extra_info("ssl_object"))
        if not dane.holds(records, chain, self._target.name):
            what = f"{self._target.name} shows a certificate that its TLSA records do not name"
            raise TlsFailed(what, "validation-failure")

    async def _hello(self) -> None:
        verb = "LHLO" if self._target.lmtp else "EHLO"
        reply = await self._command(f"{verb} {self._target.hello}")
        self.extensions = {}
        if reply.permanent and not self._target.lmtp:  # a server of before 1995 (RFC 5321 §3.2)
            _expect(await self._command(f"HELO {self._target.hello}"))
            return
        _expect(reply)
        for text in self._said[1:]:
            name, _, value = text.partition(" ")
            self.extensions[name.upper()] = value

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is on."""
        return bool(self._transport and self._transport.get_extra_info("sslcontext"))

    async def deliver(self, mail: Mail, following: Following = lambda: None) -> list[Reply]:
        """Send one message; the reply for each recipient, in their order.

        `following` is asked once the way is free behind this one: what it returns must be the next mail given
        to this method, for it may begin in the same write (RFC 2920).
        """
        announced, self._announced = self._announced is mail, None
        if unfit := self.unfit(mail):
            return [unfit] * len(mail.recipients)
        if self._goes_at_once(mail):
            return await self._at_once(mail, announced, following)
        if "PIPELINING" in self.extensions:
            if not announced:
                self._write(self._commands(mail, "DATA"))
            replies = await self._wait(len(mail.recipients) + 2, REPLY_SECONDS)
        else:
            replies = []
            for command in self._commands(mail, "DATA").splitlines(keepends=True):
                self._write(command)
                replies += await self._wait(1, REPLY_SECONDS)
                if not replies[0].ok:
                    return [replies[0]] * len(mail.recipients)
        accepted, *asked, go = replies
        if go.code != 354:
            if go.ok:
                raise Disconnected(f"answered DATA with {go}")
            await self._command("RSET")
            # Why DATA failed is the answer for those that were accepted until then.
            return [accepted if not accepted.ok else go if r.ok else r for r in asked]
        if any(reply.ok for reply in asked):
            self._write(*wire(mail.body), *self._beginning(following()))
        else:
            self._write(b".\r\n")
        return await self._finals(asked)

    def _goes_at_once(self, mail: Mail) -> bool:
        return {"PIPELINING", "CHUNKING"} <= self.extensions.keys() and len(mail.body) <= AT_ONCE_BYTES

    async def _at_once(self, mail: Mail, announced: bool, following: Following) -> list[Reply]:
        """By BDAT (RFC 3030), whose text waits for nobody's leave: a whole message in one write."""
        after = following()
        if after is not None and not self._goes_at_once(after):
            after = None  # this one may fail and leave its transaction open, in which MAIL would be refused
        self._write(*(() if announced else self._beginning(mail)), *self._beginning(after))
        _, accepted, *asked = await self._wait(len(mail.recipients) + 2, REPLY_SECONDS)
        if any(reply.ok for reply in asked):
            return await self._finals(asked)
        (unwanted,) = await self._wait(1, FINAL_SECONDS)
        if unwanted.ok:
            raise Disconnected(f"took a text for nobody: {unwanted}")
        if self._announced is None:
            await self._command("RSET")
        return [accepted if not accepted.ok else reply for reply in asked]

    def _beginning(self, mail: Mail | None) -> Sequence[bytes]:
        """All of a mail that may be sent before the first answer to it."""
        self._announced = mail
        if mail is None or "PIPELINING" not in self.extensions or self.unfit(mail):
            self._announced = None
            return ()
        if self._goes_at_once(mail):
            return b"RSET\r\n", self._commands(mail, f"BDAT {len(mail.body)} LAST"), mail.body
        return (self._commands(mail, "DATA"),)

    def _commands(self, mail: Mail, last: str) -> bytes:
        """All commands of a mail, the one for its text being `last`."""
        options = f" SIZE={len(mail.body)}" if "SIZE" in self.extensions else ""
        options += " BODY=8BITMIME" if mail.eight_bit and "8BITMIME" in self.extensions else ""
        options += " SMTPUTF8" if mail.utf8 else ""
        recipients = "".join(f"RCPT TO:<{recipient}>\r\n" for recipient in mail.recipients)
        return f"MAIL FROM:<{mail.sender}>{options}\r\n{recipients}{last}\r\n".encode()

    def unfit(self, mail: Mail) -> Reply | None:
        """Why this server can never take it, as its extensions say (RFC 1870 §6, RFC 6531 §3.5)."""
        size = self.extensions.get("SIZE", "")
        if size.isdecimal() and 0 < int(size) < len(mail.body):
            return Reply(
                552, f"5.3.4 the message has {len(mail.body)} bytes, {self._target.host} takes {size}"
            )
        if mail.utf8 and "SMTPUTF8" not in self.extensions:
            return Reply(553, f"5.6.7 {self._target.host} does not take addresses beyond ASCII")
        return None

    async def _finals(self, asked: list[Reply]) -> list[Reply]:
        """The replies to the text, in the place of those to RCPT that were positive."""
        taken = [n for n, reply in enumerate(asked) if reply.ok]
        if self._target.lmtp:  # one reply for each accepted recipient (RFC 2033 §4.2)
            for n, reply in zip(taken, await self._wait(len(taken), FINAL_SECONDS), strict=True):
                asked[n] = reply
        else:
            (final,) = await self._wait(1, FINAL_SECONDS)
            for n in taken:
                asked[n] = final
        return asked

    async def quit(self) -> None:
        """Say goodbye; nothing is expected of it any more."""
        try:
            self._write(b"QUIT\r\n")
            await self._wait(1, 2)
        except Disconnected:
            pass
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._transport:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        *lines, self._inbox = (self._inbox + data).split(b"\n")
        for line in lines:
            if self._lost is not None:
                return  # what follows nonsense answers nobody knows what: the next mail's 250 may be in it
            self._take(line.decode("utf-8", "replace").strip())
        if len(self._inbox) > MAX_REPLY_LINE:
            self._fail("a reply without an end")
        elif self._waiter and len(self._replies) >= self._wanted:
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(str(error or "the connection was closed"))

    # --- internal

    def _take(self, line: str) -> None:
        if not (line[:3].isascii() and line[:3].isdigit()):
            self._fail(f"not a reply: {line[:80]!r}")
            return
        self._lines.append(line[4:])
        if line[3:4] != "-":
            self._replies.append(Reply(int(line[:3]), " ".join(self._lines)))
            self._said, self._lines = self._lines, []
        elif len(self._lines) >= MAX_REPLY_LINES:
            self._fail(f"a reply of more than {MAX_REPLY_LINES} lines")

    def _fail(self, why: str) -> None:
        if self._lost is None:
            self._lost = f"{self._target.host}: {why}"
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _write(self, *data: bytes) -> None:
        if self._lost is not None or self._transport is None or self._transport.is_closing():
            raise Disconnected(self._lost or "the connection was closed")
        self._transport.writelines(data)

    async def _command(self, line: str) -> Reply:
        self._write(f"{line}\r\n".encode())
        (reply,) = await self._wait(1, REPLY_SECONDS)
        return reply

    async def _wait(self, count: int, seconds: float) -> list[Reply]:
        """The next replies; `seconds` without any progress are too many."""
        if len(self._replies) < count and self._lost is None:
            self._wanted, self._unsent = count, self._buffered()
            self._waiter = self._loop.create_future()
            self._timer = self._loop.call_later(seconds, self._look, seconds)
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._timer.cancel()
        if len(self._replies) < count:
            raise Disconnected(self._lost or f"{self._target.host}: no reply")
        return [self._replies.popleft() for _ in range(count)]

    def _buffered(self) -> int:
        """Bytes that the system has not taken from us yet."""
        if self._transport is None or self._transport.is_closing():
            return 0  # a transport of uvloop's raises RuntimeError then
        return self._transport.get_write_buffer_size()

    def _look(self, seconds: float) -> None:
        """The time is over, unless more of a large message went out meanwhile."""
        unsent = self._buffered()
        if unsent != self._unsent:
            self._unsent = unsent
            self._timer = self._loop.call_later(seconds, self._look, seconds)
        else:
            self._fail(f"no reply in {seconds:.0f} s")


def _expect(reply: Reply) -> None:
    if not reply.ok:
        raise Refusal(reply)


def _result(error: Exception) -> str:
    """What reports call it (RFC 8460 §4.3.1)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _RESULTS.get(error.verify_code, "certificate-not-trusted")
    return "validation-failure"


# By OpenSSL's codes: X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_HOSTNAME_MISMATCH.
_RESULTS = {10: "certificate-expired", 62: "certificate-host-mismatch"}


def _context(target: Target) -> ssl.SSLContext:
    return _tls_context(verified=target.tls not in ("opportunistic", "dane"))


@cache  # it reads all authorities of the system: some 20 ms
def _tls_context(verified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verified:
        # Opportunistic TLS (RFC 7435): better than none, without a name to verify. DANE does that itself.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
