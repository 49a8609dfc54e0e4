"""One client's connection: bytes in, lines and message text out, replies back.

The transport and the loop over commands are not aiosmtpd's: no task, no stream and no timer per connection,
no coroutine per command or line; pipelined commands are answered in one write. A command that must wait
(for a disk, for Dovecot) suspends the connection, and what the client sent meanwhile waits in its buffer.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

from aiosmtpd.smtp import SMTP

LINE_LIMIT = 512  # octets of a command with CRLF, RFC 5321 §4.5.3.1.4
LINE_LIMITS = {"MAIL": 1100, "RCPT": 1100, "AUTH": 12288}  # with their extensions (RFC 4954 §4, RFC 3461 §5)
LONGEST_LINE = max(LINE_LIMITS.values())
BUFFER_LIMIT = 1 << 17  # bytes that may wait while the connection is suspended
TURN = 100  # commands handled before other connections have their turn


class Content(Protocol):
    """What takes message text in (see mailpods.smtp.content)."""

    def feed(self, chunk: bytes) -> bytes | None:
        """Take in a chunk; what lies behind the end, or None."""


class Connection(SMTP):
    """The mechanics; what commands mean is the session's business.

    aiosmtpd's constructor is not called: what it computes for each connection is the same for all.

    Whatever raises in the session's code, or in what it awaits, ends here: the client is told (fault()), and
    nobody else notices.
    """

    transport: asyncio.Transport | None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport = None
        self.active = loop.time()  # when the client last did something that counts
        self._out: list[bytes] = []
        self._inbox = b""
        self._suspended = False
        self._reading = True
        self._closing = False
        self._half_closed = False
        self._discard = False  # what is at hand was sent in clear, before TLS
        self.more = False  # the client sent further bytes behind the command that is handled
        self._overlong = False  # the rest of a line that is too long is yet to come
        self._content: Content | None = None
        self._expected: Callable[[bytes], None] | None = None  # takes the next line, instead of a command

    # --- for the session to define

    def opened(self) -> None:
        """The connection is there: greet."""
        raise NotImplementedError

    def command(self, verb: str, argument: str) -> None:
        """A command line came; `verb` is in upper case."""
        raise NotImplementedError

    def content_ended(self) -> None:
        """The message text that take_content() asked for is complete."""
        raise NotImplementedError

    def closed(self) -> None:
        """The connection is gone."""
        raise NotImplementedError

    def misuse(self, reply: bytes, reason: str) -> None:
        """The client broke the protocol."""
        raise NotImplementedError

    def fault(self, error: Exception) -> bytes:
        """Something of ours failed while this client was served: log and count it, forget the transaction.
        Returns the reply. Must not raise."""
        raise NotImplementedError

    # --- for the session to use

    def reply(self, line: bytes) -> None:
        """Answer, with CRLF; goes out when all commands at hand are handled."""
        self._out.append(line)

    def take_content(self, content: Content) -> None:
        """Read message text, not commands, until it ends."""
        self._content = content

    def end_content(self) -> None:
        """The message text is complete, though its end did not come."""
        self._content = None
        self.content_ended()
        self._flush()

    def expect(self, consumer: Callable[[bytes], None]) -> None:
        """Give the next line, without its CRLF, to `consumer`."""
        self._expected = consumer

    def suspend(self, work: Coroutine[Any, Any, None]) -> None:
        """Handle nothing further until `work` is done."""
        self._suspended = True
        self._task = self.loop.create_task(self._resumed_by(work))

    def hang_up(self) -> None:
        """Send what is to be sent, and close."""
        self._flush()
        self._closing = True
        self._inbox = b""
        self._content = None
        if self.transport:
            self.transport.close()

    def stop_listening(self) -> None:
        """Read nothing further in clear, and forget what was read: TLS is to begin."""
        self._pause()
        self._discard = True

    async def start_tls(self, context: Any, timeout: float) -> None:
        """Begin TLS on this connection. What the client sent before is thrown away (RFC 3207 §4.2); what is
        still in the socket can only be TLS. Raises OSError or TimeoutError."""
        assert self.transport is not None
        self._inbox = b""
        transport = await self.loop.start_tls(
            self.transport, self, context, server_side=True, ssl_handshake_timeout=timeout
        )
        self.transport = transport
        self._reading = True

    @property
    def spoke(self) -> bool:
        """Whether the client sent something while the connection was suspended."""
        return bool(self._inbox)

    @property
    def suspended(self) -> bool:
        """Whether a command is being worked on."""
        return self._suspended

    @property
    def receiving(self) -> bool:
        """Whether message text is being read."""
        return self._content is not None

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's
        try:
            self.opened()
            self._flush()
        except Exception as error:
            self._broken(error)

    def data_received(self, data: bytes) -> None:
        if self._inbox:
            data = self._inbox + data
        if self._suspended:
            self._inbox = data
            if len(data) > BUFFER_LIMIT:
                self._pause()
        elif not self._closing:
            try:
                self._handle(data)
            except Exception as error:  # outside of a command: nobody knows what the next octet would mean
                self._broken(error)

    def eof_received(self) -> bool:
        """A client may close its side and still read: it gets the answers to what it sent."""
        self._half_closed = True
        return bool(self._suspended and self.transport and not self.transport.get_extra_info("sslcontext"))

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._closing = True
        self._inbox = b""
        self._content = None
        self.closed()

    def pause_writing(self) -> None:
        """The client does not read its answers: it is not listened to until it does."""
        self._pause()

    def resume_writing(self) -> None:
        self._unpause()

    # --- internal

    def _handle(self, data: bytes) -> None:
        position, end, turn = 0, len(data), TURN
        while position < end and not self._suspended and not self._closing:
            if self._content is not None:
                self.active = self.loop.time()
                rest = self._content.feed(data[position:] if position else data)
                if rest is None:
                    position = end
                    break
                data, position, end = rest, 0, len(rest)
                self._content = None
                self.content_ended()
                continue
            newline = data.find(b"\n", position)
            if newline < 0:
                if end - position > LONGEST_LINE or self._overlong:
                    self._overlong = True
                    position = end
                break
            line = data[position : newline + 1]
            position = newline + 1
            self.more = position < end
            try:
                self._line(line)
            except Exception as error:  # of one command: the next one may be better
                self._content = self._expected = None
                self.reply(self.fault(error))
            turn -= 1
            if not turn and position < end and not self._suspended:
                self._suspended = True
                self.loop.call_soon(self._resume)
        self._inbox = b"" if self._closing or self._discard else data[position:]
        self._discard = False
        self._flush()

    def _broken(self, error: Exception) -> None:
        """Answer, and close."""
        self._suspended = False
        self.reply(b"421" + self.fault(error)[3:])
        self.hang_up()

    def _line(self, line: bytes) -> None:
        if self._overlong:
            self._overlong = False
            self.misuse(b"500 5.5.2 Line too long\r\n", "command-length")
            return
        if not line.endswith(b"\r\n") or line.find(b"\r", 0, -2) >= 0:
            self.misuse(b"500 5.5.2 Lines must end in CRLF\r\n", "bare-newline")
            return
        self.active = self.loop.time()
        if self._expected is not None:
            consumer, self._expected = self._expected, None
            consumer(line[:-2])
            return
        word, _, rest = line[:-2].partition(b" ")
        try:
            verb = word.decode("ascii").upper()
            argument = rest.decode("utf-8", "surrogateescape").strip(" \t")
        except UnicodeDecodeError:
            self.misuse(b"500 5.5.2 Not a command\r\n", "syntax")
            return
        if len(line) > LINE_LIMITS.get(verb, LINE_LIMIT):
            self.misuse(b"500 5.5.2 Line too long\r\n", "command-length")
        elif "\0" in argument:
            self.misuse(b"500 5.5.2 NUL in a command\r\n", "syntax")
        else:
            self.command(verb, argument)

    async def _resumed_by(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self.reply(self.fault(error))
        self._resume()

    def _resume(self) -> None:
        self._suspended = False
        data, self._inbox = self._inbox, b""
        if self._closing:
            self._flush()
            return
        self._unpause()
        try:
            self._handle(data)
        except Exception as error:
            self._broken(error)
        if self._half_closed and not self._suspended:
            self.hang_up()

    def _pause(self) -> None:
        if self._reading and self.transport and not self.transport.is_closing():
            self._reading = False
            self.transport.pause_reading()

    def _unpause(self) -> None:
        if not self._reading and self.transport and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def _flush(self) -> None:
        if self._out:
            if self.transport and not self.transport.is_closing():
                self.transport.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()
