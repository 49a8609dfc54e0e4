"""From SMTP to a message that is stored and visible over IMAP, sustained, beside Postfix and Dovecot alone.

All three end in the same Dovecot with the product's own configuration, in mailboxes of their own. What
counts is when the last message is there, as IMAP's STATUS tells it; not when it was accepted.
"""

import imaplib
import os
import pwd
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.accept import start_ours, start_postfix, stop_postfix
from bench.processes import cpu_seconds, free_port, wait_for
from mailpods.directory.records import AccountId, Credential, StoreSettings
from mailpods.store.accounts import AccountsDatabase
from mailpods.store.configuration import Facts, files

USERS = 10
SESSIONS = 2  # for each user: 20 in all
MESSAGES = 300  # for each user in each round
SIZE = 4096
USER = "mailpods"


@dataclass
class Dovecot:
    """A running one, and its ports."""

    process: subprocess.Popen[bytes]
    lmtp: int
    imap: int

    def count(self, accounts: list[str]) -> int:
        """Messages that IMAP shows in these INBOXes."""
        total = 0
        for account in accounts:
            with imaplib.IMAP4("127.0.0.1", self.imap) as client:
                client.login(account, "x")
                answer = client.status("INBOX", "(MESSAGES)")[1][0]
                assert answer is not None
                total += int(answer.decode().rpartition("MESSAGES ")[2].rstrip(")"))
        return total


def _accounts(peer: str) -> list[str]:
    """What a peer calls the mailboxes in LMTP: ours by account, the others by address."""
    return [f"1/u{n}" if peer == "mailpods" else f"{peer}-u{n}@a.test" for n in range(USERS)]


def start_dovecot(folder: Path, names: list[str], storage: str = "maildir") -> Dovecot:
    """The product's own; each name logs in with `x`. `storage`: of mailboxes, by Dovecot's name for it."""
    version = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=True).stdout
    full = version.split()[0].partition("-")[0]
    state, owner = folder / "dovecot", pwd.getpwnam(USER)
    for name in ("run", "state", "accounts", "mail"):
        (state / name).mkdir(parents=True)
    database = AccountsDatabase(state / "accounts" / "accounts.sqlite", None)
    accounts = {AccountId(name): Credential((name,), "{PLAIN}x", {"imap": "everywhere"}) for name in names}
    database.update(accounts, StoreSettings("bench.test"))
    database.close()
    ports = {"LMTP": free_port(), "IMAP": free_port()}
    facts = Facts(
        version=(2, 4) if tuple(map(int, full.split(".")[:2])) >= (2, 4) else (2, 3),
        full_version=full,
        user=USER,
        group=USER,
        bind="127.0.0.1",
        ports={name: str(port) for name, port in ports.items()},
        state=state,
        database=database.path,
        mail=state / "mail",
        tls=None,
        hostname="bench.test",
        tls_required=False,
    )
    for path, text in files(facts).items():
        for ours, other in (
            ("ssl = yes\n", "ssl = no\n"),
            ("maildir:~/Maildir", f"{storage}:~/{storage}"),
            (
                "mail_driver = maildir\nmail_path = ~/Maildir",
                f"mail_driver = {storage}\nmail_path = ~/{storage}",
            ),
        ):
            text = text.replace(ours, other, 1)
        lines = text.splitlines()
        path.write_text("\n".join(line for line in lines if not line.startswith(("ssl_cert", "ssl_key"))))
    for path in [state, *state.rglob("*")]:
        os.chown(path, owner.pw_uid, owner.pw_gid)
    with open(folder / "dovecot.log", "wb") as log:
        command = ["dovecot", "-F", "-c", str(state / "dovecot.conf")]
        process = subprocess.Popen(command, stderr=log, user=USER, group=USER, extra_groups=[])
    wait_for(ports["IMAP"])
    return Dovecot(process, ports["LMTP"], ports["IMAP"])


