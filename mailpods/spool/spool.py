"""The spool: SQLite in WAL mode with synchronous=FULL, written by one thread that commits in groups.

accept() puts a message into the thread's queue and waits; the thread takes everything that waits, writes it
in one transaction, and wakes the waiting sessions together: one sync for many messages. Large bodies lie
beside the database, synced before the commit that names them; a file that no row names is removed on opening.

What delivery reports is written in the same transactions, but nobody waits for it; it waits a moment itself,
for the next message, which a sync of its own would hold up. A crash may repeat a delivery, never lose one.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from mailpods.spool import schema
from mailpods.spool.bodies import Bodies
from mailpods.spool.changes import Change
from mailpods.spool.errors import SpoolBusy, SpoolClosed
from mailpods.spool.message import Envelope, MessageId, QueuedMessage
from mailpods.spool.schedule import Schedule
from mailpods.spool.space import Space
from mailpods.spool.writer import Accept, Committed, Writer

MAX_WAITING_BYTES = 256 * 1024 * 1024  # in the queue of the writer: beyond, 452


class Spool:
    """One folder, one process, one writer. `schedule` is what delivery reads."""

    def __init__(self, path: Path, lock: int) -> None:
        """Use `open()`. `lock`: the kernel gives it back however this process ends."""
        self.path, self._lock = path, lock
        file, bodies = path / "queue.db", Bodies(path / "bodies")
        with closing(schema.connect(file)) as database:
            schema.prepare(database)
            bodies.tidy({row[0] for row in database.execute("SELECT id FROM message WHERE body IS NULL")})
        self._reader = schema.connect(file)
        self.schedule = Schedule(self._reader, bodies)
        self._space = Space(path, self._reader)
        self._writer = Writer(path, schema.connect(file), bodies, self._space)
        # A clock that went back must not make an id twice: the rest of it is random.
        self._prefix, self._sequence = f"{int(time.time()):08x}{os.urandom(4).hex()}", 0
        self._waiting_bytes = 0
        self.on_accepted: Callable[[QueuedMessage, bytes], None] | None = None  # in the loop, committed
        self._writer.start()

    @classmethod
    def open(cls, path: Path) -> "Spool":
        """Open or make the folder and recover what it holds.

        Raises OSError, also where another process has it open, and sqlite3.Error.
        """
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(path, lock)
        except BaseException:
            os.close(lock)
            raise

    def watch(self, failed: Callable[[str], None], late: Callable[[list[MessageId]], None]) -> None:
        """Tell the running loop that a sync failed, with the reason: nothing is taken any more, and only a
        new process may open the spool again; and which messages were put off until a time already past."""
        loop = asyncio.get_running_loop()
        self._writer.on_failed = lambda why: _call(loop, failed, why)
        self._writer.on_late = lambda ids: _call(loop, late, ids)

    async def accept(self, envelope: Envelope, body: bytes) -> MessageId:
        """Take the message; on return it is on disk, synced.

        Raises SpoolFull, SpoolBusy, SpoolClosed, and SpoolError where it cannot be written.
        """
        if self._writer.closed is not None:
            raise SpoolClosed(self._writer.closed)
        if self._waiting_bytes + len(body) > MAX_WAITING_BYTES:
            raise SpoolBusy("too much waits to be written")
        self._space.check(len(body))
        self._sequence += 1
        message = MessageId(f"{self._prefix}{self._sequence:08x}")
        loop = asyncio.get_running_loop()
        accept = Accept(message, envelope, body, loop, loop.create_future())
        self._waiting_bytes += len(body)
        self._writer.accept(accept)
        try:
            await accept.done
        finally:
            self._waiting_bytes -= len(body)
        if self.on_accepted is not None:  # later: the client waits for its 250
            loop.call_soon(self.on_accepted, QueuedMessage(message, envelope, envelope.recipients, 0), body)
        return message

    def report(self, change: Change) -> None:
        """Note it, soon, in the order of the reports. The last result of a message removes it.

        An event reported before its result is there once more where a crash repeats that.
        """
        self._writer.report(change)

    def committed(self, message: MessageId, then: Callable[[MessageId], None]) -> None:
        """Call `then` on the running loop once all that was reported so far is on disk."""
        self._writer.report(Committed(message, then, asyncio.get_running_loop()))

    def close(self) -> None:
        """Write what waits, and end."""
        self._writer.close("the server is shutting down")
        self._reader.close()
        os.close(self._lock)


def _call(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *about: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
        loop.call_soon_threadsafe(what, *about)
