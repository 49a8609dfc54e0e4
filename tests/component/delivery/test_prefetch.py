"""What is read ahead is what the spool holds, is believed for a moment, and takes no more than its share."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailpods.delivery.queues import prefetch
from mailpods.delivery.queues.fair_queue import FairQueue
from mailpods.delivery.queues.prefetch import FRESH_SECONDS, Prefetch
from mailpods.directory.records import AccountId, Address
from mailpods.spool.bodies import INLINE_BYTES
from mailpods.spool.message import DeliveryResult, Envelope, MessageId, Recipient
from mailpods.spool.spool import Spool
from mailpods.spool.view import QueueView


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool.open(tmp_path)
    yield made
    made.close()


def take(spool: Spool, *to: str, body: bytes = b"hello\r\n") -> MessageId:
    recipients = tuple(Recipient(Address(each)) for each in to)
    envelope = Envelope("info@a.test", recipients, time.time(), account=AccountId("7/info"), smtputf8=True)
    return asyncio.run(spool.accept(envelope, body))


def test_several_are_read_as_each_would_be(spool: Spool, tmp_path: Path) -> None:
    ids = [
        take(spool, "x@far.test", "y@near.test"),
        take(spool, "z@far.test", body=b"x" * (INLINE_BYTES + 1)),
        take(spool, "held@far.test"),
    ]
    QueueView(tmp_path).hold({"address": "held@far.test"})
    QueueView(tmp_path).hold({"address": "y@near.test"})
    now = time.time()
    found = spool.schedule.wholes([*ids, MessageId("nobody")], now)
    assert found.keys() == set(ids[:2])
    assert all(found[id] == spool.schedule.whole(id, now) for id in ids[:2])
    due, body = found[ids[0]]
    assert due and [r.address for r in due.recipients] == ["x@far.test"] and body == b"hello\r\n"
    assert due.envelope.smtputf8 is True and due.envelope.account == "7/info"
    assert found[ids[1]][1] is None  # its body is a file


def test_what_was_read_ahead_is_not_asked_for_again_and_not_believed_for_long(
    spool: Spool, tmp_path: Path
) -> None:
    first, second, third = (take(spool, f"x{n}@far.test") for n in range(3))
    reading, now = Prefetch(spool.schedule), time.time()
    assert reading.take("far", first, lambda: [second, third], now)[0]
    QueueView(tmp_path).delete({"domain": "far.test"})
    assert reading.take("far", second, lambda: [], now + FRESH_SECONDS / 2)[0]  # it was on its way
    assert reading.take("far", third, lambda: [], now + FRESH_SECONDS) == (None, None)
    assert reading._bytes == 0


def test_of_one_that_is_on_its_way_nothing_is_known(spool: Spool) -> None:
    first, second = take(spool, "x@far.test"), take(spool, "y@far.test")
    reading, now = Prefetch(spool.schedule), time.time()
    reading.take("far", first, lambda: [second], now)
    reading.forget("far", second)  # by another turn than the one that was read for
    reading.forget("far", second)
    reading.forget("nowhere", second)
    assert reading._bytes == 0
    spool.report(DeliveryResult(second, Address("y@far.test"), None))
    end = time.monotonic() + 10
    while spool.schedule.whole(second, now) != (None, None) and time.monotonic() < end:
        time.sleep(0.02)
    assert reading.take("far", second, list, now) == (None, None)


def test_each_destination_has_its_own(spool: Spool) -> None:
    first, second = take(spool, "x@far.test"), take(spool, "y@near.test")
    reading, now = Prefetch(spool.schedule), time.time()
    assert reading.take("far", first, lambda: [second], now)[0]
    assert reading.take("near", second, lambda: [first], now)[0]
    assert reading.take("near", first, list, now)[0]
    reading.drop("far")
    reading.drop("nowhere")
    assert reading._bytes == 0


def test_bodies_that_wait_are_bounded(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "MOST_BYTES", 1)
    ids = [take(spool, f"x{n}@far.test") for n in range(3)]
    reading, now = Prefetch(spool.schedule), time.time()
    reading.take("far", ids[0], lambda: ids[1:], now)
    held = reading._bytes
    reading.take("near", ids[0], lambda: ids[1:], now)
    assert reading._bytes == held > 1


def test_turns_to_come_are_those_that_come() -> None:
    turns = FairQueue()
    for tenant, count in (("7", 5), ("8", 1), ("9", 2)):
        for n in range(count):
            turns.add(tenant, MessageId(f"{tenant}-{n}"))
    for most in (1, 2, 3, 4, 6, 8, 20):
        coming = turns.coming(most)
        assert len(coming) == min(most, 8)
    expected = turns.coming(20)
    assert [turns.next() for _ in range(8)] == expected
    assert turns.coming(3) == []
