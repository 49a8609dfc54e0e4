"""Looks into a spool from outside of its process, and changes its schedule: for people who ask."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

_COLUMNS = ("id", "sender", "recipient", "size", "received_at", "attempts", "next_try", "reply")
_CONDITIONS = {
    "id": "message IN (SELECT number FROM message WHERE id = ?)",
    "address": "address = ?",
    "domain": "address LIKE '%@' || ?",
}


class QueueView:
    """The queue in the folder of a Spool, which may be open in another process. Times are epoch seconds."""

    def __init__(self, path: Path) -> None:
        self._file = path / "queue.db"

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
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]

    def depth(self) -> tuple[int, float | None]:
        """Recipients that wait, and when the oldest message came."""
        with self._open() as database:
            count: int = database.execute("SELECT count(*) FROM recipient").fetchone()[0]
            oldest: float | None = database.execute("SELECT min(received_at) FROM message").fetchone()[0]
        return count, oldest

    def retry(self, which: Mapping[str, str]) -> int:
        """Try the chosen recipients now. Returns how many. Raises ValueError if nothing is chosen."""
        where, values = _where(which)
        with self._open() as database:
            return database.execute(f"UPDATE recipient SET next_try = 0 WHERE {where}", values).rowcount

    def delete(self, which: Mapping[str, str]) -> int:
        """Remove the chosen recipients, without a word to their senders. Returns how many."""
        where, values = _where(which)
        with self._open() as database:
            removed = database.execute(f"DELETE FROM recipient WHERE {where}", values).rowcount
            empty = "SELECT 1 FROM recipient r WHERE r.message = message.number"
            database.execute(f"DELETE FROM message WHERE NOT EXISTS ({empty})")
        return removed


def _where(which: Mapping[str, str]) -> tuple[str, list[str]]:
    unknown = which.keys() - _CONDITIONS.keys()
    if unknown or not which:
        raise ValueError("say which: id, address or domain")
    return " AND ".join(_CONDITIONS[key] for key in which), list(which.values())
