"""Looks into a spool from outside of its process, and changes its schedule, as people want it."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from mailpods.spool import schema
from mailpods.spool.bodies import Bodies
from mailpods.spool.message import HELD, Event

MOST_SHOWN = 1000  # recipients of one answer
SLICE = 500  # recipients that are changed in one commit: whoever brings mail waits no longer than for that

_COLUMNS = ("id", "sender", "recipient", "size", "received_at", "attempts", "next_try", "reply")
_CONDITIONS = {
    "id": "message IN (SELECT number FROM message WHERE id = ?)",
    "address": "address = ?",
    "domain": "address LIKE '%@' || ?",
    "sender": "message IN (SELECT number FROM message WHERE sender = ? OR sender LIKE '%@' || ?)",
    # A domain that is served here, by its number: who sends, and logged in.
    "tenant": "message IN (SELECT number FROM message WHERE account LIKE ? || '/%')",
}


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
        self.file, self._bodies = path / "queue.db", Bodies(path / "bodies")
        self.name = path.name

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"file:{self.file}?mode=rw", uri=True, timeout=10)) as database:
            database.execute("PRAGMA foreign_keys=ON")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("PRAGMA secure_delete=OFF")
            with database:
                yield database

    def queue(
        self,
        which: Mapping[str, str],
        limit: int = MOST_SHOWN,
        destination_of: Callable[[str], str] = lambda address: f"@{address.rpartition('@')[2].lower()}",
    ) -> list[dict[str, Any]]:
        """The recipients that wait, the next to be tried first. `destination_of` names a recipient's, as
        delivery does when it leaves one alone. Raises ValueError for conditions that are none."""
        where, values = _where(which) if which else ("1", [])
        with self._open() as database:
            rows = database.execute(
                "SELECT m.id, m.sender, r.address, m.size, m.received_at, r.attempts, r.next_try, r.reply "
                f"FROM recipient r JOIN message m ON m.number = r.message WHERE {where} "
                "ORDER BY r.next_try LIMIT ?",
                (*values, limit),
            ).fetchall()
            paused = {d: (until, why) for d, until, why in database.execute("SELECT * FROM paused")}
        found = (dict(zip(_COLUMNS, row, strict=True)) for row in rows)
        return [_behind(row, paused, destination_of) for row in found]

    def count(self, which: Mapping[str, str]) -> int:
        """How many recipients wait, however many that are. Raises ValueError as `queue` does."""
        where, values = _where(which) if which else ("1", [])
        with self._open() as database:
            count: int = database.execute(f"SELECT count(*) FROM recipient WHERE {where}", values).fetchone()[
                0
            ]
        return count

    def events(self, after: int, limit: int) -> list[dict[str, Any]]:
        """What became of mass mailings, behind the event of this number, in the order of their commits."""
        with self._open() as database:
            names = f"number, {schema.names(schema.EVENT)}"
            rows = database.execute(
                f"SELECT {names} FROM event WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
            ).fetchall()
        return [dict(zip(names.split(", "), row, strict=True)) for row in rows]

    def add_event(self, event: Event) -> None:
        """Something that somebody else says of a mailing."""
        with self._open() as database:
            database.execute(schema.INSERT_EVENT, astuple(event))

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
        """Try those of the chosen recipients now that are not held. Returns how many.

        Raises ValueError if nothing is chosen.
        """
        change = f"UPDATE recipient SET next_try = ? WHERE {{these}} AND next_try < {HELD}"
        return self._change(which, change, [time.time()], wake=True)

    def hold(self, which: Mapping[str, str]) -> int:
        """Keep the chosen recipients back until they are released: they neither go nor expire."""
        change = f"UPDATE recipient SET next_try = ? WHERE {{these}} AND next_try < {HELD}"
        return self._change(which, change, [HELD])

    def release(self, which: Mapping[str, str]) -> int:
        """Let those of the chosen recipients go that are held."""
        change = f"UPDATE recipient SET next_try = ? WHERE {{these}} AND next_try >= {HELD}"
        return self._change(which, change, [time.time()], wake=True)

    def divert(self, which: Mapping[str, str], to: str) -> int:
        """Send what is for the chosen recipients to another address instead, now."""
        copy = (
            "INSERT OR IGNORE INTO recipient (message, address, notify, orcpt, next_try, reply) "
            "SELECT message, ?, notify, coalesce(orcpt, 'rfc822;' || address), ?, "
            "'diverted by an administrator from ' || address FROM recipient WHERE {these}"
        )
        self._change(which, copy, [to, time.time()], wake=True)
        # What nobody diverts to comes last: the copies may be among the chosen.
        return self._change(which, "DELETE FROM recipient WHERE {these} AND address != ?", [], [to])

    def delete(self, which: Mapping[str, str]) -> int:
        """Remove the chosen recipients, without a word to their senders. Returns how many."""
        return self._change(which, "DELETE FROM recipient WHERE {these}", [])

    def _change(
        self,
        which: Mapping[str, str],
        statement: str,
        before: Sequence[object],
        behind: Sequence[object] = (),
        wake: bool = False,
    ) -> int:
        """Change the chosen recipients in slices, between which others write.

        Values stand before and behind those that say which. `wake`: they may be due now. Messages that have
        no recipients any more go, with their files.
        """
        where, values = _where(which)
        with self._open() as database:
            keys = database.execute(
                f"SELECT message, address FROM recipient WHERE {where}", values
            ).fetchall()
        count = 0
        these = "(message, address) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
        for begin in range(0, len(keys), SLICE):
            chosen = keys[begin : begin + SLICE]
            with self._open() as database:
                changed = database.execute(
                    statement.format(these=these), (*before, json.dumps(chosen), *behind)
                ).rowcount
                messages = json.dumps(list({message for message, _ in chosen}))
                if wake:
                    schema.wake(database, messages)
                ended = database.execute(
                    "DELETE FROM message WHERE number IN (SELECT value FROM json_each(?)) AND NOT EXISTS "
                    "(SELECT 1 FROM recipient r WHERE r.message = number) RETURNING id, body IS NULL",
                    (messages,),
                ).fetchall()
            self._bodies.remove(id for id, in_file in ended if in_file)
            count += changed
        return count


def _where(which: Mapping[str, str]) -> tuple[str, list[str]]:
    unknown = which.keys() - _CONDITIONS.keys()
    if unknown or not which:
        raise ValueError(f"say which: {', '.join(_CONDITIONS)}")
    tenant = which.get("tenant", "0")
    if not (tenant.isascii() and tenant.isdigit()):
        raise ValueError(f"tenant: a domain's number is asked for, e.g. 7, not {tenant!r}")
    values = [value for key, value in which.items() for _ in range(_CONDITIONS[key].count("?"))]
    return " AND ".join(_CONDITIONS[key] for key in which), values


def _behind(
    row: dict[str, Any],
    paused: Mapping[str, tuple[float, str]],
    destination_of: Callable[[str], str],
) -> dict[str, Any]:
    """What is due, and waits because its destination is left alone for a while, says why, and until when."""
    if not paused or row["next_try"] > time.time():
        return row
    destination = destination_of(row["recipient"])
    others = paused.get("smarthost") if destination.startswith("@") else None
    until, why = paused.get(destination) or others or (0.0, "")
    return {**row, "next_try": until, "reply": row["reply"] or why} if until > row["next_try"] else row
