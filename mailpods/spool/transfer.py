"""Before a pod goes, what still waits in its spools moves to another smtp pod, which may stay for longer.

A pod that leaves for good would take its queue with it, onto a volume that nobody reads. Pods do not know who
leaves for good, so each one does it; where there is no other pod, the queue waits for the next start.

Messages go in batches, each a line of JSON and the bodies behind it. The answer says of each message whether
it was taken, so that one that a peer refuses holds up no other. A peer remembers what it took: where its
answer is lost it is asked once more, and nobody else is, or there would be two copies.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailpods.admin import peers as http
from mailpods.admin.server import Request, Response
from mailpods.spool import schema
from mailpods.spool.bodies import Bodies, BodyMissing
from mailpods.spool.message import MessageId
from mailpods.spool.space import free_bytes
from mailpods.spool.view import QueueView

PATH = "/queue/adopt"
MAX_BODY = 192 << 20  # bytes of a request; the largest message (R-003-36) with room for its record
VERSION = 1  # of the form of a batch
BATCH, BATCH_BYTES = 500, 8 << 20  # messages, and bytes of their bodies, that go together
REMEMBERED_SECONDS = 7 * 86400.0  # that a peer knows what it took
_ANSWER_SECONDS, _ATTEMPTS = 15.0, 3  # each attempt at a peer that may have taken them waits twice as long

_REQUIRED = tuple(
    column.name
    for column in (*schema.MESSAGE, *schema.RECIPIENT)
    if "NOT NULL" in column.declaration and "DEFAULT" not in column.declaration
)
NO_SPACE = "no space is left for mail"
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message with the state of its recipients, by the names of the columns, and its body."""

    record: Record
    body: bytes


