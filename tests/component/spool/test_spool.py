"""What was acknowledged is there after any crash, and a full disk is said, survived and forgotten."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mailpods.directory.records import Address
from mailpods.spool.bodies import INLINE_BYTES
from mailpods.spool.errors import SpoolClosed, SpoolError, SpoolFull
from mailpods.spool.message import DeliveryResult, Envelope, Recipient
from mailpods.spool.spool import Spool
from mailpods.spool.view import QueueView


def envelope(*recipients: str) -> Envelope:
    return Envelope(
        "x@b.test", tuple(Recipient(Address(r)) for r in recipients or ("info@a.test",)), time.time()
    )


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool.open(tmp_path)
    yield spool
    spool.close()


def wait_for(path: Path, depth: int) -> None:
    deadline = time.monotonic() + 10
    view = QueueView(path)
    while view.depth()[0] != depth and time.monotonic() < deadline:
        time.sleep(0.01)
    assert view.depth()[0] == depth


@pytest.mark.parametrize("size", [0, 1000, INLINE_BYTES, INLINE_BYTES + 1, 2_000_000])
def test_a_message_comes_back_byte_for_byte(spool: Spool, size: int) -> None:
    body = random.Random(size).randbytes(size)
    given = envelope("info@a.test", "anna@a.test")
    message = asyncio.run(spool.accept(given, body))
    (due,), _ = spool.schedule.due(0, time.time(), 10)
    assert (due.id, due.attempts) == (message, 0)
    assert due.envelope.sender == given.sender and set(due.recipients) == set(given.recipients)
    assert spool.schedule.body(message) == body


def test_a_recipient_is_tried_again_when_it_is_time_and_the_last_one_ends_the_message(
    spool: Spool, tmp_path: Path
) -> None:
    message = asyncio.run(spool.accept(envelope("info@a.test", "anna@a.test"), b"x" * (INLINE_BYTES + 1)))
    later = time.time() + 60
    spool.report(DeliveryResult(message, Address("anna@a.test"), later, "451 busy"))
    spool.report(DeliveryResult(message, Address("info@a.test"), None))
    wait_for(tmp_path, 1)
    assert spool.schedule.due(0, time.time(), 10) == ([], None)
    (due,), _ = spool.schedule.due(0, later, 10)
    assert [r.address for r in due.recipients] == ["anna@a.test"] and due.attempts == 1
    (waiting,) = QueueView(tmp_path).queue({})
    assert (waiting["reply"], waiting["next_try"]) == ("451 busy", later)

    spool.report(DeliveryResult(message, Address("anna@a.test"), None))
    wait_for(tmp_path, 0)
    with pytest.raises(KeyError):
        spool.schedule.body(message)


def test_an_administrator_may_retry_or_delete_what_waits(spool: Spool, tmp_path: Path) -> None:
    first = asyncio.run(spool.accept(envelope("info@a.test", "x@c.test"), b"1"))
    spool.report(DeliveryResult(first, Address("info@a.test"), time.time() + 900))
    assert QueueView(tmp_path).delete({"domain": "c.test"}) == 1
    wait_for(tmp_path, 1)
    assert QueueView(tmp_path).retry({"address": "info@a.test"}) == 1
    deadline = time.monotonic() + 10
    while not spool.schedule.due(0, time.time(), 10)[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert spool.schedule.due(0, time.time(), 10)[0][0].id == first
    assert QueueView(tmp_path).delete({"id": first}) == 1
    wait_for(tmp_path, 0)


def test_a_message_that_cannot_be_written_does_not_take_others_with_it(spool: Spool) -> None:
    async def both() -> tuple[object, object]:
        bad = spool.accept(
            Envelope("\ud800@b.test", (Recipient(Address("info@a.test")),), time.time()), b"bad"
        )
        return await asyncio.gather(bad, spool.accept(envelope(), b"good"), return_exceptions=True)

    bad, good = asyncio.run(both())
    assert isinstance(bad, SpoolError) and isinstance(good, str)
    assert [due.id for due in spool.schedule.due(0, time.time(), 10)[0]] == [good]


def test_a_closed_spool_takes_nothing(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path)
    spool.close()
    with pytest.raises(SpoolClosed):
        asyncio.run(spool.accept(envelope(), b"x"))


# Accepts from many sessions at once, and prints the id and digest of a message only once it is acknowledged.
ACCEPTING = """
import asyncio, hashlib, os, random, sys, time
from pathlib import Path
from mailpods.spool.message import Envelope, Recipient
from mailpods.spool.view import QueueView
from mailpods.spool.spool import Spool
async def session(spool):
    for _ in range(10_000):
        body = random.randbytes(random.choice((10, 4000, 100_000)))
        id = await spool.accept(Envelope("x@b.test", (Recipient("info@a.test"),), time.time()), body)
        os.write(1, f"{id} {hashlib.sha256(body).hexdigest()}\\n".encode())
async def main():
    spool = Spool.open(Path(sys.argv[1]))
    await asyncio.gather(*(session(spool) for _ in range(20)))
asyncio.run(main())
"""


def test_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    import hashlib

    acknowledged: dict[str, str] = {}
    for seed in range(10):
        process = subprocess.Popen([sys.executable, "-c", ACCEPTING, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        lines = [process.stdout.readline()]  # it is at work
        time.sleep(random.Random(seed).uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        acknowledged.update(line.decode().split() for line in lines if line.endswith(b"\n"))  # type: ignore[misc]
        spool = Spool.open(tmp_path)
        there = {due.id for due in spool.schedule.due(0, time.time(), 1_000_000)[0]}
        assert acknowledged.keys() <= there
        files = {file.name for file in (tmp_path / "bodies").iterdir()}
        assert files <= there
        spool.close()
    spool = Spool.open(tmp_path)
    for message, digest in acknowledged.items():
        assert hashlib.sha256(spool.schedule.body(message)).hexdigest() == digest  # type: ignore[arg-type]
    spool.close()
    assert len(acknowledged) > 100


def test_a_full_disk_is_said_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailpods.spool.space.RESERVE_BYTES", -(1 << 20))  # so that writes really fail
    monkeypatch.setattr("mailpods.spool.space.CHECK_SECONDS", 0)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system needs the right to mount one")
    try:
        spool = Spool.open(tmp_path)
        body = b"x" * 200_000
        kept = [asyncio.run(spool.accept(envelope(), body)) for _ in range(10)]
        with suppress(OSError), open(tmp_path / "filler", "wb", buffering=0) as filler:
            while True:  # somebody else takes the last byte
                filler.write(b"x" * 1024)
        with pytest.raises(SpoolFull):
            asyncio.run(spool.accept(envelope(), body))
        assert all(spool.schedule.body(message) == body for message in kept)
        for message in kept:
            spool.report(DeliveryResult(message, Address("info@a.test"), None))
        wait_for(tmp_path, 0)
        assert spool.schedule.body(asyncio.run(spool.accept(envelope(), body))) == body
        spool.close()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
