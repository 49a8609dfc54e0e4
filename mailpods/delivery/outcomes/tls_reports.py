"""How TLS went with other servers, by day and domain: what reports of RFC 8460 are made of.

Counted in memory, and added now and then to a file that all workers share: a crash loses what is between.
"""

import asyncio
import datetime
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mailpods.delivery.client.connection import Connection
from mailpods.delivery.client.tls import TlsSession
from mailpods.spool.database import connect

FILE = "tls-reports.db"
KEPT_DAYS = 14
FLUSH_SECONDS = 10.0

_Key = tuple[str, str, TlsSession]  # day, domain, …


class TlsReports:
    """One for each process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._counts: Counter[_Key] = Counter()
        with closing(connect(self._path)) as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS session "
                "(day TEXT, domain TEXT, policy TEXT, host TEXT, result TEXT, count INTEGER NOT NULL, "
                "PRIMARY KEY (day, domain, policy, host, result)) WITHOUT ROWID"
            )

    def used(self, connection: Connection, recipients: Sequence[str]) -> None:
        """Mail for them goes over a connection: it counts once for each domain."""
        domains = _domains(recipients)
        if not domains <= connection.reported:
            for domain in domains - connection.reported:
                self._add(domain, connection.sessions)
            connection.reported |= domains

    def failed(self, sessions: Iterable[TlsSession], recipients: Sequence[str]) -> None:
        """No connection came of these attempts to deliver mail for them."""
        for domain in _domains(recipients):
            self._add(domain, sessions)

    def no_policy(self, domain: str, result: str) -> None:
        """A domain has an MTA-STS policy that could not be had, or is none."""
        self._add(domain, [TlsSession("sts", "", result)])

    def _add(self, domain: str, sessions: Iterable[TlsSession]) -> None:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        for session in sessions:
            self._counts[day, domain, session] += 1

    async def flush(self) -> None:
        """Add what was counted to the file. Raises sqlite3.Error; it is counted on then."""
        counts, self._counts = self._counts, Counter()
        if counts:
            try:
                await asyncio.to_thread(self._write, counts)
            except sqlite3.Error:
                self._counts.update(counts)
                raise

    def _write(self, counts: Mapping[_Key, int]) -> None:
        oldest = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=KEPT_DAYS)
        rows = [(day, domain, *session, count) for (day, domain, session), count in counts.items()]
        with closing(connect(self._path)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany(
                "INSERT INTO session VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET count = count + excluded.count",
                rows,
            )
            database.execute("DELETE FROM session WHERE day < ?", (oldest.isoformat(),))
            database.execute("COMMIT")

    def of_day(self, day: str, organization: str) -> list[dict[str, Any]]:
        """The reports of a day (YYYY-MM-DD), one for each domain (RFC 8460 §4.4), from `organization`."""
        with closing(connect(self._path)) as database:
            rows = database.execute(
                "SELECT domain, policy, host, result, count FROM session WHERE day = ? ORDER BY 1, 2, 3, 4",
                (day,),
            ).fetchall()
        found: dict[str, dict[str, list[tuple[str, str, int]]]] = defaultdict(lambda: defaultdict(list))
        for domain, policy, *session in rows:
            found[domain][policy].append((session[0], session[1], session[2]))
        return [_report(day, organization, domain, policies) for domain, policies in found.items()]


def _domains(recipients: Sequence[str]) -> set[str]:
    return {recipient.rpartition("@")[2].lower() for recipient in recipients}


def _report(
    day: str, organization: str, domain: str, policies: Mapping[str, Sequence[tuple[str, str, int]]]
) -> dict[str, Any]:
    return {
        "organization-name": organization,
        "date-range": {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"},
        "contact-info": f"postmaster@{organization}",
        "report-id": f"{day}.{domain}@{organization}",
        "policies": [_policy(domain, name, sessions) for name, sessions in policies.items()],
    }


def _policy(domain: str, name: str, sessions: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    failures = [(host, result, count) for host, result, count in sessions if result]
    failed = sum(count for _, _, count in failures)
    return {
        "policy": {"policy-type": name, "policy-domain": domain},
        "summary": {
            "total-successful-session-count": sum(count for *_, count in sessions) - failed,
            "total-failure-session-count": failed,
        },
        "failure-details": [
            {
                "result-type": result,
                **({"receiving-mx-hostname": host} if host else {}),
                "failed-session-count": count,
            }
            for host, result, count in failures
        ],
    }
