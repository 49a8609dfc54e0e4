"""A pipelining client of SMTP (RFC 5321) and LMTP (RFC 2033), over one connection that is used again."""

import asyncio
import base64
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from mailpods.directory.records import TlsMode

CONNECT_SECONDS = 30.0
REPLY_SECONDS = 300.0  # RFC 5321 §4.5.3.2 asks for five minutes, ten after the final dot
FINAL_SECONDS = 600.0
MAX_REPLY_LINES = 100


class Disconnected(Exception):
    """The connection failed or was closed: nothing is known of what was not answered."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its code, and its text with the lines joined by spaces."""

    code: int
    text: str

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
    """Where to connect, and how."""

    host: str
    port: int
    hello: str  # our name
    lmtp: bool = False
    tls: TlsMode = "none"
    username: str | None = None
    password: str | None = None


class Refusal(Exception):
    """The server does not want to talk to us: its greeting, HELO, TLS or AUTH failed."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


_DOT = re.compile(rb"(?m)^\.")


def stuff(body: bytes) -> bytes:
    """The body as it goes over the wire, dots doubled and ended (RFC 5321 §4.5.2). Its lines end in CRLF."""
    if body.startswith(b".") or b"\n." in body:
        body = _DOT.sub(b"..", body)
    return body + (b".\r\n" if body.endswith(b"\r\n") or not body else b"\r\n.\r\n")


class Connection:
    """An open connection. Every method may raise Disconnected; the connection is of no use then."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> None:
        self._reader, self._writer, self._target = reader, writer, target
        self.extensions: dict[str, str] = {}

    @classmethod
    async def open(cls, target: Target) -> "Connection":
        """Connect and say hello. Raises Disconnected, Refusal."""
        context = ssl.create_default_context() if target.tls in ("tls", "starttls") else _unverified()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    target.host,
                    target.port,
                    ssl=context if target.tls == "tls" else None,
                    limit=65536,
                )
        except (OSError, TimeoutError) as error:
            raise Disconnected(f"{target.host}:{target.port}: {error or 'no answer'}") from error
        connection = cls(reader, writer, target)
        try:
            await connection._begin(context)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _begin(self, context: ssl.SSLContext) -> None:
        _expect(await self._reply(REPLY_SECONDS))
        await self._hello()
        if self._target.tls in ("starttls", "opportunistic"):
            if "STARTTLS" in self.extensions:
                _expect(await self._command("STARTTLS"))
                try:
                    await self._writer.start_tls(context, server_hostname=self._target.host)
                except (OSError, ssl.SSLError) as error:
                    raise Disconnected(f"TLS with {self._target.host}: {error}") from error
                await self._hello()
            elif self._target.tls == "starttls":
                raise Refusal(
                    Reply(454, f"{self._target.host} offers no STARTTLS, and the smarthost needs it")
                )
        if self._target.username is not None:
            secret = f"\0{self._target.username}\0{self._target.password or ''}".encode()
            _expect(await self._command("AUTH PLAIN " + base64.b64encode(secret).decode()))

    async def _hello(self) -> None:
        verb = "LHLO" if self._target.lmtp else "EHLO"
        self._write(f"{verb} {self._target.hello}\r\n".encode())
        lines = await self._lines(REPLY_SECONDS)
        _expect(_joined(lines))
        self.extensions = {}
        for _, text in lines[1:]:
            name, _, value = text.partition(" ")
            self.extensions[name.upper()] = value

    async def deliver(
        self, sender: str, recipients: Sequence[str], body: bytes, options: str = ""
    ) -> list[Reply]:
        """Send one message; the reply for each recipient, in their order. `options` follow MAIL FROM."""
        mail = f"MAIL FROM:<{sender}>{options}\r\n"
        commands = [mail, *(f"RCPT TO:<{r}>\r\n" for r in recipients), "DATA\r\n"]
        if "PIPELINING" in self.extensions:
            self._write("".join(commands).encode())
            replies = [await self._reply(REPLY_SECONDS) for _ in commands]
        else:
            replies = []
            for command in commands:
                self._write(command.encode())
                replies.append(await self._reply(REPLY_SECONDS))
                if not replies[0].ok:
                    return [replies[0]] * len(recipients)
        accepted, *asked, go = replies
        if go.code != 354:
            if go.ok:
                raise Disconnected(f"answered DATA with {go}")
            await self._reset()
            # Why DATA failed is the answer for those that were accepted until then.
            return [accepted if not accepted.ok else go if r.ok else r for r in asked]
        taken = [n for n, reply in enumerate(asked) if reply.ok]
        self._write(stuff(body) if taken else b".\r\n")
        await self._drain()
        finals = asked.copy()
        if self._target.lmtp:
            for n in taken:  # one reply for each accepted recipient (RFC 2033 §4.2)
                finals[n] = await self._reply(FINAL_SECONDS)
        else:
            final = await self._reply(FINAL_SECONDS)
            for n in taken:
                finals[n] = final
        return finals

    async def _reset(self) -> None:
        await self._command("RSET")

    async def quit(self) -> None:
        """Say goodbye; nothing is expected of it any more."""
        try:
            self._write(b"QUIT\r\n")
            await asyncio.wait_for(self._reply(2), 3)
        except (Disconnected, TimeoutError):
            pass
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    def _write(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise Disconnected("the connection was closed")
        self._writer.write(data)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(FINAL_SECONDS):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise Disconnected(f"{self._target.host}: {error or 'takes no data'}") from error

    async def _command(self, line: str) -> Reply:
        self._write(f"{line}\r\n".encode())
        return await self._reply(REPLY_SECONDS)

    async def _reply(self, seconds: float) -> Reply:
        return _joined(await self._lines(seconds))

    async def _lines(self, seconds: float) -> list[tuple[int, str]]:
        lines: list[tuple[int, str]] = []
        try:
            async with asyncio.timeout(seconds):
                while len(lines) < MAX_REPLY_LINES:
                    line = await self._reader.readuntil(b"\n")
                    text = line.decode("utf-8", "replace").strip()
                    if not text[:3].isdigit():
                        raise Disconnected(f"not a reply: {text[:80]!r}")
                    lines.append((int(text[:3]), text[4:]))
                    if text[3:4] != "-":
                        return lines
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise Disconnected(f"{self._target.host}: {error}") from error
        except TimeoutError as error:
            raise Disconnected(f"{self._target.host}: no reply in {seconds:.0f} s") from error
        raise Disconnected(f"a reply of more than {MAX_REPLY_LINES} lines")


def _joined(lines: list[tuple[int, str]]) -> Reply:
    return Reply(lines[-1][0], " ".join(text for _, text in lines))


def _expect(reply: Reply) -> None:
    if not reply.ok:
        raise Refusal(reply)


def _unverified() -> ssl.SSLContext:
    # Opportunistic TLS (RFC 7435): better than none, and without a name to verify.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
