"""A server of the world hangs up, or answers with nonsense, in any command: mail arrives all the same."""

from pathlib import Path
from unittest.mock import patch

import pytest

from mailpods.delivery.outcomes import retry
from mailpods.delivery.queues import reachability
from tests.support.deliveries import Harness, run, until
from tests.support.peer import HANG_UP, Peer

MESSAGES, FAULTS = 10, 3
PHASES = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "TEXT", "RSET", "BDAT", "QUIT")
KINDS = {
    "silent": HANG_UP,
    "nonsense": "what?",
    "nonsense-and-more": "what?\r\n250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n354 go\r\n250 2.0.0 Ok",
    "421": "421 4.3.2 shutting down",
}
EXTENSIONS = {"pipelining": ("PIPELINING",), "chunking": ("PIPELINING", "CHUNKING"), "plain": ()}
CASES = [
    (kind, extensions)
    for kind in KINDS
    for extensions in EXTENSIONS
    if kind == "silent" or extensions == "pipelining"
]


@pytest.mark.parametrize(("kind", "extensions"), CASES)
@pytest.mark.parametrize("phase", PHASES)
def test_mail_arrives_all_the_same(tmp_path: Path, phase: str, kind: str, extensions: str) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        with patch.object(reachability, "FIRST_PAUSE", 0.2), patch.object(retry, "FIRST_RETRY", 0.3):
            harness.start()
            for n in range(MESSAGES):
                await harness.take(f"x{n}@far.test")
            there = peers["far.test"]
            await until(lambda: len(set(there.recipients())) == MESSAGES and not harness.queue, 60)
        assert store.taken == []  # nothing came back
        # Twice only where the answer to a whole text was lost, and not a second time for the same reason.
        twice = len(there.recipients()) - MESSAGES
        assert twice <= (FAULTS if phase in ("TEXT", "BDAT") else 0)

    says = {phase: KINDS[kind]}
    run(tmp_path, scenario, far={"says": says, "times": FAULTS, "extensions": EXTENSIONS[extensions]})
