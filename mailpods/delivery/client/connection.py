"""A pipelining client of SMTP (RFC 5321) and LMTP (RFC 2033), over one connection that is used again."""

import asyncio
import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mailpods.delivery.client import content, tls
from mailpods.delivery.client.pipeline import REPLY_SECONDS, Expected, Pipeline
from mailpods.delivery.client.replies import (
    Disconnected,
    LoginRefused,
    OutOfStep,
    Reply,
    TlsFailed,
    TlsMissing,
    Unwelcome,
)
from mailpods.delivery.client.tls import TlsSession
from mailpods.directory.endpoints import is_socket
from mailpods.directory.records import TlsMode

CONNECT_SECONDS = 30.0
FINAL_SECONDS = 600.0  # RFC 5321 §4.5.3.2.6
AT_ONCE_BYTES = 256 * 1024  # of a text that is sent before its recipients are known to be taken


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and how. `host` may be an address; `name` is then the server's.

    `tls` that is "dane" is as "starttls", but no authority is trusted: `proof` says whether the certificates
    that the server shows (in DER, its own first) are its own.
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
    proof: Callable[[Sequence[bytes]], bool] | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """One transaction. The lines of `body` end in CRLF; the flags are those of RFC 6152 and RFC 6531."""

    sender: str
    recipients: Sequence[str]
    body: bytes
    eight_bit: bool = False
    utf8: bool = False


Following = Callable[[], Mail | None]

_DOT = re.compile(rb"(?m)^\.")


def wire(body: bytes) -> tuple[bytes, bytes]:
    """A body, whose lines end in CRLF, as it goes over the wire (RFC 5321 §4.5.2): dots doubled; its end."""
    if body.startswith(b".") or b"\n." in body:
        body = _DOT.sub(b"..", body)
    return body, b".\r\n" if body.endswith(b"\r\n") or not body else b"\r\n.\r\n"


class _Exchange:
    """The replies to one mail. RSET follows its text: only its reply shows that those before were in step."""

    def __init__(self, mail: Mail, lmtp: bool) -> None:
        self.recipients = len(mail.recipients)
        self.mail, self.rcpt = Expected("MAIL"), Expected("RCPT", self.recipients)
        self.data, self.text, self.reset = Expected("DATA"), Expected("text"), Expected("RSET")
        self.sent = False  # the text
        if lmtp:  # one reply for each accepted recipient (RFC 2033 §4.2)
            self.rcpt.then = self._count

    def _count(self) -> None:
        self.text.count = max(sum(reply.ok for reply in self.rcpt.replies), 1)

    @property
    def is_wanted(self) -> bool:
        """Whether any recipient was taken."""
        return any(reply.ok for reply in self.rcpt.replies)

    def known(self) -> list[Reply | None]:
        """What is known of each recipient by now."""
        if self.mail.replies and not self.mail.reply.ok:
            return [self.mail.reply] * self.recipients
        finals = iter(self.text.replies)
        found: list[Reply | None] = [None] * self.recipients
        last: Reply | None = None
        for n, reply in enumerate(self.rcpt.replies):
            if not reply.ok:
                found[n] = reply
            elif self.data.replies and self.data.reply.code != 354:
                found[n] = self.data.reply
            elif self.rcpt.then is not None:
                found[n] = next(finals, None)
            else:
                last = last or next(finals, None)
                found[n] = last  # the final reply of SMTP is about those whose RCPT was positive
        return found


