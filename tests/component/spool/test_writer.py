"""What keeps the spool from writing passes; a sync that failed does not, and nothing done is forgotten."""

import asyncio
import errno
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailpods.directory.records import Address
from mailpods.spool import bodies, changes, schema, space, writer
from mailpods.spool.bodies import INLINE_BYTES
from mailpods.spool.errors import SpoolBusy, SpoolClosed, SpoolFull
from mailpods.spool.message import DeliveryResult, Envelope, MessageId, Recipient
from mailpods.spool.spool import Spool
from mailpods.spool.view import QueueView

TO = Address("info@a.test")
LARGE = b"x" * (INLINE_BYTES + 1)


def envelope() -> Envelope:
    return Envelope("x@b.test", (Recipient(TO),), time.time())


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool.open(tmp_path)
    yield made
    made.close()


async def committed(spool: Spool, id: MessageId) -> None:
    """Until all that was reported is on disk."""
    done = asyncio.Event()
    spool.committed(id, lambda _: done.set())
    await asyncio.wait_for(done.wait(), 20)


def test_a_lock_of_somebody_else_passes_and_what_was_done_is_noted(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool._writer._database.execute("PRAGMA busy_timeout=100")

    async def run() -> None:
        id = await spool.accept(envelope(), b"one")
        other = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        spool.report(DeliveryResult(id, TO, None))
        with pytest.raises(SpoolBusy):
            await spool.accept(envelope(), b"two")
        other.execute("ROLLBACK")
        other.close()
        await committed(spool, id)
        assert spool.schedule.due(0, time.time() + 9, 10) == ([], None)
        await spool.accept(envelope(), b"three")

    asyncio.run(run())


def test_no_file_for_a_body_is_one_message_s_misfortune(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def run() -> None:
        monkeypatch.setattr(bodies, "open", exhausted, raising=False)
        with pytest.raises(SpoolBusy):
            await spool.accept(envelope(), LARGE)
        monkeypatch.undo()
        assert spool.schedule.body(await spool.accept(envelope(), LARGE)) == LARGE

    asyncio.run(run())


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_a_sync_that_fails_closes_the_spool_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def run() -> None:
        spool, told = Spool.open(tmp_path), list[str]()
        spool.watch(told.append, lambda _: None)
        kept = await spool.accept(envelope(), b"before")
        monkeypatch.setattr(os, call, failing)
        with pytest.raises(SpoolClosed):
            await spool.accept(envelope(), LARGE)
        monkeypatch.undo()
        with pytest.raises(SpoolClosed):
            await spool.accept(envelope(), b"behind")
        await asyncio.sleep(0)
        assert told and "Input/output error" in told[0]
        spool.close()
        again = Spool.open(tmp_path)
        assert [each.id for each in again.schedule.due(0, time.time(), 10)[0]] == [kept]
        again.close()

    asyncio.run(run())


def test_an_error_of_the_disk_below_the_database_closes_the_spool(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> list[str]:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    monkeypatch.setattr(changes, "note", failing)
    with pytest.raises(SpoolClosed):
        asyncio.run(spool.accept(envelope(), b"x"))
    with pytest.raises(SpoolClosed):
        asyncio.run(spool.accept(envelope(), b"x"))


def test_results_wait_while_the_disk_is_full_and_are_not_dropped(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, full = changes.note, True

    def filling(database: sqlite3.Connection, reported: Any) -> list[str]:
        if full and reported:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return note(database, reported)

    monkeypatch.setattr(changes, "note", filling)
    monkeypatch.setattr(writer, "MOST_CHANGES", 3)

    async def run() -> None:
        nonlocal full
        ids = [await spool.accept(envelope(), LARGE) for _ in range(10)]
        for id in ids:
            spool.report(DeliveryResult(id, TO, None))
        await asyncio.sleep(0.3)
        assert len(spool.schedule.due(0, time.time(), 99)[0]) == 10
        assert spool.schedule.body(ids[0]) == LARGE  # no body goes before the commit that lets it go
        full = False
        await committed(spool, ids[0])
        assert spool.schedule.due(0, time.time(), 99)[0] == []

    asyncio.run(run())


def test_two_processes_never_have_one_spool(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Spool.open(tmp_path)


def test_the_database_syncs_what_it_commits(spool: Spool) -> None:
    for database in (spool._writer._database, schema.connect(spool.path / "queue.db")):
        if database is not spool._writer._database:
            assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
            database.close()
    assert spool._writer._database.execute("PRAGMA secure_delete").fetchone() == (0,)


def test_a_spool_that_was_full_takes_mail_again_once_it_is_empty(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system needs the right to mount one")

    async def run() -> None:
        spool, ids = Spool.open(tmp_path), list[MessageId]()
        with pytest.raises(SpoolFull):
            while True:
                ids.append(await spool.accept(envelope(), b"x" * 100_000))
                spool._space._next_check = 0
        assert len(ids) > 200
        for id in ids:
            spool.report(DeliveryResult(id, TO, None))
        await committed(spool, ids[-1])
        spool._space._next_check = 0
        await spool.accept(envelope(), b"x" * 100_000)  # what the database keeps free counts
        size = (tmp_path / "queue.db").stat().st_size
        async with asyncio.timeout(20):
            while (tmp_path / "queue.db").stat().st_size > size / 2:  # and is given back by and by
                await asyncio.sleep(0.05)
        spool.close()

    try:
        asyncio.run(run())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_large_bodies_need_room_on_the_volume_itself(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def left(folder: Path, database: sqlite3.Connection, size: int = 0) -> int:
        return 0 if size > INLINE_BYTES else 1 << 30

    monkeypatch.setattr(space, "free_bytes", left)
    monkeypatch.setattr(space, "CHECK_SECONDS", 0)
    asyncio.run(spool.accept(envelope(), b"small"))
    with pytest.raises(SpoolFull):
        asyncio.run(spool.accept(envelope(), LARGE))


def test_people_s_changes_of_many_hold_up_nobody_and_leave_no_files(spool: Spool, tmp_path: Path) -> None:
    async def fill() -> None:
        await asyncio.gather(*(spool.accept(envelope(), b"x") for _ in range(2000)))
        await spool.accept(envelope(), LARGE)

    asyncio.run(fill())
    commits = 0
    original = QueueView._open

    def timed(self: QueueView) -> Any:
        nonlocal commits
        commits += 1
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QueueView, "_open", timed)
        assert QueueView(tmp_path).delete({"domain": "a.test"}) == 2001
    assert commits >= 5  # in slices, between which others write
    assert list((tmp_path / "bodies").iterdir()) == []