def batches(view: QueueView, ids: Sequence[str], log: Callable[[str], None]) -> Iterator[list[Parcel]]:
    """The messages, in batches. One that cannot be read is said and left out."""
    batch, size = list[Parcel](), 0
    with closing(schema.connect(view.file)) as database:
        for id in ids:
            try:
                parcel = _read(database, view.file.parent, id)
            except (BodyMissing, OSError, sqlite3.Error) as error:
                log(f"queue: {id} stays: {error}")
                continue
            if parcel is None:
                continue  # an administrator deleted it meanwhile
            if batch and (len(batch) == BATCH or size + len(parcel.body) > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(parcel)
            size += len(parcel.body)
    if batch:
        yield batch


def _read(database: sqlite3.Connection, folder: Path, id: str) -> Parcel | None:
    row = database.execute(
        f"SELECT number, body, {schema.names(schema.MESSAGE)} FROM message WHERE id = ?", (id,)
    ).fetchone()
    if row is None:
        return None
    recipients = database.execute(
        f"SELECT {schema.names(schema.RECIPIENT)} FROM recipient WHERE message = ?", (row[0],)
    ).fetchall()
    body = Bodies(folder / "bodies").read(MessageId(id)) if row[1] is None else bytes(row[1])
    record: Record = {column.name: value for column, value in zip(schema.MESSAGE, row[2:], strict=True)}
    names = [column.name for column in schema.RECIPIENT]
    record["recipients"] = [dict(zip(names, each, strict=True)) for each in recipients]
    return Parcel(record, body)


def ids(view: QueueView) -> list[str]:
    """All messages, the oldest first."""
    with closing(schema.connect(view.file)) as database:
        return [row[0] for row in database.execute("SELECT id FROM message ORDER BY number")]


def forget(view: QueueView, gone: Sequence[str]) -> None:
    """These messages are somebody else's now. Raises sqlite3.Error."""
    with closing(schema.connect(view.file)) as database:
        database.execute(
            "DELETE FROM message WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(gone),)
        )
    Bodies(view.file.parent / "bodies").remove(gone)


# ---- who gives ----


@dataclass
class _Peers:
    """Those that still take something, the first of them first."""

    willing: list[str]
    key: str
    until: float  # monotonic
    log: Callable[[str], None]

    def place(self, batch: list[Parcel]) -> list[str]:
        """Give it away; the ids of what was taken. What one peer refuses is offered to the next one."""
        taken: list[str] = []
        for peer in list(self.willing):
            if not batch or time.monotonic() >= self.until:
                break
            try:
                answer = self._offer(peer, batch)
            except _Unsure as error:  # it may have them, and nobody else must get them
                self.willing.remove(peer)
                self.log(f"{peer} does not say whether it took {len(batch)} messages: {error}")
                break
            except http.Failures as error:
                self.willing.remove(peer)
                self.log(f"{peer} does not take the queue: {error}")
                continue
            now_taken = set(answer["taken"])
            taken += now_taken
            batch = [parcel for parcel in batch if parcel.record["id"] not in now_taken]
            for parcel in batch[:10]:
                id = parcel.record["id"]
                self.log(f"queue: {peer} does not take {id}: {answer['refused'].get(id, 'it says nothing')}")
        return taken

    def _offer(self, peer: str, batch: Sequence[Parcel]) -> dict[str, Any]:
        """What a peer says to a batch. Raises one of peers.Failures where it took none, _Unsure."""
        data, seconds, sent = encode(batch), _ANSWER_SECONDS, False
        for attempt in range(_ATTEMPTS):
            try:
                found = json.loads(http.ask(peer, "POST", PATH, self.key, data, seconds))
                return {"taken": [str(id) for id in found["taken"]], "refused": dict(found["refused"])}
            except (ConnectionRefusedError, http.Refused) as error:
                if sent:
                    raise _Unsure(str(error)) from error
                raise
            except (*http.Failures, KeyError, TypeError) as error:
                sent, seconds = True, 2 * seconds
                if attempt == _ATTEMPTS - 1 or time.monotonic() >= self.until:
                    raise _Unsure(repr(error)) from error
        raise AssertionError("unreachable")


class _Unsure(Exception):
    """A peer got a batch, and its answer did not come."""


def encode(batch: Sequence[Parcel]) -> bytes:
    """A batch as it goes over the wire."""
    records = [{**parcel.record, "length": len(parcel.body)} for parcel in batch]
    line = json.dumps({"version": VERSION, "messages": records}).encode()
    return b"".join([line, b"\n", *(parcel.body for parcel in batch)])


def give(peer: str, key: str, record: Mapping[str, Any], body: bytes) -> None:
    """Have the program at `peer` (host:port) take one message; on return it is on disk there, synced.

    Raises one of peers.Failures where it does not take it.
    """
    http.ask(peer, "POST", PATH, key, json.dumps(record).encode() + b"\n" + body, 2 * _ANSWER_SECONDS)


def hand_over(
    views: Sequence[QueueView], peers: Sequence[str], key: str, seconds: float, log: Callable[[str], None]
) -> tuple[int, int]:
    """Move all messages to the first of `peers` (host:port) that takes them, in at most `seconds`.

    Nobody else may have the spools open. Returns how many went, and how many stay.
    """
    to, moved, count = _Peers(list(peers), key, time.monotonic() + seconds, log), 0, 0
    for view in views:
        all_ids = ids(view)
        count += len(all_ids)
        for batch in batches(view, all_ids, log):
            if not to.willing or time.monotonic() >= to.until:
                break
            taken = to.place(batch)
            try:
                forget(view, taken)  # not before: a crash in between delivers twice, and loses nothing
            except sqlite3.Error as error:
                log(f"queue: {len(taken)} messages went and cannot be removed: {error}")
            moved += len(taken)
    if count:
        log(f"queue: {moved} messages went to other pods, {count - moved} stay")
    return moved, count - moved


# ---- who takes ----


def adopt(request: Request, key: str | None, view: QueueView) -> Response:
    """Take the messages of a sender who knows the installation's key; on return they are on disk, synced."""
    if not request.bears(key):
        return Response.text("this takes the installation's own key", 403)
    try:
        batch, is_one = decode(request.body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Response.text(f"not a batch of messages: {error!r}", 400)
    try:
        refused = take(view, batch)
    except (OSError, sqlite3.Error) as error:
        return Response.text(str(error), 507)
    if refused and is_one:
        why = "".join(refused.values())
        return Response.text(why, 507 if why == NO_SPACE else 400)
    taken = [parcel.record["id"] for parcel in batch if parcel.record["id"] not in refused]
    return Response.json({"taken": taken, "refused": refused})


def decode(data: bytes) -> tuple[list[Parcel], bool]:
    """A batch; or one message, as give() sends it and as older versions did, and whether it is in that form.

    Raises ValueError and its like.
    """
    line, _, bodies = data.partition(b"\n")
    given = json.loads(line)
    if "messages" not in given:
        return [Parcel(dict(given), bodies)], bool(given["id"])
    found, rest = [], memoryview(bodies)
    for record in given["messages"]:
        length = int(record["length"])
        if length > len(rest):
            raise ValueError("it ends before its last body does")
        found.append(Parcel(dict(record), bytes(rest[:length])))
        rest = rest[length:]
    return found, False


def take(view: QueueView, batch: Sequence[Parcel]) -> Mapping[str, str]:
    """Store a batch, synced; why some of it was not. One that was taken before stays as it is.

    Raises sqlite3.Error, OSError where nothing of it could be stored.
    """
    refused: dict[str, str] = {}
    now = time.time()
    with closing(schema.connect(view.file)) as database:
        database.execute("BEGIN IMMEDIATE")
        left = free_bytes(view.file.parent, database)
        numbers: list[int] = []
        for parcel in batch:
            id = str(parcel.record.get("id"))
            if left < len(parcel.body):
                refused[id] = NO_SPACE
                continue
            database.execute("SAVEPOINT one")
            try:
                numbers += _store(database, parcel, now)
                left -= len(parcel.body)
            except (KeyError, TypeError, sqlite3.IntegrityError, sqlite3.ProgrammingError) as error:
                database.execute("ROLLBACK TO one")
                refused[id] = f"not a message: {error!r}"
            database.execute("RELEASE one")
        database.execute("DELETE FROM adopted WHERE at < ?", (now - REMEMBERED_SECONDS,))
        schema.wake(database, json.dumps(numbers))
        database.execute("COMMIT")
    return refused


def _store(database: sqlite3.Connection, parcel: Parcel, now: float) -> list[int]:
    """The number of the message here; none for one that is or was here."""
    record = parcel.record
    if not database.execute("INSERT OR IGNORE INTO adopted VALUES (?, ?)", (record["id"], now)).rowcount:
        return []
    if database.execute("SELECT 1 FROM message WHERE id = ?", (record["id"],)).fetchone():
        return []
    recipients = record["recipients"]
    for each, names in ((record, schema.MESSAGE), *((each, schema.RECIPIENT) for each in recipients)):
        for column in names:
            if column.name in _REQUIRED and each[column.name] is None:
                raise KeyError(f"{column.name} is null")
    # Its body lies in the database whatever its size: files are its owner's to write and to remove.
    columns = [column for column in schema.MESSAGE if column.name in record]
    made = database.execute(
        f"INSERT {schema.insert('message', columns, 'body')}",
        [*(record[column.name] for column in columns), parcel.body],
    )
    for each in recipients:
        each = {**each, "next_try": max(each["next_try"], now)}  # what was due there is due here from now on
        there = [column for column in schema.RECIPIENT if column.name in each]
        database.execute(
            f"INSERT OR IGNORE {schema.insert('recipient', there, 'message')}",
            [*(each[column.name] for column in there), made.lastrowid],
        )
    return [made.lastrowid or 0]
