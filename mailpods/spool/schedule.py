"""What is to be delivered when: the spool as delivery reads it. Times are seconds since the epoch."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from mailpods.spool import schema
from mailpods.spool.bodies import Bodies
from mailpods.spool.message import HELD, Envelope, MessageId, QueuedMessage, Recipient

Cursor = tuple[float, int]  # how far due() has read

_OF_MESSAGE = f"m.id, {schema.names(schema.ENVELOPE, 'm')}, m.warned"
_QUEUED = f"{_OF_MESSAGE}, {schema.names(schema.RECIPIENT, 'r')}"
_WARNED = 1 + len(schema.ENVELOPE)
_ADDRESS = _WARNED + 1
_ATTEMPTS, _NEXT_TRY, _REPLY, _RESERVED = range(_ADDRESS + 3, _ADDRESS + 7)
Whole = tuple[QueuedMessage | None, bytes | None]  # with its body, if that lies in the database


class Schedule:
    """Reads over a connection of its own, in the loop of the worker."""

    def __init__(self, database: sqlite3.Connection, bodies: Bodies) -> None:
        self._database, self._bodies = database, bodies

    def due(
        self, after: float, until: float, limit: int, start: Cursor | None = None
    ) -> tuple[list[QueuedMessage], Cursor | None]:
        """At most `limit` messages with recipients whose time came after `after` and by `until`, in order.

        Returns where to go on, None at the end.
        """
        rows = self._database.execute(
            f"SELECT {_QUEUED}, m.number FROM recipient r JOIN message m ON m.number = r.message "
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
        return [_queued(group) for group in groups], end

    def woken(self, after: int, limit: int) -> tuple[list[MessageId], int]:
        """Messages that others than the writer made due, behind this number; and that of the last."""
        rows = self._database.execute(
            "SELECT w.number, m.id FROM woken w LEFT JOIN message m ON m.number = w.message "
            "WHERE w.number > ? ORDER BY w.number LIMIT ?",
            (after, limit),
        ).fetchall()
        return list(dict.fromkeys(id for _, id in rows if id)), rows[-1][0] if rows else after

    def message(self, id: MessageId, now: float) -> QueuedMessage | None:
        """A message with the recipients that are due now; None if there are none."""
        rows = self._database.execute(
            f"SELECT {_QUEUED} FROM message m JOIN recipient r ON r.message = m.number "
            "WHERE m.id = ? AND r.next_try <= ?",
            (id, now),
        ).fetchall()
        return _queued(rows) if rows else None

    def whole(self, id: MessageId, now: float) -> Whole:
        """The same, with its body if that lies in the database."""
        due = self.message(id, now)
        row = self._database.execute("SELECT body FROM message WHERE id = ?", (id,)).fetchone()
        return due, row[0] if due and row else None

    def wholes(self, ids: Sequence[MessageId], now: float) -> dict[MessageId, Whole]:
        """The same of several. Those of which nothing is due are not there."""
        # A body may be large, and a message have many recipients: it is read once, and not with each of them.
        messages = {
            row[0]: row
            for row in self._database.execute(
                f"SELECT m.number, m.body, {_OF_MESSAGE} FROM json_each(?) wanted "
                "CROSS JOIN message m ON m.id = wanted.value",
                (json.dumps(ids),),
            )
        }
        groups: dict[int, list[tuple[Any, ...]]] = {}
        for number, *recipient in self._database.execute(
            f"SELECT r.message, {schema.names(schema.RECIPIENT, 'r')} FROM json_each(?) wanted "
            "CROSS JOIN recipient r ON r.message = wanted.value WHERE r.next_try <= ?",
            (json.dumps(list(messages)), now),
        ):
            groups.setdefault(number, []).append((*messages[number][2:], *recipient))
        return {group[0][0]: (_queued(group), messages[number][1]) for number, group in groups.items()}

    def older(self, received: float, limit: int, start: int = 0) -> tuple[list[QueuedMessage], int]:
        """At most `limit` messages of before `received`, the oldest first, with all recipients not held.

        Begins behind the message of number `start`; returns that of the last one. Those that came from
        another spool are found when they are the oldest here.
        """
        found: list[QueuedMessage] = []
        rows = self._database.execute(
            "SELECT number, received_at FROM message WHERE number > ? ORDER BY number LIMIT ?", (start, limit)
        ).fetchall()
        for number, received_at in rows:
            if received_at >= received:
                break
            start = number
            recipients = self._database.execute(
                f"SELECT {_QUEUED} FROM message m JOIN recipient r ON r.message = m.number "
                "WHERE m.number = ? AND r.next_try < ?",
                (number, HELD),
            ).fetchall()
            if recipients:
                found.append(_queued(recipients))
        return found, start

    def body(self, message: MessageId) -> bytes:
        """The message as it was accepted. Raises KeyError when it is done, BodyMissing, OSError."""
        row = self._database.execute("SELECT body FROM message WHERE id = ?", (message,)).fetchone()
        if row is None:
            raise KeyError(message)
        return self._bodies.read(message) if row[0] is None else bytes(row[0])

    def sent(self, since: str) -> dict[tuple[str, str], int]:
        """(day, tenant) -> recipients, of the days since then."""
        rows = self._database.execute("SELECT day, tenant, recipients FROM sent WHERE day >= ?", (since,))
        return {(day, tenant): recipients for day, tenant, recipients in rows}


def _queued(rows: Sequence[tuple[Any, ...]]) -> QueuedMessage:
    """Of the rows of one message, with the columns of _QUEUED."""
    first = rows[0]
    if len(rows) == 1:  # nearly all have one, and this is done for each message twice
        recipients: tuple[Recipient, ...] = (Recipient(*first[_ADDRESS : _ADDRESS + 3]),)
        attempts, reserved = first[_ATTEMPTS], bool(first[_RESERVED])
        replies = {first[_ADDRESS]: first[_REPLY]} if first[_REPLY] else {}
    else:
        recipients = tuple(Recipient(*row[_ADDRESS : _ADDRESS + 3]) for row in rows)
        attempts, reserved = max(row[_ATTEMPTS] for row in rows), all(row[_RESERVED] for row in rows)
        replies = {row[_ADDRESS]: row[_REPLY] for row in rows if row[_REPLY]}
    id, sender, received_at, client_ip, helo, protocol, account, utf8, eight_bit, *others = first[:_WARNED]
    return QueuedMessage(
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
            *others,
        ),
        recipients,
        attempts=attempts,
        next_try=first[_NEXT_TRY],
        warned=bool(first[_WARNED]),
        reserved=reserved,
        replies=replies,
    )
