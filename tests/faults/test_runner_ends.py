"""The runner of one machine ends, in order or not: nothing goes on without anybody who looks after it."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.installation import EmbeddedInstallation, domain, mailbox, server, wait


def left(installation: EmbeddedInstallation) -> list[int]:
    """The processes that have something of the installation's data folder in their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{installation.data}/".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_programs_end_with_their_runner(
    installations: Callable[[], EmbeddedInstallation], number: signal.Signals
) -> None:
    installation = installations()
    installation.apply("all", server(), domain("a.test", 7), mailbox("info"))
    installation.start()
    installation.wait_for("Mailbox", "info")
    assert len(left(installation)) >= 3
    assert installation.process is not None
    installation.process.send_signal(number)
    installation.process.wait(60)
    wait(lambda: not left(installation), 30, "processes went on")
    installation.process = None
