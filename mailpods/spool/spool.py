"""The spool: SQLite in WAL mode with synchronous=FULL, written by one thread that commits in groups.

accept() puts a message into the thread's queue and waits; the thread takes everything that waits, writes it
in one transaction, and wakes the waiting sessions together: one sync for many messages. Large bodies lie
beside the database, synced before the commit that names them; a file that no row names is removed on opening.

What delivery reports is written in the same transactions, but nobody waits for it; it waits a moment itself,
for the next message, which a sync of its own would hold up. A crash may repeat a delivery, never lose one.

Threads that hand Python's lock to and fro cost more than what SQLite does: the writer is woken for messages,
not for reports, and a statement stands for all reports of a commit.
"""

import asyncio
import fcntl
import json
import logging
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from mailpods.directory.records import Address
from mailpods.spool.message import Envelope, MessageId, Recipient

LOG = logging.getLogger(__name__)

INLINE_BYTES = 128 * 1024  # bodies up to this lie in the database: one sync instead of three
MAX_WAITING_BYTES = 256 * 1024 * 1024  # in the queue of the writer: beyond, 452
HELD = 1e12  # as next_try: an administrator holds the recipient back; seconds since the epoch
EVENTS_SECONDS = 7 * 86400.0  # that events are kept
RESERVE_BYTES = 64 * 1024 * 1024  # left free on the disk, for delivery's own writes
BALLAST_BYTES = 1024 * 1024  # in a file that is given up when others filled the disk to the last byte
CHECK_SECONDS = 1.0  # between looks at the free space
LAG_SECONDS = 0.05  # that delivery's reports may wait for a commit which somebody else waits for, too

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    sender TEXT NOT NULL,
    received_at REAL NOT NULL,
    client_ip TEXT NOT NULL, helo TEXT NOT NULL, protocol TEXT NOT NULL,
    account TEXT, smtputf8 INTEGER NOT NULL, body_8bit INTEGER NOT NULL,
    size INTEGER NOT NULL,
    body BLOB,  -- NULL: in the file named by id
    campaign TEXT NOT NULL DEFAULT '',  -- of a mass mailing
    warned INTEGER NOT NULL DEFAULT 0  -- 1: its sender knows that it waits
);
CREATE TABLE IF NOT EXISTS recipient (
    message INTEGER NOT NULL REFERENCES message(number) ON DELETE CASCADE,
    address TEXT NOT NULL, notify TEXT, orcpt TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL,
    reply TEXT NOT NULL DEFAULT '',  -- the last one, for people
    reserved INTEGER NOT NULL DEFAULT 0,  -- 1: next_try is the time that a limit gave it
    PRIMARY KEY (message, address)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recipient_next_try ON recipient (next_try);
CREATE TABLE IF NOT EXISTS paused (  -- destinations that are left alone, for people
    destination TEXT PRIMARY KEY, until REAL NOT NULL, why TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (  -- what became of mass mailings, for their senders' programs
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL, id TEXT NOT NULL, sender TEXT NOT NULL, recipient TEXT NOT NULL,
    campaign TEXT NOT NULL, kind TEXT NOT NULL, class TEXT NOT NULL, reply TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS sent (  -- what the bulk pool sends on a day, by who sends it
    day TEXT NOT NULL, tenant TEXT NOT NULL, recipients INTEGER NOT NULL, PRIMARY KEY (day, tenant)
) WITHOUT ROWID;
"""


INSERT_EVENT = (  # the fields of an Event
    "INSERT INTO event (at, id, sender, recipient, campaign, kind, class, reply) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


class SpoolError(Exception):
    """The message was not taken; the client is told `code` and `enhanced` (RFC 3463)."""

    code = 451
    enhanced = "4.3.0"


class SpoolFull(SpoolError):
    """No space is left on the disk."""

    code, enhanced = 452, "4.3.1"


class SpoolBusy(SpoolError):
    """More waits to be written than may."""

    code, enhanced = 452, "4.3.2"


class SpoolClosed(SpoolError):
    """A write failed, or the program ends."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message with some of its recipients: those whose time has come, unless something else is said."""

    id: MessageId
    envelope: Envelope
    recipients: tuple[Recipient, ...]
    attempts: int  # of the recipient that was tried most often
    next_try: float = 0.0  # when the first of them was to be tried, seconds since the epoch
    warned: bool = False  # its sender knows that it waits
    reserved: bool = False  # all of them came due at times that a limit gave them
    replies: Mapping[Address, str] = field(default_factory=dict)  # the last one about each


Cursor = tuple[float, int]  # how far due() has read


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient: done (`next_try` None), or to be tried again then.

    `instead`: these take its place, as when some of an alias' targets have their copy already; it stays their
    `orcpt`. `tried`: this was an attempt. `reserved`: a limit gave it this time.
    """

    id: MessageId
    address: Address
    next_try: float | None
    reply: str = ""
    instead: tuple[Address, ...] = ()
    tried: bool = True
    reserved: bool = False


@dataclass(frozen=True, slots=True)
class _Warned:
    """The sender of a message knows that it waits."""

    id: MessageId


@dataclass
class _Accept:
    id: MessageId
    envelope: Envelope
    body: bytes
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[None]"


@dataclass
class _Settled:
    id: MessageId
    then: Callable[[MessageId], None]
    loop: asyncio.AbstractEventLoop

    def tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self.loop.call_soon_threadsafe(self.then, self.id)


@dataclass(frozen=True, slots=True)
class _Count:
    """So many recipients more on a day, of a tenant."""

    day: str
    tenant: str
    recipients: int


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a recipient of a mass mailing: delivered, deferred, failed; `at` in epoch seconds."""

    at: float
    id: MessageId
    sender: str
    recipient: str
    campaign: str
    kind: str
    class_: str  # of the reply, "" where it is positive
    reply: str


@dataclass(frozen=True, slots=True)
class _Paused:
    """A destination is left alone until then."""

    destination: str
    until: float
    why: str


_Report = Outcome | Event | _Warned | _Count | _Paused | _Settled
_AWAKE = object()  # in the queue of the writer: there are reports again


class Spool:
    """One folder, one writer thread. Use `open()`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()  # _Accept, _AWAKE, None at the end
        self._reports: deque[_Report] = deque()
        self._asleep = False  # the writer looks at reports only when it is told to
        self._waiting_bytes = 0
        self._closed: str | None = None
        self._full = False
        self._ballast = path / "ballast"
        self._ballast_gone = True
        self._next_check = 0.0
        self._sequence = 0
        self._prefix = ""
        self._bodies = path / "bodies"
        self.on_accept: Callable[[Due, bytes], None] | None = None  # called in the loop after the commit
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._reader = sqlite3.connect(":memory:")
        self._lock = -1  # the kernel gives it back however this process ends

    @classmethod
    def open(cls, path: Path) -> "Spool":
        """Open or make the folder and recover what it holds.

        Raises OSError, also where another process has it open, and sqlite3.Error.
        """
        spool = cls(path)
        spool._bodies.mkdir(parents=True, exist_ok=True, mode=0o700)
        spool._lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(spool._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        database = spool._connect()
        database.executescript(_SCHEMA)
        _upgrade(database)
        spool._take_ballast()
        named = {row[0] for row in database.execute("SELECT id FROM message WHERE body IS NULL")}
        for file in spool._bodies.iterdir():
            if file.name not in named:
                file.unlink()  # its message was never acknowledged, or is done
        # A clock that went back must not make an id twice: the rest of it is random.
        spool._prefix = f"{int(time.time()):08x}{os.urandom(4).hex()}"
        database.close()
        spool._reader = spool._connect()
        spool._thread.start()
        return spool

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path / "queue.db", isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("PRAGMA foreign_keys=ON")
        database.execute("PRAGMA busy_timeout=10000")
        return database

    async def accept(self, envelope: Envelope, body: bytes) -> MessageId:
        """Take the message; on return it is on disk, synced. Raises SpoolFull, SpoolBusy, SpoolClosed."""
        if self._closed is not None:
            raise SpoolClosed(self._closed)
        if self._waiting_bytes + len(body) > MAX_WAITING_BYTES:
            raise SpoolBusy("too much waits to be written")
        self._check_space()
        self._sequence += 1
        message = MessageId(f"{self._prefix}{self._sequence:08x}")
        loop = asyncio.get_running_loop()
        accept = _Accept(message, envelope, body, loop, loop.create_future())
        self._waiting_bytes += len(body)
        self._jobs.put(accept)
        try:
            await accept.done
        finally:
            self._waiting_bytes -= len(body)
        if self.on_accept is not None:  # later: the client waits for its 250
            loop.call_soon(self.on_accept, Due(message, envelope, envelope.recipients, 0), body)
        return message

    def _check_space(self) -> None:
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + CHECK_SECONDS
            disk = os.statvfs(self._path)
            self._full = disk.f_bavail * disk.f_frsize < RESERVE_BYTES
            if self._ballast_gone and not self._full:
                self._take_ballast()
        if self._full or self._ballast_gone:
            raise SpoolFull("no space is left for mail")

    def _take_ballast(self) -> None:
        """Set space aside for noting deliveries: without, a disk that is full to the last byte stays so."""
        try:
            with open(self._ballast, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
            self._ballast_gone = False
        except OSError:
            self._ballast.unlink(missing_ok=True)

    def report(self, outcome: Outcome) -> None:
        """Note what became of a recipient, soon. The last one of a message removes it."""
        self._report(outcome)

    def warned(self, message: MessageId) -> None:
        """Note, soon, that the sender knows that the message waits."""
        self._report(_Warned(message))

    def paused(self, destination: str, until: float, why: str) -> None:
        """Note, soon and for people, that a destination is left alone; `until` in epoch seconds."""
        self._report(_Paused(destination, until, why))

    def event(self, event: Event) -> None:
        """Keep an event. Reported before its outcome, it is there once more where a crash repeats that."""
        self._report(event)

    def count(self, day: str, tenant: str, recipients: int) -> None:
        """Note, soon, that a tenant sends to so many more on a day."""
        self._report(_Count(day, tenant, recipients))

    def sent(self, since: str) -> dict[tuple[str, str], int]:
        """(day, tenant) -> recipients, of the days since then."""
        rows = self._reader.execute("SELECT day, tenant, recipients FROM sent WHERE day >= ?", (since,))
        return {(day, tenant): recipients for day, tenant, recipients in rows}

    def settled(self, message: MessageId, then: Callable[[MessageId], None]) -> None:
        """Call `then` on the running loop once all that was reported so far is committed."""
        self._report(_Settled(message, then, asyncio.get_running_loop()))

    def _report(self, report: _Report) -> None:
        self._reports.append(report)
        if self._asleep:
            self._asleep = False
            self._jobs.put(_AWAKE)

    def close(self) -> None:
        """Write what waits, and end."""
        self._closed = self._closed or "the server is shutting down"
        self._jobs.put(None)
        self._thread.join()
        self._reader.close()
        os.close(self._lock)

    # ---- the writer thread ----

    def _run(self) -> None:
        database = self._connect()
        ending = False
        while not ending:
            accepts, ending = self._gather()
            reports = [self._reports.popleft() for _ in range(len(self._reports))]
            try:
                self._write(database, accepts, reports)
            except Exception:
                # One that cannot be written must not take the others with it: each for itself.
                for accept in accepts:
                    self._write_alone(database, [accept], [])
                for report in reports:
                    self._write_alone(database, [], [report])
        database.close()

    def _gather(self) -> tuple[list[_Accept], bool]:
        """All messages that wait, or none where reports have waited long enough; and whether to end."""
        jobs = [self._next()]
        with suppress(queue.Empty):
            while True:
                jobs.append(self._jobs.get_nowait())
        return [job for job in jobs if isinstance(job, _Accept)], None in jobs

    def _next(self) -> Any:
        while True:
            try:
                return self._jobs.get(timeout=LAG_SECONDS)
            except queue.Empty:
                if self._reports:
                    return _AWAKE
            self._asleep = True  # before the look: who reports after it finds the writer asleep
            if self._reports:
                self._asleep = False
            elif (job := self._jobs.get()) is not _AWAKE:
                self._asleep = False
                return job

    def _write_alone(
        self, database: sqlite3.Connection, accepts: list[_Accept], reports: list[_Report]
    ) -> None:
        try:
            self._write(database, accepts, reports)
        except Exception as error:
            LOG.exception("spool %s cannot write %r", self._path, accepts or reports)
            _wake(accepts, SpoolError(f"cannot be written: {error}"))

    def _write(self, database: sqlite3.Connection, accepts: list[_Accept], reports: list[_Report]) -> None:
        _wake(accepts, self._commit(database, accepts, reports))

    def _commit(
        self, database: sqlite3.Connection, accepts: list[_Accept], reports: list[_Report]
    ) -> SpoolError | None:
        try:
            self._write_bodies(accepts)
            database.execute("BEGIN IMMEDIATE")
            _insert(database, accepts)
            files = _note(database, [report for report in reports if isinstance(report, Outcome)])
            _note_others(database, reports)
            database.execute("COMMIT")
        except (OSError, sqlite3.DatabaseError) as error:
            self._roll_back(database, accepts)
            return self._failed(error, reports)
        except Exception:
            self._roll_back(database, accepts)
            raise
        for name in files:
            (self._bodies / name).unlink(missing_ok=True)
        for report in reports:
            if isinstance(report, _Settled):
                report.tell()  # not before: who is told looks into the database, and would find it undone
        return None

    def _roll_back(self, database: sqlite3.Connection, accepts: list[_Accept]) -> None:
        if database.in_transaction:
            database.execute("ROLLBACK")
        for accept in accepts:
            (self._bodies / accept.id).unlink(missing_ok=True)

    def _failed(self, error: Exception, reports: list[_Report]) -> SpoolError:
        if "full" in str(error) or getattr(error, "errno", None) in (28, 122):  # ENOSPC, EDQUOT
            LOG.error("spool %s is full: %s", self._path, error)
            self._ballast_gone = True
            self._ballast.unlink(missing_ok=True)
            self._reports.extendleft(reversed(reports))  # done is done: noted once there is space again
            time.sleep(0.1)
            return SpoolFull("no space is left for mail")
        # After a failed sync nobody knows what is on disk (fsync(2)): only a new start reads it again.
        self._closed = f"the spool failed: {error}"
        LOG.critical("spool %s closed: %s", self._path, error)
        return SpoolClosed(self._closed)

    def _write_bodies(self, accepts: Iterable[_Accept]) -> None:
        large = [accept for accept in accepts if len(accept.body) > INLINE_BYTES]
        if not large:
            return
        with ExitStack() as opened:
            files = [opened.enter_context(open(self._bodies / a.id, "xb", buffering=0)) for a in large]
            for accept, file in zip(large, files, strict=True):
                rest = memoryview(accept.body)
                while rest:
                    rest = rest[file.write(rest) :]
            for file in files:  # when all are written: the first sync takes most of the others with it
                os.fdatasync(file.fileno())
        folder = os.open(self._bodies, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    # ---- what delivery reads ----

    def due(
        self, after: float, until: float, limit: int, start: Cursor | None = None
    ) -> tuple[list[Due], Cursor | None]:
        """At most `limit` messages with recipients whose time came after `after` and by `until`, in order.

        Returns where to go on, None at the end. Times are seconds since the epoch.
        """
        rows = self._reader.execute(
            f"SELECT {_DUE}, m.number FROM recipient r JOIN message m ON m.number = r.message "
            "WHERE r.next_try > ? AND r.next_try <= ? AND (r.next_try, r.message) > (?, ?) "
            "ORDER BY r.next_try, r.message",
            (after, until, *(start or (after, 0))),
        )
        groups: list[list[tuple[Any, ...]]] = []
        end: Cursor | None = None
        for row in rows:
            if groups and groups[-1][0][-1] == row[-1] and groups[-1][0][_NEXT_TRY] == row[_NEXT_TRY]:
                groups[-1].append(row)
            elif len(groups) == limit:
                end = (groups[-1][0][_NEXT_TRY], groups[-1][0][-1])
                break
            else:
                groups.append([row])
        rows.close()  # a statement that is not at its end would hold back the checkpoints of the WAL
        return [_due(group) for group in groups], end

    def message(self, id: MessageId, now: float) -> Due | None:
        """A message with the recipients that are due now; None if there are none."""
        rows = self._reader.execute(
            f"SELECT {_DUE} FROM message m JOIN recipient r ON r.message = m.number "
            "WHERE m.id = ? AND r.next_try <= ?",
            (id, now),
        ).fetchall()
        return _due(rows) if rows else None

    def whole(self, id: MessageId, now: float) -> tuple[Due | None, bytes | None]:
        """The same, with its body if that lies in the database."""
        due = self.message(id, now)
        row = self._reader.execute("SELECT body FROM message WHERE id = ?", (id,)).fetchone()
        return due, row[0] if due and row else None

    def wholes(
        self, ids: Sequence[MessageId], now: float
    ) -> dict[MessageId, tuple[Due | None, bytes | None]]:
        """The same of several. Those of which nothing is due are not there."""
        # A body may be large, and a message have many recipients: it is read once, and not with each of them.
        messages = {
            row[0]: row
            for row in self._reader.execute(
                f"SELECT m.number, m.body, {_OF_MESSAGE} FROM json_each(?) wanted "
                "CROSS JOIN message m ON m.id = wanted.value",
                (json.dumps(ids),),
            )
        }
        groups: dict[int, list[tuple[Any, ...]]] = {}
        for number, *recipient in self._reader.execute(
            f"SELECT r.message, {_OF_RECIPIENT} FROM json_each(?) wanted "
            "CROSS JOIN recipient r ON r.message = wanted.value WHERE r.next_try <= ?",
            (json.dumps(list(messages)), now),
        ):
            groups.setdefault(number, []).append((*messages[number][2:], *recipient))
        return {group[0][0]: (_due(group), messages[number][1]) for number, group in groups.items()}

    def older(self, received: float, limit: int, start: int = 0) -> tuple[list[Due], int]:
        """At most `limit` messages of before `received`, the oldest first, with all recipients not held.

        Begins behind the message of number `start`; returns that of the last one. Those that came from
        another spool are found when they are the oldest here.
        """
        found: list[Due] = []
        rows = self._reader.execute(
            "SELECT number, received_at FROM message WHERE number > ? ORDER BY number LIMIT ?", (start, limit)
        ).fetchall()
        for number, received_at in rows:
            if received_at >= received:
                break
            start = number
            recipients = self._reader.execute(
                f"SELECT {_DUE} FROM message m JOIN recipient r ON r.message = m.number "
                "WHERE m.number = ? AND r.next_try < ?",
                (number, HELD),
            ).fetchall()
            if recipients:
                found.append(_due(recipients))
        return found, start

    def body(self, message: MessageId) -> bytes:
        """The message as it was accepted. Raises KeyError when it is done."""
        row = self._reader.execute("SELECT body FROM message WHERE id = ?", (message,)).fetchone()
        if row is None:
            raise KeyError(message)
        return (self._bodies / message).read_bytes() if row[0] is None else bytes(row[0])


def _upgrade(database: sqlite3.Connection) -> None:
    """Add what the tables of an older version lack."""
    for table, column, kind in _ADDED:
        if column not in {row[1] for row in database.execute(f"PRAGMA table_info({table})")}:
            database.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


def _wake(accepts: Sequence[_Accept], error: SpoolError | None) -> None:
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

    accepts[0].loop.call_soon_threadsafe(wake)


def _insert(database: sqlite3.Connection, accepts: Sequence[_Accept]) -> None:
    for accept in accepts:
        envelope, body = accept.envelope, accept.body
        number = database.execute(
            f"INSERT INTO message ({_MESSAGE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                accept.id,
                envelope.sender,
                envelope.received_at,
                envelope.client_ip,
                envelope.helo,
                envelope.protocol,
                envelope.account,
                envelope.smtputf8,
                envelope.body_8bit,
                len(body),
                body if len(body) <= INLINE_BYTES else None,
                envelope.campaign,
            ),
        ).lastrowid
        database.executemany(
            "INSERT OR IGNORE INTO recipient (message, address, notify, orcpt, next_try) "
            "VALUES (?, ?, ?, ?, ?)",
            [(number, r.address, r.notify, r.orcpt, envelope.received_at) for r in envelope.recipients],
        )


def _note(database: sqlite3.Connection, outcomes: Sequence[Outcome]) -> list[str]:
    """Write outcomes; the files of messages that are done by them."""
    done = [(outcome.id, outcome.address) for outcome in outcomes if outcome.next_try is None]
    for outcome in outcomes:
        if outcome.next_try is not None:
            _put_off(database, outcome)
    if not done:
        return []
    database.execute(
        # CROSS JOIN: in this order, or the planner begins with the whole table.
        "DELETE FROM recipient WHERE (message, address) IN (SELECT m.number, d.value ->> 1 "
        "FROM json_each(?) d CROSS JOIN message m WHERE m.id = d.value ->> 0)",
        (json.dumps(done),),
    )
    ids = json.dumps(list({id for id, _ in done}))
    ended = (
        "id IN (SELECT value FROM json_each(?)) "
        "AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.message = number)"
    )
    gone = database.execute(f"DELETE FROM message WHERE {ended} RETURNING id, body IS NULL", (ids,))
    return [id for id, in_file in gone.fetchall() if in_file]


def _note_others(database: sqlite3.Connection, reports: Sequence[_Report]) -> None:
    told = [(report.id,) for report in reports if isinstance(report, _Warned)]
    if told:
        database.executemany("UPDATE message SET warned = 1 WHERE id = ?", told)
    paused = [(r.destination, r.until, r.why) for r in reports if isinstance(r, _Paused)]
    if paused:
        database.executemany("INSERT OR REPLACE INTO paused VALUES (?, ?, ?)", paused)
        database.execute("DELETE FROM paused WHERE until < ?", (time.time(),))
    events = [astuple(report) for report in reports if isinstance(report, Event)]
    if events:
        database.executemany(INSERT_EVENT, events)
        database.execute("DELETE FROM event WHERE at < ?", (time.time() - EVENTS_SECONDS,))
    counts = [(r.day, r.tenant, r.recipients) for r in reports if isinstance(r, _Count)]
    if counts:
        database.executemany(
            "INSERT INTO sent VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
            "SET recipients = recipients + excluded.recipients",
            counts,
        )
        oldest = time.strftime("%Y-%m-%d", time.gmtime(time.time() - _KEPT_DAYS * 86400))
        database.execute("DELETE FROM sent WHERE day < ?", (oldest,))


def _put_off(database: sqlite3.Connection, outcome: Outcome) -> None:
    row = database.execute("SELECT number FROM message WHERE id = ?", (outcome.id,)).fetchone()
    if row is None:
        return
    database.execute(
        "UPDATE recipient SET attempts = attempts + ?, next_try = ?, reply = ?, reserved = ? "
        "WHERE message = ? AND address = ? AND next_try < ?",  # what an administrator holds stays so
        (
            *(outcome.tried, outcome.next_try, outcome.reply, outcome.reserved),
            *(row[0], outcome.address, HELD),
        ),
    )
    if outcome.instead:
        copy = (
            "INSERT OR IGNORE INTO recipient "
            "(message, address, notify, orcpt, next_try, attempts, reply) "
            "SELECT message, ?, notify, coalesce(orcpt, 'rfc822;' || address), next_try, attempts, reply "
            "FROM recipient "
            "WHERE message = ? AND address = ?"
        )
        database.executemany(copy, [(to, row[0], outcome.address) for to in outcome.instead])
        database.execute("DELETE FROM recipient WHERE message = ? AND address = ?", (row[0], outcome.address))


_ENVELOPE = (
    *("sender", "received_at", "client_ip", "helo", "protocol", "account", "smtputf8", "body_8bit"),
    "campaign",
)
_MESSAGE = (
    "id, sender, received_at, client_ip, helo, protocol, account, smtputf8, body_8bit, size, body, campaign"
)
# Table, column and its type: what was not there from the start.
_ADDED = (
    ("message", "warned", "INTEGER NOT NULL DEFAULT 0"),
    ("message", "campaign", "TEXT NOT NULL DEFAULT ''"),
    ("recipient", "reserved", "INTEGER NOT NULL DEFAULT 0"),
)
_KEPT_DAYS = 31  # of counts
_OF_MESSAGE = ", ".join(f"m.{name}" for name in ("id", *_ENVELOPE, "warned"))
_OF_RECIPIENT = ", ".join(
    f"r.{name}" for name in ("address", "notify", "orcpt", "attempts", "next_try", "reply", "reserved")
)
_DUE = f"{_OF_MESSAGE}, {_OF_RECIPIENT}"
_NEXT_TRY = 15  # its column


def _due(rows: Sequence[tuple[Any, ...]]) -> Due:
    """Of the rows of one message, with the columns of _DUE."""
    first = rows[0]
    if len(rows) == 1:  # nearly all have one, and this is done for each message twice
        recipients: tuple[Recipient, ...] = (Recipient(*first[11:14]),)
        attempts, reserved = first[14], bool(first[17])
        replies = {first[11]: first[16]} if first[16] else {}
    else:
        recipients = tuple(Recipient(*row[11:14]) for row in rows)
        attempts, reserved = max(row[14] for row in rows), all(row[17] for row in rows)
        replies = {row[11]: row[16] for row in rows if row[16]}
    id, sender, received_at, client_ip, helo, protocol, account, utf8, eight_bit, campaign = first[:10]
    return Due(
        MessageId(id),
        # By position: by name it takes twice the time.
        Envelope(
            sender,
            recipients,
            received_at,
            client_ip,
            helo,
            protocol,
            account,
            bool(utf8),
            bool(eight_bit),
            campaign,
        ),
        recipients,
        attempts=attempts,
        next_try=first[_NEXT_TRY],
        warned=bool(first[10]),
        reserved=reserved,
        replies=replies,
    )
