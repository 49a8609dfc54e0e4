"""A queue moves from one spool to another over HTTP, and nothing of it changes."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailpods.admin.server import AdminServer, Request, Response
from mailpods.directory.records import Address
from mailpods.spool import transfer
from mailpods.spool.bodies import INLINE_BYTES
from mailpods.spool.message import DeliveryResult, Envelope, Recipient
from mailpods.spool.spool import Spool
from mailpods.spool.view import QueueView

KEY = "the-installation's-key"
BODIES = [b"Subject: small\r\n\r\nx\r\n", b"Subject: large\r\n\r\n" + b"y" * (INLINE_BYTES + 5) + b"\r\n"]


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Where another pod takes a queue, and its spool, which is at work."""
    folder = tmp_path / "peer"
    spool = Spool.open(folder)

    def route(request: Request) -> Response:
        return transfer.adopt(request, KEY, QueueView(folder))

    bounds = {f"POST {transfer.PATH}": transfer.MAX_BODY}
    server = AdminServer("127.0.0.1", 0, {f"POST {transfer.PATH}": route}, bounds)
    server.start()
    yield f"127.0.0.1:{server.port}", folder
    server.stop()
    spool.close()


def fill(folder: Path) -> list[dict[str, Any]]:
    """Two messages, one of which was tried before; the spool is closed then. Returns its queue."""

    async def run() -> None:
        spool = Spool.open(folder)
        for body in BODIES:
            recipients = (
                Recipient(Address("info@b.test"), "FAILURE", "rfc822;i@c.test"),
                Recipient(Address("é@b.test")),
            )
            envelope = Envelope("x@example.net", recipients, 1000.0, "192.0.2.1", "helo", smtputf8=True)
            id = await spool.accept(envelope, body)
            spool.report(DeliveryResult(id, Address("info@b.test"), time.time() + 500, "451 not now"))
        spool.close()

    asyncio.run(run())
    return QueueView(folder).queue({})


def state(queue: list[dict[str, Any]], now: float) -> list[tuple[Any, ...]]:
    """All of a queue, but when exactly what is due came due."""
    return sorted(tuple({**each, "next_try": max(each["next_try"], now)}.values()) for each in queue)


def test_everything_of_a_message_moves(tmp_path: Path, peer: tuple[str, Path]) -> None:
    before = fill(tmp_path / "ours")
    view = QueueView(tmp_path / "ours")
    dead = "127.0.0.1:1"  # nobody listens there
    said: list[str] = []
    assert transfer.hand_over([view], [dead, peer[0]], KEY, 20, said.append) == (2, 0)
    assert said[0].startswith(dead) and view.queue({}) == [] and transfer.ids(view) == []
    assert not list((tmp_path / "ours" / "bodies").iterdir())
    after = QueueView(peer[1]).queue({})
    now = time.time()
    assert all(now - 60 < each["next_try"] for each in after)  # what was due is due now
    assert state(after, now) == state(before, now)
    other = QueueView(peer[1])
    (parcels,) = transfer.batches(other, transfer.ids(other), print)
    assert [parcel.body for parcel in parcels] == BODIES
    record = parcels[0].record
    assert (record["client_ip"], record["helo"], record["smtputf8"]) == ("192.0.2.1", "helo", 1)
    assert record["recipients"][0]["notify"] == "FAILURE" and record["recipients"][0]["attempts"] == 1


def test_what_nobody_takes_stays(tmp_path: Path, peer: tuple[str, Path]) -> None:
    before = fill(tmp_path / "ours")
    view = QueueView(tmp_path / "ours")
    assert transfer.hand_over([view], [peer[0]], "another key", 20, print) == (0, 2)
    assert transfer.hand_over([view], [], KEY, 20, print) == (0, 2)
    assert transfer.hand_over([view], [peer[0]], KEY, 0, print) == (0, 2)
    assert view.queue({}) == before and transfer.ids(QueueView(peer[1])) == []


def test_one_that_is_there_already_is_not_taken_twice(tmp_path: Path, peer: tuple[str, Path]) -> None:
    fill(tmp_path / "ours")
    view, other = QueueView(tmp_path / "ours"), QueueView(peer[1])
    (parcels,) = transfer.batches(view, transfer.ids(view), print)
    assert transfer.take(other, parcels[:1]) == {}
    assert transfer.hand_over([view], [peer[0]], KEY, 20, print) == (2, 0)
    assert len(transfer.ids(other)) == 2 and len(other.queue({})) == 4


