"""A server of the world takes a connection, and then says nothing: it is given up, and holds up nobody."""

from pathlib import Path
from unittest.mock import patch

import pytest

from mailpods.delivery.client import connection, pipeline
from mailpods.delivery.outcomes import retry
from mailpods.delivery.queues import reachability
from tests.support.deliveries import Harness, run, until
from tests.support.peer import HANG, Peer


@pytest.mark.parametrize("phase", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "TEXT", "BDAT"])
def test_it_is_given_up_and_tried_again(tmp_path: Path, phase: str) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        with (
            patch.object(reachability, "FIRST_PAUSE", 0.2),
            patch.object(retry, "FIRST_RETRY", 0.3),
            patch.object(pipeline, "REPLY_SECONDS", 1.0),
            patch.object(connection, "REPLY_SECONDS", 1.0),
            patch.object(connection, "FINAL_SECONDS", 1.0),
        ):
            harness.start()
            for n in range(5):
                await harness.take(f"x{n}@far.test")
                await harness.take(f"y{n}@near.test")
            await until(lambda: len(set(peers["near.test"].recipients())) == 5, 5)  # at once
            await until(lambda: len(set(peers["far.test"].recipients())) == 5 and not harness.queue, 30)
        assert store.taken == []

    extensions = ("PIPELINING", "CHUNKING") if phase == "BDAT" else ("PIPELINING",)
    far = {"says": {phase: HANG}, "times": 2, "extensions": extensions}
    run(tmp_path, scenario, ("far.test", "near.test"), far=far)
