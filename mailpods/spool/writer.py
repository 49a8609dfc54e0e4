"""The one thread that writes into a spool: it takes everything that waits, and commits it in one go.

Threads that hand Python's lock to and fro cost more than what SQLite does: the writer is woken for messages,
not for results, and a statement stands for all results of a commit.

A failed sync ends it: nobody knows then what is on disk, and only a new start reads it again. Everything else
that keeps it from writing passes: whoever brings a message hears of it, and what became of others is kept
here until it can be noted.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailpods.spool import changes
from mailpods.spool.bodies import Bodies, SyncFailed
from mailpods.spool.changes import Change
from mailpods.spool.errors import SpoolBusy, SpoolClosed, SpoolError, SpoolFull
from mailpods.spool.message import DeliveryResult, Envelope, MessageId
from mailpods.spool.space import Space

LOG = logging.getLogger(__name__)

LAG_SECONDS = 0.05  # that results may wait for a commit which somebody else waits for, too
MOST_CHANGES = 1000  # in one commit: what waited while the disk was full must not need all of it at once
REST_SECONDS = 0.1  # after a write that failed, before the next one
VACUUM_PAGES, FREE_PAGES = 256, 4096  # given back in one step, and kept for what comes next


@dataclass(slots=True)
class Accept:
    """A message that waits for its commit."""

    id: MessageId
    envelope: Envelope
    body: bytes
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[None]"


@dataclass(slots=True)
class Committed:
    """Somebody who wants to know when all that was reported before is on disk."""

    id: MessageId
    then: Callable[[MessageId], None]
    loop: asyncio.AbstractEventLoop

    def tell(self) -> None:
        """Raises nothing: where the loop is closed, nobody is left to be told."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.then, self.id)


@dataclass(slots=True)
class Awake:
    """Something was reported, and the writer may be asleep."""


Report = Change | Committed


