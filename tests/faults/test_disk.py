"""A full disk is said to clients, loses nothing, and is forgotten when there is space again."""

import shutil
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.installation import EmbeddedInstallation, domain, mailbox, message, server, wait


@pytest.fixture
def small(installations: Callable[[], EmbeddedInstallation]) -> Iterator[tuple[EmbeddedInstallation, Path]]:
    """An installation whose spool lies on a file system of its own, and that file system."""
    made = installations()
    made.apply("server", server(), domain("a.test", 7))
    made.apply("info", mailbox("info"))
    spool = made.data / "volumes" / "spool-main-smtp-0"
    spool.mkdir(parents=True)
    for folder in (made.data, spool.parent):
        folder.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(spool)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system needs the right to mount one")
    try:
        shutil.chown(spool, "mailpods")
        made.start()
        yield made, spool
        made.stop()
    finally:
        subprocess.run(["umount", str(spool)], check=True)


def test_a_full_disk_is_said_and_forgotten(small: tuple[EmbeddedInstallation, Path]) -> None:
    there, spool = small
    there.deliver("x@example.net", "info@a.test", "before")
    filler = spool / "filler"
    subprocess.run(["fallocate", "-l", "60M", str(filler)], check=True)

    def refused() -> int:
        with there.smtp() as client:
            try:
                client.send_message(message("x@example.net", "info@a.test", "during"))
            except smtplib.SMTPDataError as error:
                return error.smtp_code
        return 0

    during = 0
    for _ in range(30):  # each of the workers looks at the free space once a second
        code = refused()
        during += not code
        time.sleep(0.05)
    assert {refused() for _ in range(10)} == {452}
    filler.unlink()
    wait(lambda: refused() == 0)
    subjects = [
        m.partition(b"Subject: ")[2].split()[0] for m in there.wait_for_mail("7/info", "pw-info", during + 2)
    ]
    assert sorted(subjects) == sorted([b"before", *[b"during"] * (during + 1)])
