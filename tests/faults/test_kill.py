"""The plug is pulled again and again under load: whatever got its 250 arrives, and none is corrupted."""

import email
import hashlib
import os
import random
import re
import signal
import smtplib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.installation import HOST, EmbeddedInstallation, domain, mailbox, message, server, wait

KILLS = 30
SENDERS = 4


class Sender(threading.Thread):
    """Sends numbered messages, each with a digest of its text, and notes those that got their 250."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self.port, self.name = port, name
        self.acknowledged: dict[str, str] = {}
        self.tried = 0
        self.stopping = False
        self._random = random.Random(name)

    def run(self) -> None:
        """Until told to stop."""
        while not self.stopping:
            try:
                with smtplib.SMTP(HOST, self.port, timeout=20) as client:
                    for _ in range(10):
                        self._send(client)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)  # killed just now

    def _send(self, client: smtplib.SMTP) -> None:
        self.tried += 1
        key = f"{self.name}-{self.tried}"
        length = self._random.choice([100, 4000, 4000, 30_000, 200_000])
        text = "\r\n".join(self._random.randbytes(30).hex() for _ in range(length // 60)) + "\r\n"
        digest = hashlib.sha256(text.encode()).hexdigest()
        client.sendmail("x@example.net", ["info@a.test"], f"Key: {key}\r\n\r\n{text}".encode())
        self.acknowledged[key] = digest
        time.sleep(0.03)  # the load is bounded: all of it has to be stored and read again


def victims(installation: EmbeddedInstallation) -> list[int]:
    """The processes of the smtp program and of Dovecot, parents and children."""
    out = subprocess.run(
        ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in out.splitlines()[1:]]
    ours = {int(pid) for pid, _, args in rows if str(installation.data) in args}
    ours |= {int(pid) for pid, parent, args in rows if int(parent) in ours and args.startswith("dovecot/")}
    return [
        int(pid)
        for pid, _, args in rows
        if int(pid) in ours and ("mailpods.programs.smtp" in args or re.search(r"(^|/)dovecot[ /]", args))
    ]


@pytest.mark.timeout(280)
def test_thirty_kills_lose_nothing(installations: Callable[[], EmbeddedInstallation]) -> None:
    installation = installations()
    installation.apply("server", server(), domain("a.test", 7))
    installation.apply("info", mailbox("info"))
    installation.start()
    installation.wait_for("Mailbox", "info")
    senders = [Sender(installation.port("smtp"), f"s{n}") for n in range(SENDERS)]
    for sender in senders:
        sender.start()
    chance = random.Random(3)
    killed: Counter[str] = Counter()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.3, 1.5))
        candidates = victims(installation)
        smtp = [p for p in candidates if "mailpods.programs.smtp" in _arguments(p)]
        pick = chance.choice(smtp if chance.random() < 0.5 and smtp else candidates or smtp)
        killed["smtp" if pick in smtp else "dovecot"] += 1
        os.kill(pick, signal.SIGKILL)
    time.sleep(1)
    for sender in senders:
        sender.stopping = True
    for sender in senders:
        sender.join(40)
    acknowledged = {key: digest for sender in senders for key, digest in sender.acknowledged.items()}
    assert len(acknowledged) > 200 and killed["smtp"] >= 5 and killed["dovecot"] >= 5, killed

    def arrived() -> Counter[str] | None:
        found = Counter(key for key, _ in _stored(installation))
        return found if acknowledged.keys() <= found.keys() else None

    counted = wait(arrived, 90, "an acknowledged message was lost")
    tried = sum(sender.tried for sender in senders)
    duplicates = sum(counted.values()) - len(counted)
    print(f"kills={dict(killed)} tried={tried} acknowledged={len(acknowledged)} duplicates={duplicates}")
    for key, digest in _stored(installation):
        assert acknowledged.get(key, digest) == digest, f"{key} was corrupted"


def _arguments(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _stored(installation: EmbeddedInstallation) -> list[tuple[str, str]]:
    """(key, digest of the text) of every message in the mailbox, read over IMAP."""
    try:
        messages = installation.inbox("7/info", "pw-info")
    except OSError:
        return []
    found = []
    for raw in messages:
        header, _, text = raw.partition(b"\r\n\r\n")
        key = str(email.message_from_bytes(header)["Key"])
        found.append((key, hashlib.sha256(text).hexdigest()))
    return found


def test_mail_waits_while_the_store_is_down(installations: Callable[[], EmbeddedInstallation]) -> None:
    installation = installations()
    installation.apply("server", server(), domain("a.test", 7))
    installation.apply("info", mailbox("info"))
    installation.start()
    installation.wait_for("Mailbox", "info")
    stores = [p for p in victims(installation) if "main-store-0" in _arguments(p)]
    parents = [
        int(pid)
        for pid in subprocess.run(
            ["pgrep", "-f", f"mailpods.store --role store.*{installation.data}"],
            capture_output=True,
            text=True,
        ).stdout.split()
    ]
    for pid in parents:
        os.kill(pid, signal.SIGSTOP)  # Dovecot stays down as long as nobody starts it again
    for pid in stores:
        os.kill(pid, signal.SIGKILL)
    with installation.smtp() as client:
        for n in range(5):
            client.send_message(message("x@example.net", "info@a.test", str(n)))
    time.sleep(2)
    assert "unreachable lane=shard-0" in installation.log("main-smtp-0-smtp")
    for pid in parents:
        os.kill(pid, signal.SIGCONT)
    installation.wait_for_mail("7/info", "pw-info", 5, 40)
