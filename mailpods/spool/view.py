"""Looks into a spool from outside of its process, changes its schedule, and moves messages between spools."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from mailpods.spool.spool import HELD, INSERT_EVENT, RESERVE_BYTES, Event

_COLUMNS = ("id", "sender", "recipient", "size", "received_at", "attempts", "next_try", "reply")
_CONDITIONS = {
    "id": "message IN (SELECT number FROM message WHERE id = ?)",
    "address": "address = ?",
    "domain": "address LIKE '%@' || ?",
    "sender": "message IN (SELECT number FROM message WHERE sender = ? OR sender LIKE '%@' || ?)",
    # A domain that is served here, by its number: who sends, and logged in.
    "tenant": "message IN (SELECT number FROM message WHERE account LIKE ? || '/%')",
}


_MESSAGE = (
    "id",
    *("sender", "received_at", "client_ip", "helo", "protocol", "account", "smtputf8", "body_8bit", "size"),
    *("warned", "campaign"),
)
_RECIPIENT = ("address", "notify", "orcpt", "attempts", "next_try", "reply", "reserved")


@dataclass(frozen=True, slots=True)
class Group:
    """What waits for the same reason, of one sender's domain for one recipients' domain."""

    tenant: str  # the number of the domain, "" where nobody logged in
    domain: str  # "" for mailboxes
    state: str  # new, held, limited, or the class of the last reply
    recipients: int
    oldest: float  # when the first of the messages came, epoch seconds


class QueueView:
    """The queue in the folder of a Spool, which may be open in another process. Times are epoch seconds."""

    def __init__(self, path: Path) -> None:
        self._file = path / "queue.db"
        self.name = path.name

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"file:{self._file}?mode=rw", uri=True, timeout=10)) as database:
            database.execute("PRAGMA foreign_keys=ON")
            with database:
                yield database

    def queue(self, which: Mapping[str, str], limit: int = 1000) -> list[dict[str, Any]]:
        """The recipients that wait, the next to be tried first."""
        where, values = _where(which) if which else ("1", [])
        with self._open() as database:
            rows = database.execute(
                "SELECT m.id, m.sender, r.address, m.size, m.received_at, r.attempts, r.next_try, r.reply "
                f"FROM recipient r JOIN message m ON m.number = r.message WHERE {where} "
                "ORDER BY r.next_try LIMIT ?",
                (*values, limit),
            ).fetchall()
            paused = {d: (until, why) for d, until, why in database.execute("SELECT * FROM paused")}
        return [_behind(dict(zip(_COLUMNS, row, strict=True)), paused) for row in rows]

    def events(self, after: int, limit: int) -> list[dict[str, Any]]:
        """What became of mass mailings, behind the event of this number, in the order of their commits."""
        with self._open() as database:
            names = "number, at, id, sender, recipient, campaign, kind, class, reply"
            rows = database.execute(
                f"SELECT {names} FROM event WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
            ).fetchall()
        return [dict(zip(names.split(", "), row, strict=True)) for row in rows]

    def add_event(self, event: Event) -> None:
        """Something that somebody else says of a mailing."""
        with self._open() as database:
            database.execute(INSERT_EVENT, astuple(event))

    def depth(self) -> tuple[int, float | None]:
        """Recipients that wait, and when the oldest message came."""
        with self._open() as database:
            count: int = database.execute("SELECT count(*) FROM recipient").fetchone()[0]
            oldest: float | None = database.execute("SELECT min(received_at) FROM message").fetchone()[0]
        return count, oldest

    def groups(self, class_of: Callable[[str], str]) -> list[Group]:
        """All that waits, counted. `class_of` names what a reply means."""
        with self._open() as database:
            database.create_function("class_of", 1, class_of, deterministic=True)
            rows = database.execute(
                "SELECT substr(m.account, 1, instr(m.account, '/') - 1) AS tenant, CASE "
                "WHEN instr(r.address, '@') THEN lower(substr(r.address, instr(r.address, '@') + 1)) "
                "END AS domain, CASE WHEN r.next_try >= ? THEN 'held' WHEN r.reserved THEN 'limited' "
                "WHEN r.reply = '' THEN 'new' ELSE class_of(r.reply) END AS state, "
                "count(*), min(m.received_at) FROM recipient r JOIN message m ON m.number = r.message "
                "GROUP BY tenant, domain, state",
                (HELD,),
            ).fetchall()
        return [Group(tenant or "", domain or "", *rest) for tenant, domain, *rest in rows]

    def retry(self, which: Mapping[str, str]) -> int:
        """Try the chosen recipients now. Returns how many. Raises ValueError if nothing is chosen."""
        where, values = _where(which)
        with self._open() as database:
            return database.execute(
                f"UPDATE recipient SET next_try = ? WHERE {where}", (time.time(), *values)
            ).rowcount

    def hold(self, which: Mapping[str, str]) -> int:
        """Keep the chosen recipients back until they are released: they neither go nor expire."""
        where, values = _where(which)
        change = f"UPDATE recipient SET next_try = ? WHERE {where} AND next_try < ?"
        with self._open() as database:
            return database.execute(change, (HELD, *values, HELD)).rowcount

    def release(self, which: Mapping[str, str]) -> int:
        """Let those of the chosen recipients go that are held."""
        where, values = _where(which)
        change = f"UPDATE recipient SET next_try = ? WHERE {where} AND next_try >= ?"
        with self._open() as database:
            return database.execute(change, (time.time(), *values, HELD)).rowcount

    def divert(self, which: Mapping[str, str], to: str) -> int:
        """Send what is for the chosen recipients to another address instead, now."""
        where, values = _where(which)
        with self._open() as database:
            database.execute(
                "INSERT OR IGNORE INTO recipient (message, address, notify, orcpt, next_try, reply) "
                "SELECT message, ?, notify, coalesce(orcpt, 'rfc822;' || address), ?, "
                f"'diverted by an administrator from ' || address FROM recipient WHERE {where}",
                (to, time.time(), *values),
            )
            return database.execute(
                f"DELETE FROM recipient WHERE {where} AND address != ?", (*values, to)
            ).rowcount

    def delete(self, which: Mapping[str, str]) -> int:
        """Remove the chosen recipients, without a word to their senders. Returns how many."""
        where, values = _where(which)
        with self._open() as database:
            removed = database.execute(f"DELETE FROM recipient WHERE {where}", values).rowcount
            empty = "SELECT 1 FROM recipient r WHERE r.message = message.number"
            database.execute(f"DELETE FROM message WHERE NOT EXISTS ({empty})")
        return removed

    # ---- from one spool to another ----

    def ids(self) -> list[str]:
        """All messages, the oldest first."""
        with self._open() as database:
            return [row[0] for row in database.execute("SELECT id FROM message ORDER BY number")]

    def whole(self, id: str) -> tuple[dict[str, Any], bytes]:
        """A message with the state of its recipients, as `adopt()` takes it. Raises KeyError for none."""
        with self._open() as database:
            names = ", ".join(_MESSAGE)
            row = database.execute(
                f"SELECT number, body, {names} FROM message WHERE id = ?", (id,)
            ).fetchone()
            if row is None:
                raise KeyError(id)
            recipients = database.execute(
                f"SELECT {', '.join(_RECIPIENT)} FROM recipient WHERE message = ?", (row[0],)
            ).fetchall()
        body = (self._file.parent / "bodies" / id).read_bytes() if row[1] is None else bytes(row[1])
        record = dict(zip(_MESSAGE, row[2:], strict=True))
        return {**record, "recipients": [dict(zip(_RECIPIENT, r, strict=True)) for r in recipients]}, body

    def adopt(self, record: dict[str, Any], body: bytes) -> None:
        """Take a message over; on return it is on disk, synced. One that is here already stays as it is.

        Raises sqlite3.Error, OSError where no space is left for mail, KeyError for a broken record.
        """
        disk = os.statvfs(self._file.parent)
        if disk.f_bavail * disk.f_frsize < RESERVE_BYTES + len(body):
            raise OSError("no space is left for mail")
        values = [record[name] for name in _MESSAGE]
        # What was due there is due here from now on: the spool's reader looks no further back.
        due = [{**each, "next_try": max(each["next_try"], time.time())} for each in record["recipients"]]
        recipients = [[each[name] for name in _RECIPIENT] for each in due]
        with self._open() as database:
            database.execute("PRAGMA synchronous=FULL")
            # Its body lies in the database whatever its size: files are its owner's to write and to remove.
            made = database.execute(
                f"INSERT OR IGNORE INTO message ({', '.join(_MESSAGE)}, body) "
                f"VALUES ({', '.join('?' * (len(_MESSAGE) + 1))})",
                [*values, body],
            )
            if made.rowcount:
                database.executemany(
                    f"INSERT INTO recipient (message, {', '.join(_RECIPIENT)}) "
                    f"VALUES ({', '.join('?' * (len(_RECIPIENT) + 1))})",
                    [[made.lastrowid, *each] for each in recipients],
                )
            elif not database.execute("SELECT 1 FROM message WHERE id = ?", (record["id"],)).fetchone():
                raise KeyError("a field is null")  # or else its sender would forget what was never kept

    def forget(self, id: str) -> None:
        """A message is somebody else's now."""
        with self._open() as database:
            database.execute("DELETE FROM message WHERE id = ?", (id,))
        (self._file.parent / "bodies" / id).unlink(missing_ok=True)


def _where(which: Mapping[str, str]) -> tuple[str, list[str]]:
    unknown = which.keys() - _CONDITIONS.keys()
    if unknown or not which:
        raise ValueError(f"say which: {', '.join(_CONDITIONS)}")
    values = [value for key, value in which.items() for _ in range(_CONDITIONS[key].count("?"))]
    return " AND ".join(_CONDITIONS[key] for key in which), values


def _behind(row: dict[str, Any], paused: Mapping[str, tuple[float, str]]) -> dict[str, Any]:
    """What is due, and waits because its destination is left alone for a while, says why, and until when."""
    address = row["recipient"]
    if "@" not in address or row["next_try"] > time.time():
        return row
    until, why = paused.get(f"@{address.rpartition('@')[2].lower()}") or paused.get("smarthost") or (0.0, "")
    return {**row, "next_try": until, "reply": row["reply"] or why} if until > row["next_try"] else row
