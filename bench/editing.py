"""From the edit of a manifest to a working login, at several sizes; the memory of the idle installation."""

import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.processes import memory_bytes
from tests.support.installation import EmbeddedInstallation, domain, manifest, server

SIZES = ((10, 1.0), (1_000, 1.0), (10_000, 2.0))  # mailboxes, seconds that are the goal
EDITS = 9
EXAMPLE = Path(__file__).parents[1] / "examples" / "quickstart"


def _mailbox(name: str, password: str) -> dict[str, Any]:
    spec = {"domainRef": {"name": "a-test"}, "passwordHash": f"{{PLAIN}}{password}"}
    return manifest("Mailbox", name, spec)


@contextmanager
def _running(folder: Path) -> Iterator[EmbeddedInstallation]:
    there = EmbeddedInstallation(folder)
    try:
        yield there
    finally:
        there.stop()


def _edit(folder: Path, mailboxes: int) -> list[float]:
    """Seconds until the login of a changed mailbox works; it is tried once, when Ready says so."""
    with _running(folder) as there:
        there.apply("server", server(), domain("a.test", 7))
        there.apply("many", *(_mailbox(f"u{n}", "x") for n in range(mailboxes - 1)))
        there.apply("edited", _mailbox("edited-0", "x"))
        there.start()
        there.wait_for("Mailbox", "edited-0", seconds=120)
        seconds = []
        for n in range(1, EDITS + 1):
            # The last edit is settled; and as Dovecot looks once a second, the phase must not be the same.
            time.sleep(2 + n / EDITS)
            name = f"edited-{n}"
            began = time.monotonic()
            there.apply("edited", _mailbox(name, f"pw{n}"))
            there.wait_for("Mailbox", name)
            with there.imap(f"7/{name}", f"pw{n}"):
                seconds.append(time.monotonic() - began)
    return seconds


def _idle(folder: Path) -> int:
    """PSS in bytes of `mailpods up examples/quickstart` and all its processes, some time after the start."""
    with _running(folder) as there:
        for file in EXAMPLE.glob("*.yaml"):
            shutil.copy(file, there.manifests)
        there.start()
        time.sleep(10)
        assert there.process is not None
        return memory_bytes(there.process.pid)


def run(folder: Path) -> list[str]:
    """The rows of both tables."""
    rows = [f"| edit of a manifest → login works, {EDITS} edits | median s | slowest s | goal |"]
    rows.append("|---|---|---|---|")
    for mailboxes, goal in SIZES:
        seconds = _edit(folder / f"edit-{mailboxes}", mailboxes)
        median, slowest = statistics.median(seconds), max(seconds)
        rows.append(f"| {mailboxes:,} mailboxes | {median:.2f} | {slowest:.2f} | < {goal:.0f} |")
        print(rows[-1], file=sys.stderr, flush=True)
    used = _idle(folder / "idle")
    rows += ["", "| memory, idle | MiB (PSS) | goal |", "|---|---|---|"]
    rows.append(f"| the whole embedded default | {used / 2**20:.0f} | < 150 |")
    return rows
