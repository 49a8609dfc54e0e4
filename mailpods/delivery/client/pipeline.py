"""Replies in step with their commands: each is expected before it may come.

A reply that nobody expects ends the connection: it may be a warning, or the first of a server that answers
one place too early from now on. What comes when something else is expected cannot be told from an answer;
whoever sends a message therefore lets RSET follow it, whose reply shows whether the last ones were in step.

It is a protocol, not a reader of streams: one wait and one timer for all replies of a step, not one a line.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from mailpods.delivery.client.replies import Disconnected, NoReply, OutOfStep, Reply, Unasked

REPLY_SECONDS = 300.0  # RFC 5321 §4.5.3.2 asks for five minutes, ten after the final dot
MAX_REPLY_LINES = 100
MAX_REPLY_LINE = 65536  # bytes; RFC 5321 §4.5.3.1.5 allows 512


@dataclass(slots=True, eq=False)
class Expected:
    """So many replies to a command, or to several of its kind. `then` is called when all are there."""

    verb: str
    count: int = 1
    replies: list[Reply] = field(default_factory=list)
    then: Callable[[], None] | None = None

    @property
    def reply(self) -> Reply:
        """The last one. Raises IndexError before there is any."""
        return self.replies[-1]

    @property
    def is_complete(self) -> bool:
        """Whether all are there."""
        return len(self.replies) >= self.count


class Pipeline(asyncio.Protocol):
    """One connection. What waits or writes may raise Disconnected; it is of no use then."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.lost: Disconnected | None = None  # why the connection is of no use any more
        self.said: list[str] = []  # the lines of the last complete reply
        self._inbox = b""
        self._lines: list[str] = []  # of the reply that is not complete yet
        self._expected: deque[Expected] = deque()
        self._awaited: Expected | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._count = 0  # replies so far
        self._progress = (0, 0)  # bytes unsent and replies, when the timer last looked

    @property
    def is_in_step(self) -> bool:
        """Whether nothing is unread, and nothing expected."""
        return self.lost is None and not (self._expected or self._inbox or self._lines)

    def expect(self, *expected: Expected) -> None:
        """Replies to what is written next."""
        self._expected.extend(expected)

    def write(self, *data: bytes) -> None:
        """Raises Disconnected."""
        if self.lost is not None:
            raise self._error()
        if self.transport is None or self.transport.is_closing():
            raise Disconnected(f"{self.host}: the connection was closed")
        self.transport.writelines(data)

    async def command(self, line: str) -> Reply:
        """Its reply."""
        expected = Expected(line.partition(" ")[0])
        self.expect(expected)
        self.write(f"{line}\r\n".encode())
        await self.wait(expected, REPLY_SECONDS)
        return expected.reply

    async def wait(self, expected: Expected, seconds: float) -> None:
        """Until all of its replies are there; `seconds` without any progress are too many."""
        if not expected.is_complete and self.lost is None:
            self._awaited, self._progress = expected, (self._buffered(), self._count)
            self._waiter = self.loop.create_future()
            self._timer = self.loop.call_later(seconds, self._look, seconds)
            try:
                await self._waiter
            finally:
                self._waiter = self._awaited = None
                self._timer.cancel()
        if not expected.is_complete:
            raise self._error()

    def fail(self, error: Disconnected) -> None:
        """Close at once; what waits hears why."""
        if self.lost is None:
            self.lost = error
        self.abort()
        self._wake()

    def abort(self) -> None:
        """Close at once."""
        if self.transport:
            self.transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        *lines, self._inbox = (self._inbox + data).split(b"\n")
        for line in lines:
            if self.lost is not None:
                return  # what follows nonsense answers nobody knows what: the next mail's 250 may be in it
            self._take(line.decode("utf-8", "replace").strip())
        if len(self._inbox) > MAX_REPLY_LINE:
            self.fail(Disconnected(f"{self.host}: a reply without an end"))
        elif self._awaited is not None and self._awaited.is_complete:
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(Disconnected(f"{self.host}: {error or 'the connection was closed'}"))

    # --- internal

    def _take(self, line: str) -> None:
        if not (line[:3].isascii() and line[:3].isdigit()):
            self.fail(Disconnected(f"{self.host}: not a reply: {line[:80]!r}"))
            return
        self._lines.append(line[4:])
        if line[3:4] == "-":
            if len(self._lines) >= MAX_REPLY_LINES:
                self.fail(Disconnected(f"{self.host}: a reply of more than {MAX_REPLY_LINES} lines"))
            return
        reply = Reply(int(line[:3]), " ".join(self._lines))
        self.said, self._lines = self._lines, []
        self._count += 1
        if not self._expected:
            # One that goes may say so at any time (RFC 5321 §3.8); anything else puts the others in doubt.
            kind = Disconnected if reply.code == 421 else Unasked
            self.fail(kind(f"{self.host} says what nobody asked: {str(reply)[:200]}"))
            return
        head = self._expected[0]
        if 300 <= reply.code < 400 and head.verb not in ("DATA", "AUTH"):
            self.fail(OutOfStep(f"{self.host} answers {head.verb} with {reply}"))
            return
        head.replies.append(reply)
        if head.is_complete:
            self._expected.popleft()
            if head.then:
                head.then()

    def _error(self) -> Disconnected:
        """Anew for each that hears of it, who may add to it."""
        lost = self.lost
        return type(lost)(*lost.args) if lost is not None else Disconnected(f"{self.host}: no reply")

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _buffered(self) -> int:
        """Bytes that the system has not taken from us yet."""
        if self.transport is None or self.transport.is_closing():
            return 0  # a transport of uvloop's raises RuntimeError then
        return self.transport.get_write_buffer_size()

    def _look(self, seconds: float) -> None:
        """The time is over, unless more of a large message went out meanwhile, or another reply came."""
        progress = (self._buffered(), self._count)
        if progress != self._progress:
            self._progress = progress
            self._timer = self.loop.call_later(seconds, self._look, seconds)
        else:
            self.fail(NoReply(f"{self.host}: no reply in {seconds:.0f} s"))
