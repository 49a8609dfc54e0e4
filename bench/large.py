"""A mailbox of very many messages, in each of Dovecot's formats, beside what the file system alone takes.

Where it matters the price is of one file for each message: an unlink for each one that is expunged.
"""

import imaplib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.mailbox import start_dovecot

MESSAGES = 50_000
FORMATS = ("maildir", "sdbox", "mdbox")
BLOCK = 1_000  # messages of one APPEND (RFC 3502)
_TEXT = b"Subject: hello %d\r\nFrom: a@a.test\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\n\r\n" + b"x" * 2000


def _login(port: int) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", port)
    client.login("1/u", "x")
    return client


def _fill(client: imaplib.IMAP4) -> None:
    for start in range(0, MESSAGES, BLOCK):
        client.send(b"fill APPEND INBOX")
        for number in range(start, start + BLOCK):
            text = _TEXT % number
            client.send(b" {%d+}\r\n%b" % (len(text), text))
        client.send(b"\r\n")
        _until(client, b"fill ")


def _until(client: imaplib.IMAP4, tag: bytes) -> None:
    while not (line := client.readline()).startswith(tag):
        if not line:
            raise ConnectionError("Dovecot hung up")


def _expunge(client: imaplib.IMAP4) -> None:
    client.send(b"gone EXPUNGE\r\n")  # imaplib would collect each of the answers
    _until(client, b"gone ")


def _steps(port: int) -> dict[str, float]:
    client = _login(port)
    seconds: dict[str, float] = {}

    def timed(name: str, what: Callable[[], object]) -> None:
        began = time.monotonic()
        what()
        seconds[name] = time.monotonic() - began

    timed(f"APPEND {MESSAGES:,}", lambda: _fill(client))
    client.logout()
    client = _login(port)
    timed("SELECT", lambda: client.select("INBOX"))
    timed("FETCH 1:* (FLAGS)", lambda: client.fetch("1:*", "(FLAGS)"))
    client.append("INBOX", "", "", _TEXT % 0)
    client.logout()
    client = _login(port)
    timed("SELECT after one more", lambda: client.select("INBOX"))
    half = f"1:{MESSAGES // 2}"
    timed(f"STORE {half} \\Deleted", lambda: client.store(half, "+FLAGS.SILENT", "(\\Deleted)"))
    timed(f"EXPUNGE {MESSAGES // 2:,}", lambda: _expunge(client))
    client.logout()
    return seconds


def _unlinks(folder: Path) -> float:
    """Seconds for as many unlinks of such files, by nobody but the file system."""
    folder.mkdir()
    for number in range(MESSAGES // 2):
        (folder / f"{number}").write_bytes(_TEXT % number)
    os.sync()  # as mail is by then
    began = time.monotonic()
    for number in range(MESSAGES // 2):
        (folder / f"{number}").unlink()
    return time.monotonic() - began


def run(folder: Path) -> list[str]:
    """The rows of the table."""
    found: dict[str, dict[str, float]] = {}
    for name in FORMATS:
        dovecot = start_dovecot(folder / name, ["1/u"], name)
        try:
            found[name] = _steps(dovecot.imap)
        finally:
            dovecot.process.terminate()
            dovecot.process.wait(30)
            shutil.rmtree(folder / name)
        print(name, found[name], file=sys.stderr, flush=True)
    alone = _unlinks(folder / "unlinks")
    rows = [f"| one mailbox, {MESSAGES:,} messages of 2 KiB, seconds | {' | '.join(FORMATS)} |"]
    rows.append("|---|" + "---|" * len(FORMATS))
    for step in found[FORMATS[0]]:
        rows.append(f"| {step} | " + " | ".join(f"{found[name][step]:.2f}" for name in FORMATS) + " |")
    return [*rows, f"| {MESSAGES // 2:,} unlinks without Dovecot | {alone:.2f} | | |"]
