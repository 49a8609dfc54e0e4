"""DKIM: signatures a second, beside what OpenSSL needs for the arithmetic alone."""

import datetime
import re
import subprocess
import time
from functools import cache

from mail_operator.compiler.dkim import keys_in
from mail_operator.engine.secrets import make_dkim_keys

from mailpods.message.dkim import sign

HEADER = (
    b"From: Shop <news@a.test>\r\nTo: x@far.test\r\nSubject: News of this week\r\n"
    b"Date: Mon, 2 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@a.test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/html; charset=utf-8\r\n"
)
LINE = b"<p>Some words of a letter, and a few more of  them\tto fill the line</p>\r\n"
SECONDS = 3.0


ATTACHED = b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0NTY3\r\n"
# Heading -> (line of the body, bytes)
BODIES = {"4 KiB": (LINE, 4096), "100 KB of text": (LINE, 100_000), "100 KB attached": (ATTACHED, 100_000)}


def rate(line: bytes, size: int, algorithm: str) -> float:
    """Signatures per CPU second of messages with so many bytes."""
    keys, _ = keys_in(make_dkim_keys(datetime.datetime.now(datetime.UTC)))
    chosen = [key for key, _ in keys if key.algorithm == algorithm]
    body = line * max(size // len(line), 1)
    sign(HEADER, [body], "a.test", chosen, time.time())  # the key is read once
    count, began = 0, time.process_time()
    while time.process_time() - began < SECONDS:
        sign(HEADER, [body], "a.test", chosen, time.time())
        count += 1
    return count / (time.process_time() - began)


@cache
def _speed(pattern: str, *what: str) -> float:
    """A figure that `openssl speed` says of one core."""
    command = ["openssl", "speed", "-seconds", "3", *what]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(pattern, said)
    assert found, said
    return float(found[1])


def arithmetic(size: int) -> float:
    """RSA-2048 signatures a second with a hash of so many bytes for each."""
    signatures = _speed(r"rsa\s+2048 bits\s+\S+\s+\S+\s+([0-9.]+)", "rsa2048")
    hashed = _speed(r"sha256\s+([0-9.]+)k", "-bytes", str(size), "sha256") * 1000
    return 1 / (1 / signatures + size / hashed)


def run() -> list[str]:
    """The rows of the table."""
    rsa = [rate(*body, "rsa") for body in BODIES.values()]
    ed25519 = [rate(*body, "ed25519") for body in BODIES.values()]
    peer = [arithmetic(size) for _, size in BODIES.values()]
    shares = [ours / theirs for ours, theirs in zip(rsa, peer, strict=True)]
    return [
        f"| DKIM signatures a second, one core | {' | '.join(BODIES)} |",
        "|---|---|---|---|",
        f"| RSA-2048 | {' | '.join(f'{each:.0f}' for each in rsa)} |",
        f"| Ed25519 | {' | '.join(f'{each:.0f}' for each in ed25519)} |",
        f"| `openssl speed`, rsa2048 and sha256 | {' | '.join(f'{each:.0f}' for each in peer)} |",
        f"| share of it (goal ≥ 80 %) | {' | '.join(f'{each * 100:.0f} %' for each in shares)} |",
    ]