class Writer:
    """Call `start()`. Any thread may use it."""

    def __init__(self, path: Path, database: sqlite3.Connection, bodies: Bodies, space: Space) -> None:
        self._path, self._database, self._bodies, self._space = path, database, bodies, space
        self._jobs: queue.SimpleQueue[Accept | Awake | None] = queue.SimpleQueue()  # None at the end
        self._reports: deque[Report] = deque()
        self._asleep = False  # it looks at reports only when it is told to
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._failed = False
        self.closed: str | None = None  # why nothing is taken any more
        self.on_failed: Callable[[str], None] | None = None  # told in this thread that a sync failed
        # Told in this thread which messages were put off until a time that had passed before their commit.
        self.on_late: Callable[[list[MessageId]], None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def accept(self, accept: Accept) -> None:
        """Write a message, at once."""
        self._jobs.put(accept)

    def report(self, report: Report) -> None:
        """Note something, soon."""
        self._reports.append(report)
        if self._asleep:
            self._asleep = False
            self._jobs.put(Awake())

    def close(self, why: str) -> None:
        """Write what waits, and end."""
        self.closed = self.closed or why
        self._jobs.put(None)
        self._thread.join()

    # ---- the thread ----

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # a fault of ours: whoever waits must hear of it
            LOG.exception("spool %s", self._path)
            self._fail(repr(error))
        self._database.close()

    def _work(self) -> None:
        ending = False
        while not (ending and (not self._reports or self._failed)):
            accepts, asked = ([], True) if ending else self._gather()
            ending = ending or asked
            reports = [self._reports.popleft() for _ in range(min(len(self._reports), MOST_CHANGES))]
            error = self._write(accepts, reports)
            if error is not None and ending:
                break  # what could not be noted is done once more after the next start
            if len(reports) == MOST_CHANGES and not self._failed:  # all others wait for the next message
                self._jobs.put(Awake())

    def _gather(self) -> tuple[list[Accept], bool]:
        """All messages that wait, or none where reports have waited long enough; and whether to end."""
        jobs = [self._next()]
        with suppress(queue.Empty):
            while True:
                jobs.append(self._jobs.get_nowait())
        return [job for job in jobs if isinstance(job, Accept)], None in jobs

    def _next(self) -> Accept | Awake | None:
        while True:
            try:
                return self._jobs.get(timeout=LAG_SECONDS)
            except queue.Empty:
                if self._reports:
                    return Awake()
            if self._give_space_back():
                continue
            self._asleep = True  # before the look: who reports after it finds the writer asleep
            if self._reports:
                self._asleep = False
            elif not isinstance(job := self._jobs.get(), Awake):
                self._asleep = False
                return job

    def _write(self, accepts: Sequence[Accept], reports: Sequence[Report]) -> SpoolError | None:
        """Commit all of it, or what can be; returns why not all of it was."""
        if self._failed:
            error: SpoolError | None = SpoolClosed(self.closed or "")
            _wake(accepts, error)
            return error
        try:
            error = self._commit(accepts, reports)
        except Exception as fault:
            if len(accepts) + len(reports) > 1:
                return self._write_each(accepts, reports)
            LOG.exception("spool %s cannot write %r", self._path, [*reports, *(a.id for a in accepts)])
            error = SpoolError(f"cannot be written: {fault}")
        _wake(accepts, error)
        return error

    def _write_each(self, accepts: Sequence[Accept], reports: Sequence[Report]) -> SpoolError | None:
        """One that cannot be written must not take the others with it."""
        for accept in accepts:
            self._write([accept], [])
        for n, report in enumerate(reports):
            error = self._write([], [report])
            if isinstance(error, SpoolFull | SpoolBusy):  # it is back: those behind it follow
                self._reports.popleft()
                self._reports.extendleft(reversed(reports[n:]))
                return error
        return None

    def _commit(self, accepts: Sequence[Accept], reports: Sequence[Report]) -> SpoolError | None:
        """Raises what is a fault of something that is to be written."""
        database = self._database
        try:
            self._bodies.write([(accept.id, accept.body) for accept in accepts])
            database.execute("BEGIN IMMEDIATE")
            changes.insert(database, [(accept.id, accept.envelope, accept.body) for accept in accepts])
            ended = changes.note(database, [r for r in reports if not isinstance(r, Committed)])
            database.execute("COMMIT")
        except (OSError, SyncFailed, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.DatabaseError) and _is_fault_of_data(error):
                self._roll_back(accepts)
                raise
            return self._not_written(error, accepts, reports)
        except Exception:
            self._roll_back(accepts)
            raise
        self._bodies.remove(ended)
        for report in reports:
            if isinstance(report, Committed):
                report.tell()  # not before: who is told looks into the database, and would find it undone
        self._tell_late(reports)
        return None

    def _tell_late(self, reports: Sequence[Report]) -> None:
        now = time.time()
        late = [r.id for r in reports if isinstance(r, DeliveryResult) and r.next_try and r.next_try <= now]
        if late and self.on_late:
            self.on_late(late)

    def _roll_back(self, accepts: Sequence[Accept]) -> None:
        with suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
        self._bodies.remove(accept.id for accept in accepts)

    def _not_written(
        self, error: Exception, accepts: Sequence[Accept], reports: Sequence[Report]
    ) -> SpoolError:
        if _is_failed_sync(error):
            with suppress(sqlite3.Error):
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
            return self._fail(str(error))
        self._roll_back(accepts)
        self._reports.extendleft(reversed(reports))  # done is done: noted once it can be
        LOG.error("spool %s is not written now: %s", self._path, error)
        is_full = _is_full(error)
        if is_full:
            self._space.give_up_ballast()
        time.sleep(REST_SECONDS)
        return SpoolFull("no space is left for mail") if is_full else SpoolBusy(str(error))

    def _fail(self, why: str) -> SpoolClosed:
        self._failed, self.closed = True, f"the spool failed: {why}"
        LOG.critical("spool %s closed: %s", self._path, why)
        if self.on_failed:
            self.on_failed(self.closed)
        return SpoolClosed(self.closed)

    def _give_space_back(self) -> bool:
        """One step, while nothing else is to do; False where there is no more to give."""
        try:
            (free,) = self._database.execute("PRAGMA freelist_count").fetchone()
            (mode,) = self._database.execute("PRAGMA auto_vacuum").fetchone()
            if self._failed or mode != 2 or free < FREE_PAGES + VACUUM_PAGES:
                return False
            # A script, for it gives a page with each step, of which execute() makes one.
            self._database.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
            if free < FREE_PAGES + 2 * VACUUM_PAGES:  # the last step: the file itself becomes shorter
                self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error:
            return False
        return True


def _is_fault_of_data(error: sqlite3.DatabaseError) -> bool:
    return isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError)


def _is_full(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (28, 122)  # ENOSPC, EDQUOT


def _is_failed_sync(error: Exception) -> bool:
    """Whether nobody knows what is on disk: an error of input or output, or what was read makes no sense."""
    if isinstance(error, SyncFailed):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY),
    )


def _wake(accepts: Sequence[Accept], error: SpoolError | None) -> None:
    """Tell all that wait, in one turn of their loop."""
    if not accepts:
        return

    def wake() -> None:
        for accept in accepts:
            if not accept.done.done():
                if error is None:
                    accept.done.set_result(None)
                else:
                    accept.done.set_exception(type(error)(*error.args))

    with suppress(RuntimeError):  # the loop is closed
        accepts[0].loop.call_soon_threadsafe(wake)