def _send(port: int, recipients: list[str], lmtp: bool = False) -> list[subprocess.Popen[bytes]]:
    """One smtp-source for each recipient."""
    command = ["smtp-source", "-s", str(SESSIONS), "-m", str(MESSAGES), "-l", str(SIZE), "-d"]
    command += ["-f", "x@example.net", *(["-L"] if lmtp else [])]
    return [subprocess.Popen([*command, "-t", to, f"127.0.0.1:{port}"]) for to in recipients]


def _round(dovecot: Dovecot, accounts: list[str], send: Callable[[], list[subprocess.Popen[bytes]]]) -> float:
    """Messages a second, until the last one is visible."""
    wanted = dovecot.count(accounts) + USERS * MESSAGES
    began = time.monotonic()
    clients = send()
    for client in clients:
        if client.wait(120):
            raise RuntimeError("smtp-source failed")
    while dovecot.count(accounts) < wanted:
        if time.monotonic() > began + 120:
            raise TimeoutError(f"{dovecot.count(accounts)} of {wanted} messages are there")
        time.sleep(0.05)
    return USERS * MESSAGES / (time.monotonic() - began)


def run(folder: Path, rounds: int) -> list[str]:
    """The rows of the table."""
    names = [account for peer in ("mailpods", "postfix", "dovecot") for account in _accounts(peer)]
    dovecot = start_dovecot(folder, names)
    postfix = start_postfix(folder / "postfix", f"lmtp:inet:127.0.0.1:{dovecot.lmtp}")
    users = [f"u{n}" for n in range(USERS)]
    ours, process = start_ours(folder / "ours", dovecot.lmtp, users)
    sends: dict[str, Callable[[], list[subprocess.Popen[bytes]]]] = {
        "mailpods": lambda: _send(ours.port, [f"{user}@a.test" for user in users]),
        "postfix": lambda: _send(postfix.port, _accounts("postfix")),
        "dovecot": lambda: _send(dovecot.lmtp, _accounts("dovecot"), lmtp=True),
    }
    pids = {"mailpods": ours.pid, "postfix": postfix.pid}
    rate: dict[str, list[float]] = {peer: [] for peer in sends}
    cpu: dict[str, list[float]] = {peer: [] for peer in sends}
    try:
        for number in range(rounds):
            for peer in sorted(sends, reverse=bool(number % 2)):
                before = cpu_seconds(dovecot.process.pid) + (cpu_seconds(pids[peer]) if peer in pids else 0)
                rate[peer].append(_round(dovecot, _accounts(peer), sends[peer]))
                after = cpu_seconds(dovecot.process.pid) + (cpu_seconds(pids[peer]) if peer in pids else 0)
                cpu[peer].append((after - before) * 1000 / (USERS * MESSAGES))
    finally:
        stop_postfix(folder / "postfix")
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        dovecot.process.terminate()
        dovecot.process.wait(30)
        shutil.rmtree(folder / "dovecot", ignore_errors=True)
    medians = {peer: statistics.median(found) for peer, found in rate.items()}
    rows = ["| SMTP → visible over IMAP, 4 KiB, 20 sessions | messages/s | CPU s/1,000 with Dovecot |"]
    rows.append("|---|---|---|")
    for peer, name in (
        ("mailpods", "Mailpods"),
        ("postfix", "Postfix + the same Dovecot"),
        ("dovecot", "Dovecot alone, by LMTP"),
    ):
        rows.append(f"| {name} | {medians[peer]:.0f} | {statistics.median(cpu[peer]):.1f} |")
    ratio, share = medians["mailpods"] / medians["postfix"], medians["mailpods"] / medians["dovecot"]
    rows.append(f"| ratio to Postfix (goal ≥ 1.3x) | {ratio:.2f}x | |")
    rows.append(f"| share of Dovecot alone (goal ≥ 90 %) | {share:.0%} | |")
    print("\n".join(rows[2:]), file=sys.stderr, flush=True)
    return rows