class Connection(Pipeline):
    """An open connection. Every method may raise Disconnected; the connection is of no use then."""

    def __init__(self, target: Target) -> None:
        super().__init__(target.host)
        self._target = target
        self._announced: tuple[Mail, _Exchange] | None = None  # was begun with the one before
        self._is_used = False
        self.extensions: dict[str, str] = {}
        self.sessions: tuple[TlsSession, ...] = ()  # the attempts that led to it, itself the last
        self.reported: set[str] = set()  # domains for which those were counted

    @classmethod
    async def open(cls, target: Target, seconds: float = CONNECT_SECONDS) -> "Connection":
        """Connect, within `seconds`, and say hello. Raises Disconnected, TlsFailed, Unwelcome."""
        loop = asyncio.get_running_loop()
        context = tls.context(verified=True) if target.tls == "tls" else None

        def connected() -> Connection:
            made = cls(target)
            made.expect(greeting)
            return made

        greeting = Expected("greeting")
        try:
            async with asyncio.timeout(seconds):
                if is_socket((target.host, target.port)):
                    _, connection = await loop.create_unix_connection(connected, target.host)
                else:
                    _, connection = await loop.create_connection(
                        connected,
                        target.host,
                        target.port,
                        ssl=context,
                        local_addr=(target.source, 0) if target.source else None,
                    )
        except (OSError, TimeoutError) as error:
            raise Disconnected(f"{target.host}:{target.port}: {error or 'no answer'}") from error
        try:
            await connection._begin(greeting)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _begin(self, greeting: Expected) -> None:
        await self.wait(greeting, REPLY_SECONDS)
        _require(greeting.reply)
        await self._hello()
        if self._target.tls in ("starttls", "dane", "opportunistic"):
            if "STARTTLS" in self.extensions:
                await self._start_tls()
            elif self._target.tls != "opportunistic":
                raise TlsMissing(Reply(454, f"4.7.5 {self.host} offers no STARTTLS, and must"))
        if self._target.username is not None:
            secret = f"\0{self._target.username}\0{self._target.password or ''}".encode()
            answer = await self.command("AUTH PLAIN " + base64.b64encode(secret).decode())
            if not answer.ok:
                raise LoginRefused(answer)

    async def _start_tls(self) -> None:
        """Raises TlsFailed, also where the server goes instead: without TLS it may stay."""
        host = self.host
        try:
            answer = await self.command("STARTTLS")
        except Disconnected as error:
            raise TlsFailed(f"{error}, behind STARTTLS", "validation-failure") from error
        if not answer.ok:
            raise TlsFailed(f"{host} answers STARTTLS with {answer}", "starttls-not-supported")
        if not self.is_in_step:
            raise Disconnected(f"{host} said more in clear than its answer to STARTTLS")
        assert self.transport is not None
        try:
            self.transport = await self.loop.start_tls(
                self.transport,
                self,
                tls.context(verified=self._target.tls not in ("opportunistic", "dane")),
                server_hostname=self._target.name or host,
            )
            if self.transport is None:
                raise TlsFailed(f"{host} went while TLS began", "validation-failure")
            chain = tls.shown(self.transport.get_extra_info("ssl_object"))
            if self._target.proof and not self._target.proof(chain):
                what = f"{self._target.name} shows a certificate that its TLSA records do not name"
                raise TlsFailed(what, "validation-failure")
            await self._hello()
        except TlsFailed:
            raise
        except (OSError, Disconnected) as error:
            raise TlsFailed(f"TLS with {host}: {error}", tls.result(error)) from error

    async def _hello(self) -> None:
        verb = "LHLO" if self._target.lmtp else "EHLO"
        reply = await self.command(f"{verb} {self._target.hello}")
        self.extensions = {}
        if reply.permanent and not self._target.lmtp:  # a server of before 1995 (RFC 5321 §3.2)
            _require(await self.command(f"HELO {self._target.hello}"))
            return
        _require(reply)
        for text in self.said[1:]:
            name, _, value = text.partition(" ")
            self.extensions[name.upper()] = value

    @property
    def name(self) -> str:
        """Of the server, or its address."""
        return self._target.name or self.host

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is on."""
        return bool(self.transport and self.transport.get_extra_info("sslcontext"))

    async def deliver(self, mail: Mail, following: Following = lambda: None) -> list[Reply]:
        """Send one message; the reply for each recipient, in their order.

        `following` is asked once the way is free behind this one: what it returns must be the next mail given
        to this method, for it may begin in the same write (RFC 2920).
        """
        announced, self._announced = self._announced, None
        if announced is not None and announced[0] is mail:
            exchange = announced[1]
        else:
            if unfit := self.unfit(mail):
                return [unfit] * len(mail.recipients)
            if not (mail := self._fitted(mail)).body:
                return [Reply(554, f"5.6.3 {self.host} takes ASCII alone")] * len(mail.recipients)
            exchange = _Exchange(mail, self._target.lmtp)
            announced = None
        try:
            await self._exchange(mail, exchange, announced is not None, following)
        except OutOfStep as error:
            error.text_sent = exchange.sent
            raise
        except Disconnected as error:
            # One that was idle may have been closed meanwhile: who answers nothing at all has read nothing.
            error.text_sent = exchange.sent and bool(exchange.mail.replies or not self._is_used)
            error.known = exchange.known()
            if None in error.known:
                raise
        self._is_used = True
        return self._outcome(exchange)

    def _outcome(self, exchange: _Exchange) -> list[Reply]:
        reset = exchange.reset.replies[0] if exchange.reset.replies else None
        if reset is not None and reset.code == 421:  # it goes, and may at any time (RFC 5321 §3.8)
            self.fail(Disconnected(f"{self.host}: {reset}"))
        elif reset is not None and not reset.ok:
            raise self._out_of_step(f"answers RSET with {reset}", exchange)
        if self._announced is not None and (data := self._announced[1].data).replies and data.reply.ok:
            raise self._out_of_step(f"answers DATA with {data.reply}", exchange)
        known = exchange.known()
        replies = [reply for reply in known if reply is not None]
        if exchange.text.replies and not exchange.is_wanted and exchange.text.reply.ok:
            raise self._out_of_step(f"took a text for nobody: {exchange.text.reply}", exchange)
        if len(replies) < len(known):
            raise self._out_of_step("does not answer for all", exchange)
        return replies

    def _out_of_step(self, what: str, exchange: _Exchange) -> OutOfStep:
        error = OutOfStep(f"{self.host} {what}")
        error.text_sent = exchange.sent
        self.fail(error)
        return error

    async def _exchange(self, mail: Mail, exchange: _Exchange, announced: bool, following: Following) -> None:
        """All of it. Ends early where it fails."""
        if self._goes_at_once(mail):
            # By BDAT (RFC 3030), whose text waits for nobody's leave: a whole message in one write.
            # Nothing goes behind it before it is over: but for DATA, all replies look the same.
            self.write(*self._beginning(mail, exchange))
            await self.wait(exchange.reset, FINAL_SECONDS)
            return
        if not await self._asked(mail, exchange, announced):
            return
        if not exchange.mail.reply.ok:  # what it would take now came from nobody
            self.fail(Disconnected(f"{self.host} wants a text behind {exchange.mail.reply}"))
            return
        wanted = exchange.is_wanted
        self.expect(exchange.text)
        after: Sequence[bytes] = ()
        if "PIPELINING" in self.extensions:
            self.expect(exchange.reset)
            after = (b"RSET\r\n", *(self._announce(following()) if wanted else ()))
        exchange.sent = wanted
        self.write(*(wire(mail.body) if wanted else (b".\r\n",)), *after)
        if self._announced is not None:
            # Its DATA has a reply of its own kind: where that comes, those before it are in step.
            await self.wait(self._announced[1].data, FINAL_SECONDS)
        elif after:
            await self.wait(exchange.reset, FINAL_SECONDS)
        else:
            await self.wait(exchange.text, FINAL_SECONDS)
            await self._reset(exchange)

    async def _asked(self, mail: Mail, exchange: _Exchange, announced: bool) -> bool:
        """Whether the server wants the text now; a transaction that it does not want is over."""
        if "PIPELINING" in self.extensions:
            if not announced:
                self.write(*self._beginning(mail, exchange))
        else:
            first, *rcpts, last = self._commands(mail, "DATA").splitlines(keepends=True)
            self.expect(exchange.mail)
            self.write(first)
            await self.wait(exchange.mail, REPLY_SECONDS)
            if not exchange.mail.reply.ok:
                await self._reset(exchange)
                return False
            for command in rcpts:
                one = Expected("RCPT")
                self.expect(one)
                self.write(command)
                await self.wait(one, REPLY_SECONDS)
                exchange.rcpt.replies += one.replies
            if exchange.rcpt.then:
                exchange.rcpt.then()
            self.expect(exchange.data)
            self.write(last)
        await self.wait(exchange.data, REPLY_SECONDS)
        if exchange.data.reply.code == 354:
            return True
        if exchange.data.reply.ok:
            raise self._out_of_step(f"answered DATA with {exchange.data.reply}", exchange)
        await self._reset(exchange)
        return False

    async def _reset(self, exchange: _Exchange) -> None:
        """End a transaction, unless the server has said that it goes."""
        said = [*exchange.mail.replies, *exchange.rcpt.replies, *exchange.data.replies]
        if any(reply.code == 421 for reply in said):
            self.fail(Disconnected(f"{self.host}: {said[-1]}"))
            return
        self.expect(exchange.reset)
        self.write(b"RSET\r\n")
        await self.wait(exchange.reset, REPLY_SECONDS)

    def _goes_at_once(self, mail: Mail) -> bool:
        return {"PIPELINING", "CHUNKING"} <= self.extensions.keys() and len(mail.body) <= AT_ONCE_BYTES

    def _announce(self, mail: Mail | None) -> Sequence[bytes]:
        """The next mail, as much of it as may be sent before its first answer: up to DATA."""
        if mail is None or self._goes_at_once(mail) or self.unfit(mail) or self._fitted(mail) is not mail:
            return ()
        exchange = _Exchange(mail, self._target.lmtp)
        self._announced = (mail, exchange)
        return self._beginning(mail, exchange)

    def _fitted(self, mail: Mail) -> Mail:
        """The same in 7 bits where the server takes no more; without a body where that cannot be."""
        if mail.body.isascii() or "8BITMIME" in self.extensions or self._target.lmtp:
            return mail
        return replace(mail, body=content.seven_bit(mail.body) or b"", eight_bit=False)

    def _beginning(self, mail: Mail, exchange: _Exchange) -> Sequence[bytes]:
        """All of a mail that may be sent before the first answer to it, whose answers are expected now."""
        if self._goes_at_once(mail):
            self.expect(exchange.mail, exchange.rcpt, exchange.text, exchange.reset)
            exchange.sent = True
            return self._commands(mail, f"BDAT {len(mail.body)} LAST"), mail.body, b"RSET\r\n"
        self.expect(exchange.mail, exchange.rcpt, exchange.data)
        return (self._commands(mail, "DATA"),)

    def _commands(self, mail: Mail, last: str) -> bytes:
        """All commands of a mail, the one for its text being `last`."""
        options = f" SIZE={len(mail.body)}" if "SIZE" in self.extensions else ""
        if "8BITMIME" in self.extensions and not mail.body.isascii():
            options += " BODY=8BITMIME"
        options += " SMTPUTF8" if "SMTPUTF8" in self.extensions and self._needs_utf8(mail) else ""
        recipients = "".join(f"RCPT TO:<{recipient}>\r\n" for recipient in mail.recipients)
        return f"MAIL FROM:<{mail.sender}>{options}\r\n{recipients}{last}\r\n".encode()

    def unfit(self, mail: Mail) -> Reply | None:
        """Why this server can never take it, as its extensions say (RFC 1870 §6, RFC 6531 §3.5)."""
        size = self.extensions.get("SIZE", "")
        if size.isdecimal() and 0 < int(size) < len(mail.body):
            return Reply(552, f"5.3.4 the message has {len(mail.body)} bytes, {self.host} takes {size}")
        if "SMTPUTF8" not in self.extensions and self._needs_utf8(mail):
            return Reply(553, f"5.6.7 {self.host} does not take addresses beyond ASCII")
        return None

    @staticmethod
    def _needs_utf8(mail: Mail) -> bool:
        """By content: programs say SMTPUTF8 of what needs none. A header of others may be of any bytes."""
        return mail.utf8 and content.needs_utf8(mail.sender, list(mail.recipients), mail.body)

    async def quit(self) -> None:
        """Say goodbye; nothing is expected of it any more."""
        goodbye = Expected("QUIT")
        try:
            self.expect(goodbye)
            self.write(b"QUIT\r\n")
            await self.wait(goodbye, 2)
        except Disconnected:
            pass
        self.abort()


def _require(reply: Reply) -> None:
    if not reply.ok:
        raise Unwelcome(reply)
