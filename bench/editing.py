"""From the edit of a manifest to a working login, at several sizes; Dovecot's part of it; the idle memory."""

import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.processes import family, memory_bytes
from tests.support.installation import EmbeddedInstallation, domain, manifest, server
from tests.support.storepod import StoreProgram, credential

SIZES = (10, 1_000, 10_000)  # mailboxes
EDITS = 100
STORE_SIZES = ((10_000, 16), (100_000, 64))  # accounts, files that they are spread over
STORE_EDITS = 20
LOGINS = 1_000
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
            time.sleep(0.5 + n / EDITS)  # the last edit is settled, and no two meet the same phase of a poll
            name = f"edited-{n}"
            began = time.monotonic()
            there.apply("edited", _mailbox(name, f"pw{n}"))
            there.wait_for("Mailbox", name)
            with there.imap(f"7/{name}", f"pw{n}"):
                seconds.append(time.monotonic() - began)
    return seconds


def _store(accounts: int, files: int) -> tuple[list[float], float, float]:
    """An authenticator alone: seconds from a written file to a login, bytes of Dovecot's auth, logins/s."""
    program = StoreProgram("auth", files)
    try:
        program.start()
        many = {f"7/u{n}": credential(f"7/u{n}", f"u{n}@a.test", password="x") for n in range(accounts)}
        program.tell(many, seconds=120)
        seconds = []
        for n in range(STORE_EDITS):
            hashes = program.edit("7/u7", credential("7/u7", password=f"pw{n}"))
            began = time.monotonic()
            program.wait_for(hashes)
            assert program.authenticate("7/u7", f"pw{n}").startswith("OK")
            seconds.append(time.monotonic() - began)
        began = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            names = [f"u{n * 7 % accounts}@a.test" for n in range(1, LOGINS + 1) if n * 7 % accounts != 7]
            assert all(
                said.startswith("OK")
                for said in pool.map(lambda name: program.authenticate(name, "x"), names)
            )
        rate = len(names) / (time.monotonic() - began)
        assert program.process
        auth = [pid for pid in family(program.process.pid) if _name(pid).startswith("dovecot/auth")]
        return seconds, sum(memory_bytes(pid) for pid in auth), rate
    finally:
        program.close()


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


def _idle(folder: Path) -> int:
    """PSS in bytes of `mailpods up examples/quickstart` and all its processes, some time after the start."""
    with _running(folder) as there:
        for file in EXAMPLE.glob("*.yaml"):
            shutil.copy(file, there.manifests)
        there.start()
        time.sleep(10)
        assert there.process is not None
        return memory_bytes(there.process.pid)


def _percentile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)]


def run(folder: Path) -> list[str]:
    """The rows of the tables."""
    rows = [
        f"| edit of a manifest → login works, {EDITS} edits | p50 ms | p99 ms | goal |",
        "|---|---|---|---|",
    ]
    for mailboxes in SIZES:
        seconds = _edit(folder / f"edit-{mailboxes}", mailboxes)
        median, late = statistics.median(seconds), _percentile(seconds, 0.99)
        rows.append(f"| {mailboxes:,} mailboxes | {median * 1000:.0f} | {late * 1000:.0f} | 150, 400 |")
        print(rows[-1], file=sys.stderr, flush=True)
    rows += [
        "",
        "| the store alone | file written → login, p50 ms | logins/s | auth MiB (PSS) |",
        "|---|---|---|---|",
    ]
    for accounts, files in STORE_SIZES:
        seconds, used, rate = _store(accounts, files)
        median = statistics.median(seconds) * 1000
        rows.append(f"| {accounts:,} accounts | {median:.0f} | {rate:.0f} | {used / 2**20:.1f} |")
        print(rows[-1], file=sys.stderr, flush=True)
    used = _idle(folder / "idle")
    rows += ["", "| memory, idle | MiB (PSS) | goal |", "|---|---|---|"]
    rows.append(f"| the whole embedded default | {used / 2**20:.0f} | < 150 |")
    return rows
