"""A fault about one message holds up that message alone, and says so; what waits looks again."""

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from mailpods.delivery.outcomes import retry
from mailpods.delivery.outcomes.apply import Outcomes
from mailpods.delivery.queues import manager, scheduler
from mailpods.delivery.queues.sorter import Sorter
from mailpods.directory.reader import DirectoryReader, NotLoaded
from mailpods.directory.records import Address
from mailpods.routing.router import Router
from mailpods.spool import transfer
from mailpods.spool.bodies import INLINE_BYTES
from mailpods.spool.message import Envelope, QueuedMessage, Recipient
from mailpods.spool.schedule import Schedule
from mailpods.spool.view import QueueView
from tests.support.deliveries import Harness, run, until
from tests.support.peer import Peer


def raising_for(word: str, original: Any, of: Any) -> Any:
    def maybe(self: Any, about: Any, *rest: Any) -> Any:
        if word in of(about):
            raise RuntimeError(f"{word} is too much for us")
        return original(self, about, *rest)

    return maybe


def _addresses(about: Any) -> str:
    message = about if isinstance(about, QueuedMessage) else about.message
    return str(message.recipients)


@pytest.mark.parametrize(("where", "what"), [(Sorter, "batches"), (Sorter, "sender"), (Outcomes, "_apply")])
def test_a_fault_about_one_message_parks_it_with_its_reason(tmp_path: Path, where: type, what: str) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        harness.start()
        with patch.object(where, what, raising_for("bad", getattr(where, what), _addresses)):
            await harness.take("bad@far.test")
            for n in range(20):
                await harness.take(f"x{n}@far.test")
            await until(lambda: len({to for to in peers["far.test"].recipients() if to[0] == "x"}) == 20)
            await until(lambda: len(harness.queue) == 1)
            await until(lambda: "a fault of ours" in str(harness.queue[0]["reply"]))
        assert harness.manager and not len(harness.manager._leases)  # nothing is under way for ever
        QueueView(tmp_path / "spool").retry({"address": "bad@far.test"})
        await until(lambda: harness.queue == [])

    run(tmp_path, scenario)


def test_a_message_whose_body_is_lost_expires_and_no_peer_is_blamed(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        envelope = Envelope("info@a.test", (Recipient(Address("x@far.test")),), time.time())
        id = await harness.spool.accept(envelope, b"Subject: x\r\n\r\n" + b"x\r\n" * INLINE_BYTES)
        (tmp_path / "spool" / "bodies" / id).unlink()
        with patch.object(manager, "SWEEP_SECONDS", 0.5), patch.object(retry, "LIFETIME", 2.0):
            harness.start()
            await until(lambda: f"fault of ours: BodyMissing('the file of message {id}" in str(harness.queue))
            await until(lambda: store.recipients() == ["7/info"])
            await until(lambda: harness.queue == [])
        (_, _, text) = store.taken[0]
        assert b"Action: failed" in text and b"BodyMissing" in text
        assert not any("unreachable" in line for line in harness.log)
        await harness.take("y@far.test")  # its server is tried as if nothing had been
        await until(lambda: peers["far.test"].recipients() == ["y@far.test"])

    run(tmp_path, scenario)


def test_an_error_while_looking_for_mail_passes(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        broken = patch.object(Schedule, "due", side_effect=sqlite3.OperationalError("disk I/O error"))
        with patch.object(scheduler, "POLL_SECONDS", 0.05), broken:
            harness.start()
            await until(lambda: any("is not found" in line for line in harness.log))
        await harness.take("x@far.test", at=time.time() - 5)
        await until(lambda: harness.queue == [])

    run(tmp_path, scenario)


def test_what_others_make_due_is_found_at_once_however_long_their_commit_took(tmp_path: Path) -> None:
    """Their times are from before the commit, and the reading by time has passed them."""

    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        harness.start()
        await harness.take("held@far.test", at=time.time())
        await until(lambda: len(peers["far.test"].taken) == 1)
        view = QueueView(tmp_path / "spool")
        record = {
            "id": "a",
            "sender": "",
            "received_at": time.time(),
            "client_ip": "",
            "helo": "",
            "protocol": "ESMTP",
        }
        record |= {"account": None, "smtputf8": 0, "body_8bit": 0, "size": 9}
        record["recipients"] = [{"address": "x@far.test", "next_try": time.time()}]
        lock = sqlite3.connect(tmp_path / "spool" / "queue.db", isolation_level=None, check_same_thread=False)
        lock.execute("BEGIN IMMEDIATE")
        parcel = transfer.Parcel(record, b"Subject: x\r\n\r\nx\r\n")
        taking = threading.Thread(target=lambda: transfer.take(view, [parcel]))
        taking.start()
        await asyncio.sleep(2.5)  # longer than from one look to the next
        lock.execute("ROLLBACK")
        lock.close()
        await asyncio.to_thread(taking.join)
        await until(lambda: len(peers["far.test"].taken) == 2, 5)

    run(tmp_path, scenario)


def test_what_waits_for_a_store_that_is_down_can_be_deleted(
    tmp_path: Path,
) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        store.says["CONNECT"] = "421 4.3.2 closed"
        harness.start()
        for _ in range(5):
            await harness.take("info@a.test")
        await harness.take("both@a.test", account=None)
        await until(lambda: any("lane=shard-0" in line for line in harness.log))
        QueueView(tmp_path / "spool").delete({"address": "info@a.test"})
        del store.says["CONNECT"]
        await until(lambda: harness.queue == [], 40)
        assert len(store.taken) == 1

    run(tmp_path, scenario)


def test_what_is_not_loaded_is_neither_unknown_nor_another_s(tmp_path: Path) -> None:
    reader = DirectoryReader(tmp_path, 1)
    reader.refresh()
    with pytest.raises(NotLoaded):
        reader.address(Address("info@a.test"))
    assert not reader.is_complete
    refusal = Router(reader).route(Address("info@a.test"), may_relay=False)
    assert getattr(refusal, "code", 0) == 451

    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        harness.reader._buckets[0].value = None
        harness.reader._loaded = []
        harness.start()
        await harness.take("info@a.test")
        await until(lambda: "loaded, try again" in str(harness.queue))
        assert peers["far.test"].taken == store.taken == []

    run(tmp_path, scenario)
