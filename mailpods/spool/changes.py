"""What a commit of the writer changes: messages that were taken, what became of recipients, and notes."""

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

from mailpods.directory.records import Address
from mailpods.spool import schema
from mailpods.spool.bodies import INLINE_BYTES
from mailpods.spool.message import HELD, DeliveryResult, Envelope, Event, MessageId

EVENTS_SECONDS = 7 * 86400.0  # that events are kept
COUNTS_DAYS = 31  # that counts are kept


@dataclass(frozen=True, slots=True)
class Warned:
    """The sender of a message knows that it waits."""

    id: MessageId


@dataclass(frozen=True, slots=True)
class Counted:
    """So many recipients more on a day (YYYY-MM-DD), of a tenant."""

    day: str
    tenant: str
    recipients: int


@dataclass(frozen=True, slots=True)
class Paused:
    """A destination is left alone until then, epoch seconds."""

    destination: str
    until: float
    why: str


Change = DeliveryResult | Event | Warned | Counted | Paused

_ENVELOPE = [field.name for field in fields(Envelope) if field.name != "recipients"]
assert [column.name for column in schema.ENVELOPE] == _ENVELOPE
_INSERT_MESSAGE = f"INSERT {schema.insert('message', schema.MESSAGE, 'body')}"
_INSERT_RECIPIENT = (
    "INSERT OR IGNORE INTO recipient (message, address, notify, orcpt, next_try) VALUES (?, ?, ?, ?, ?)"
)


def insert(database: sqlite3.Connection, messages: Iterable[tuple[MessageId, Envelope, bytes]]) -> None:
    """Take messages in; their recipients are due at once."""
    for id, envelope, body in messages:
        number = database.execute(
            _INSERT_MESSAGE,
            (
                id,
                # In the order of schema.ENVELOPE; by a loop over names it takes twice the time.
                envelope.sender,
                envelope.received_at,
                envelope.client_ip,
                envelope.helo,
                envelope.protocol,
                envelope.account,
                envelope.smtputf8,
                envelope.body_8bit,
                envelope.campaign,
                envelope.ret,
                envelope.envid,
                False,
                len(body),
                body if len(body) <= INLINE_BYTES else None,
            ),
        ).lastrowid
        database.executemany(
            _INSERT_RECIPIENT,
            [(number, r.address, r.notify, r.orcpt, envelope.received_at) for r in envelope.recipients],
        )


def note(database: sqlite3.Connection, changes: Sequence[Change]) -> list[str]:
    """Write what is reported; returns the messages with files of their own that are done by it."""
    ended = _results(database, [change for change in changes if isinstance(change, DeliveryResult)])
    told = [(change.id,) for change in changes if isinstance(change, Warned)]
    if told:
        database.executemany("UPDATE message SET warned = 1 WHERE id = ?", told)
    paused = [astuple(change) for change in changes if isinstance(change, Paused)]
    if paused:
        database.executemany("INSERT OR REPLACE INTO paused VALUES (?, ?, ?)", paused)
        database.execute("DELETE FROM paused WHERE until < ?", (time.time(),))
    events = [astuple(change) for change in changes if isinstance(change, Event)]
    if events:
        database.executemany(schema.INSERT_EVENT, events)
        database.execute("DELETE FROM event WHERE at < ?", (time.time() - EVENTS_SECONDS,))
    counts = [astuple(change) for change in changes if isinstance(change, Counted)]
    if counts:
        database.executemany(
            "INSERT INTO sent VALUES (?, ?, ?) ON CONFLICT DO UPDATE "
            "SET recipients = recipients + excluded.recipients",
            counts,
        )
        oldest = time.strftime("%Y-%m-%d", time.gmtime(time.time() - COUNTS_DAYS * 86400))
        database.execute("DELETE FROM sent WHERE day < ?", (oldest,))
    return ended


def _results(database: sqlite3.Connection, results: Sequence[DeliveryResult]) -> list[str]:
    done = [(result.id, result.address) for result in results if result.next_try is None]
    for result in results:
        if result.next_try is not None:
            _put_off(database, result)
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


def _put_off(database: sqlite3.Connection, result: DeliveryResult) -> None:
    row = database.execute("SELECT number FROM message WHERE id = ?", (result.id,)).fetchone()
    if row is None:
        return
    database.execute(
        "UPDATE recipient SET attempts = attempts + ?, next_try = ?, reply = ?, reserved = ? "
        "WHERE message = ? AND address = ? AND next_try < ?",  # what an administrator holds stays so
        (
            *(result.tried, result.next_try, result.reply, result.reserved),
            *(row[0], result.address, HELD),
        ),
    )
    if result.replaced_by:
        _replace(database, row[0], result.address, result.replaced_by)


def _replace(
    database: sqlite3.Connection, number: int, address: Address, replaced_by: Sequence[Address]
) -> None:
    copy = (
        "INSERT OR IGNORE INTO recipient (message, address, notify, orcpt, next_try, attempts, reply) "
        "SELECT message, ?, notify, coalesce(orcpt, 'rfc822;' || address), next_try, attempts, reply "
        "FROM recipient WHERE message = ? AND address = ?"
    )
    database.executemany(copy, [(to, number, address) for to in replaced_by])
    if address not in replaced_by:
        database.execute("DELETE FROM recipient WHERE message = ? AND address = ?", (number, address))
