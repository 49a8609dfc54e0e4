"""DKIM: signatures a second, beside what OpenSSL needs for the arithmetic alone."""

import datetime
import re
import subprocess
import time

from mail_operator.compiler.dkim import keys_in
from mail_operator.secrets import make_dkim_keys

from mailpods.signing.dkim import sign

HEADER = (
    b"From: Shop <news@a.test>\r\nTo: x@far.test\r\nSubject: News of this week\r\n"
    b"Date: Mon, 2 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@a.test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/html; charset=utf-8\r\n"
)
LINE = b"<p>Some words of a letter, and a few more of  them\tto fill the line</p>\r\n"
SECONDS = 3.0


def rate(size: int, algorithm: str) -> float:
    """Signatures per CPU second of messages with so many bytes."""
    keys, _ = keys_in(make_dkim_keys(datetime.datetime.now(datetime.UTC)))
    chosen = [key for key, _ in keys if key.algorithm == algorithm]
    body = LINE * max(size // len(LINE), 1)
    sign(HEADER, [body], "a.test", chosen, time.time())  # the key is read once
    count, began = 0, time.process_time()
    while time.process_time() - began < SECONDS:
        sign(HEADER, [body], "a.test", chosen, time.time())
        count += 1
    return count / (time.process_time() - began)


def openssl() -> float:
    """RSA-2048 signatures a second of one core, as `openssl speed` says."""
    said = subprocess.run(
        ["openssl", "speed", "-seconds", "3", "rsa2048"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"rsa\s+2048 bits\s+\S+\s+\S+\s+([0-9.]+)", said)
    assert found, said
    return float(found[1])


def run() -> list[str]:
    """The rows of the table."""
    peer = openssl()
    rows = ["| DKIM signatures a second, one core | 4 KiB | 100 KB |", "|---|---|---|"]
    small, large = rate(4096, "rsa"), rate(100_000, "rsa")
    rows.append(f"| RSA-2048 | {small:.0f} | {large:.0f} |")
    rows.append(f"| Ed25519 | {rate(4096, 'ed25519'):.0f} | {rate(100_000, 'ed25519'):.0f} |")
    rows.append(f"| `openssl speed rsa2048`, the arithmetic alone | {peer:.0f} | |")
    rows.append(f"| share of it (goal ≥ 80 %) | {small / peer * 100:.0f}% | {large / peer * 100:.0f}% |")
    return rows
