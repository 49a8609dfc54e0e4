"""Addresses to which a domain sends no mass mail any more: they bounced, or asked to be left alone.

One file for all processes of a pod, beside their spools; pods of a pool tell each other.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mailpods.spool.database import connect

FILE = "suppressed.db"
MOST = 10_000  # entries of one answer
BOUNCE = "bounce"  # with which the reason of what bounced begins
BOUNCED_SECONDS = 180 * 86400.0  # that a bounce keeps mail away: addresses come back, and are given anew
_HOLDS = f"(reason NOT GLOB '{BOUNCE}*' OR since > ?)"


@dataclass(frozen=True, slots=True)
class Suppressed:
    """An entry. `domain` is the sender's; `since` in epoch seconds."""

    domain: str
    address: str
    reason: str  # bounce, complaint, unsubscribed, or what an administrator wrote
    since: float

    @property
    def until(self) -> float | None:
        """When it ends, epoch seconds: of a bounce. What somebody wants holds until it is removed."""
        return self.since + BOUNCED_SECONDS if self.reason.startswith(BOUNCE) else None

    def as_json(self) -> dict[str, Any]:
        """For other pods."""
        return asdict(self)


class Suppressions:
    """Each process opens it for itself, each thread too."""

    def __init__(self, folder: Path) -> None:
        self._database = connect(folder / FILE)
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS suppressed (domain TEXT NOT NULL, address TEXT NOT NULL, "
            "reason TEXT NOT NULL, since REAL NOT NULL, told INTEGER NOT NULL, "  # told: to the other pods
            "PRIMARY KEY (domain, address)) WITHOUT ROWID"
        )

    def reason(self, domain: str, address: str) -> str | None:
        """Why the domain sends nothing to the address; None if it does."""
        row = self._database.execute(
            f"SELECT reason FROM suppressed WHERE domain = ? AND address = ? AND {_HOLDS}",
            (domain.lower(), address.lower(), time.time() - BOUNCED_SECONDS),
        ).fetchone()
        return row[0] if row else None

    def add(
        self, domain: str, address: str, reason: str, since: float | None = None, told: bool = False
    ) -> None:
        """Add an entry. The first reason stays, unless it is a bounce that ended, or people want it now.

        `told`: another pod said so.
        """
        values = (domain.lower(), address.lower(), reason[:200], since or time.time(), told)
        self._database.execute(
            "INSERT INTO suppressed AS s VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "reason = excluded.reason, since = excluded.since, told = excluded.told WHERE "
            f"s.reason GLOB '{BOUNCE}*' AND (s.since <= ? OR excluded.reason NOT GLOB '{BOUNCE}*')",
            (*values, time.time() - BOUNCED_SECONDS),
        )

    def remove(self, domain: str, address: str) -> bool:
        """Whether there was one."""
        done = self._database.execute(
            "DELETE FROM suppressed WHERE domain = ? AND address = ?", (domain.lower(), address.lower())
        )
        return bool(done.rowcount)

    def entries(self, domain: str | None = None, address: str | None = None) -> list[Suppressed]:
        """Those of a domain, or of all, the newest first; MOST of them."""
        rows = self._database.execute(
            "SELECT domain, address, reason, since FROM suppressed "
            "WHERE (?1 IS NULL OR domain = ?1) AND (?2 IS NULL OR address = ?2) "
            f"AND {_HOLDS.replace('?', '?4')} ORDER BY since DESC LIMIT ?3",
            (domain, address, MOST, time.time() - BOUNCED_SECONDS),
        )
        return [Suppressed(*row) for row in rows]

    def untold(self) -> list[Suppressed]:
        """What the other pods do not know yet."""
        query = "SELECT domain, address, reason, since FROM suppressed WHERE NOT told LIMIT ?"
        return [Suppressed(*row) for row in self._database.execute(query, (MOST,))]

    def note_told(self, entries: Sequence[Suppressed]) -> None:
        """They know it."""
        keys = [(entry.domain, entry.address) for entry in entries]
        self._database.executemany("UPDATE suppressed SET told = 1 WHERE domain = ? AND address = ?", keys)
