"""kill -9 in any phase of an outgoing transaction: after the next start every message arrives."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from bench import outgoing
from mailpods.directory.records import Server, Smarthost
from tests.support.peer import HANG, Peer, peer

MESSAGES = 40


@pytest.mark.parametrize("phase", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "TEXT"])
def test_every_message_arrives_after_the_next_start(tmp_path: Path, phase: str) -> None:
    async def story() -> None:
        async with peer(says={phase: HANG}, times=1) as there:
            server = outgoing.record(smarthost=Smarthost("127.0.0.1", there.port, "none"))
            mail = ((f"x{n}@far.test", "7/info") for n in range(MESSAGES))
            await asyncio.to_thread(outgoing.fill, tmp_path / "spool", mail, 4096)
            await asyncio.to_thread(killed_in, tmp_path, server, there, phase)
            with outgoing.ours(tmp_path, server):
                async with asyncio.timeout(60):
                    while not outgoing.all_gone(tmp_path / "spool"):
                        await asyncio.sleep(0.05)
            assert {f"x{n}@far.test" for n in range(MESSAGES)} == set(there.recipients())
            # What was on its way when the program died may come twice, and nothing else.
            assert len(there.recipients()) - MESSAGES <= there.most * 2

    asyncio.run(story())


def killed_in(folder: Path, server: Server, there: Peer, phase: str) -> None:
    """Run the program until a server hangs in this phase, and kill it then."""
    with outgoing.ours(folder, server) as running:
        end = time.monotonic() + 30
        while there.times:
            assert time.monotonic() < end, f"nobody came to {phase}"
            time.sleep(0.005)
        os.kill(running.pid, signal.SIGKILL)
        time.sleep(0.5)  # its workers end with it
