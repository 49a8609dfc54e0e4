"""What is kept of TLS with others: once for each domain and connection, over restarts, as RFC 8460 has it."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from mailpods.delivery.client.connection import Connection
from mailpods.delivery.client.tls import TlsSession
from mailpods.delivery.outcomes.tls_reports import KEPT_DAYS, TlsReports

MX = "mx.sink.test"
GOOD = TlsSession("sts", MX, "")


def connection(*sessions: TlsSession) -> Connection:
    """One that these attempts led to."""
    return cast(Connection, SimpleNamespace(sessions=sessions, reported=set()))


def today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def summary(reports: TlsReports, domain: str, day: str | None = None) -> dict[str, tuple[int, int]]:
    """Policy -> (successful, failed) sessions."""
    for report in reports.of_day(day or today(), "mail.a.test"):
        if report["policies"][0]["policy"]["policy-domain"] == domain:
            counts = {each["policy"]["policy-type"]: each["summary"] for each in report["policies"]}
            return {name: (each[_GOOD], each[_BAD]) for name, each in counts.items()}
    return {}


_GOOD, _BAD = "total-successful-session-count", "total-failure-session-count"


def test_a_connection_counts_once_for_each_domain(tmp_path: Path) -> None:
    reports, used = TlsReports(tmp_path), connection(TlsSession("sts", "dead.sink.test", "x"), GOOD)
    for recipients in (["a@one.test", "b@One.test"], ["c@one.test"], ["d@two.test"]):
        reports.used(used, recipients)
    reports.used(connection(GOOD), ["a@one.test"])
    reports.failed([TlsSession("sts", MX, "certificate-expired")], ["a@one.test"])
    reports.no_policy("three.test", "sts-policy-fetch-error")
    assert reports.of_day(today(), "x") == []
    asyncio.run(reports.flush())
    asyncio.run(reports.flush())
    assert summary(reports, "one.test") == {"sts": (2, 2)}
    assert summary(reports, "two.test") == {"sts": (1, 1)}
    assert summary(reports, "three.test") == {"sts": (0, 1)}


def test_workers_and_runs_add_up(tmp_path: Path) -> None:
    for _ in range(3):
        reports = TlsReports(tmp_path)
        reports.used(connection(GOOD), ["a@one.test"])
        asyncio.run(reports.flush())
    assert summary(TlsReports(tmp_path), "one.test") == {"sts": (3, 0)}


def test_what_is_old_goes(tmp_path: Path) -> None:
    reports = TlsReports(tmp_path)
    old = time.strftime("%Y-%m-%d", time.gmtime(time.time() - (KEPT_DAYS + 1) * 86400))
    reports._counts[old, "one.test", GOOD] += 1
    asyncio.run(reports.flush())
    assert summary(reports, "one.test", old) == {}


def test_a_report_has_the_form_of_rfc_8460(tmp_path: Path) -> None:
    reports = TlsReports(tmp_path)
    reports.used(connection(TlsSession("tlsa", MX, "")), ["a@one.test"])
    reports.failed([TlsSession("tlsa", MX, "validation-failure")], ["a@one.test"])
    asyncio.run(reports.flush())
    day = today()
    assert reports.of_day(day, "mail.a.test") == [
        {
            "organization-name": "mail.a.test",
            "date-range": {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"},
            "contact-info": "postmaster@mail.a.test",
            "report-id": f"{day}.one.test@mail.a.test",
            "policies": [
                {
                    "policy": {"policy-type": "tlsa", "policy-domain": "one.test"},
                    "summary": {_GOOD: 1, _BAD: 1},
                    "failure-details": [
                        {
                            "result-type": "validation-failure",
                            "receiving-mx-hostname": MX,
                            "failed-session-count": 1,
                        }
                    ],
                }
            ],
        }
    ]