def test_nonsense_is_refused(tmp_path: Path, peer: tuple[str, Path]) -> None:
    view = QueueView(peer[1])
    for body in (b"", b"{}\nx", b"[]\nx", b'{"id": 1}\n'):
        answer = transfer.adopt(Request({}, body, f"Bearer {KEY}"), KEY, view)
        assert answer.status == 400
    fill(tmp_path / "ours")
    ours = QueueView(tmp_path / "ours")
    (parcels,) = transfer.batches(ours, transfer.ids(ours), print)
    nameless = json.dumps({**parcels[0].record, "sender": None}).encode() + b"\n" + parcels[0].body
    assert transfer.adopt(Request({}, nameless, f"Bearer {KEY}"), KEY, view).status == 400
    assert transfer.adopt(Request({}, b"", "Bearer "), None, view).status == 403
    assert transfer.ids(view) == []


def many(folder: Path, count: int, size: int) -> None:
    async def run() -> None:
        spool = Spool.open(folder)
        to = [
            Envelope("x@b.test", (Recipient(Address(f"u{n}@far.test")),), time.time()) for n in range(count)
        ]
        await asyncio.gather(*(spool.accept(each, b"x" * size) for each in to))
        spool.close()

    asyncio.run(run())


def test_a_long_queue_moves_in_batches(tmp_path: Path, peer: tuple[str, Path]) -> None:
    many(tmp_path / "ours", 3000, 2000)
    began = time.monotonic()
    assert transfer.hand_over([QueueView(tmp_path / "ours")], [peer[0]], KEY, 30, print) == (3000, 0)
    assert time.monotonic() - began < 6  # a second on an idle machine
    assert QueueView(peer[1]).depth()[0] == 3000


def test_one_that_a_peer_refuses_goes_to_the_next_and_holds_up_no_other(
    tmp_path: Path, peer: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    many(tmp_path / "ours", 20, 2000)
    many(tmp_path / "large", 1, 100_000)
    views = [QueueView(tmp_path / "large"), QueueView(tmp_path / "ours")]
    monkeypatch.setattr(transfer, "free_bytes", lambda *_: 90_000)
    said: list[str] = []
    assert transfer.hand_over(views, [peer[0]], KEY, 20, said.append) == (20, 1)
    assert any("no space is left" in line for line in said)


def test_a_peer_that_answers_too_late_is_asked_again_and_nobody_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_ANSWER_SECONDS", 0.5)
    spools = [Spool.open(tmp_path / name) for name in ("slow", "other")]

    def route(request: Request) -> Response:
        answer = transfer.adopt(request, KEY, QueueView(tmp_path / "slow"))
        time.sleep(0.8)
        return answer

    servers = [
        AdminServer("127.0.0.1", 0, {f"POST {transfer.PATH}": route}),
        AdminServer(
            "127.0.0.1",
            0,
            {f"POST {transfer.PATH}": lambda r: transfer.adopt(r, KEY, QueueView(tmp_path / "other"))},
        ),
    ]
    for server in servers:
        server.start()
    fill(tmp_path / "ours")
    peers = [f"127.0.0.1:{server.port}" for server in servers]
    assert transfer.hand_over([QueueView(tmp_path / "ours")], peers, KEY, 20, print) == (2, 0)
    assert len(transfer.ids(QueueView(tmp_path / "slow"))) == 2
    assert transfer.ids(QueueView(tmp_path / "other")) == []
    for server in servers:
        server.stop()
    for spool in spools:
        spool.close()


def test_a_record_of_an_older_version_is_taken(peer: tuple[str, Path]) -> None:
    record = {"id": "old", "sender": "", "received_at": 1.0, "client_ip": "", "helo": "", "protocol": "ESMTP"}
    record |= {"account": None, "smtputf8": 0, "body_8bit": 0, "size": 1, "no_more": 1}
    record["recipients"] = [{"address": "x@far.test", "next_try": 1.0}]
    transfer.give(peer[0], KEY, record, b"x")
    assert transfer.ids(QueueView(peer[1])) == ["old"]
    transfer.forget(QueueView(peer[1]), ["old"])
    transfer.give(peer[0], KEY, record, b"x")  # it was delivered meanwhile
    assert transfer.ids(QueueView(peer[1])) == []
