"""A lane to a store, against aiosmtpd's LMTP server: one message at a time for each mailbox."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.lmtp import LMTP

from mailpods.delivery.client.connection import Connection, Following, Mail, Target
from mailpods.delivery.client.replies import Reply
from mailpods.delivery.queues import shaping
from mailpods.delivery.queues.ready_queue import ReadyQueue
from mailpods.delivery.queues.transaction import Transaction
from mailpods.directory.records import Shape
from tests.support.destinations import NETWORK, Elsewhere, Here
from tests.support.peer import HANG_UP, Peer, peer


class Store:
    """Takes its time for each message, and notes who came together."""

    def __init__(self, pipelining: bool) -> None:
        self._pipelining = pipelining
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.together = 0
        self.order: list[str] = []

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        """LHLO's extensions; aiosmtpd does not announce all that it can do."""
        session.host_name = hostname
        *rest, last = responses
        return [*rest, *(["250-PIPELINING"] if self._pipelining else []), last]

    async def handle_DATA(self, server: Any, session: Any, envelope: SimpleNamespace) -> str:
        """One reply for each recipient (RFC 2033)."""
        self.now.update(envelope.rcpt_tos)
        self.together = max(self.together, self.now.total())
        for recipient in envelope.rcpt_tos:
            self.most[recipient] = max(self.most[recipient], self.now[recipient])
        await asyncio.sleep(0.01)
        self.now.subtract(envelope.rcpt_tos)
        self.order.append(envelope.content.decode().strip())
        return "\r\n".join("250 2.1.5 stored" for _ in envelope.rcpt_tos)


def _store(port: int) -> Here:
    """As to a shard."""

    def connect() -> Awaitable[Connection]:
        return Connection.open(Target("127.0.0.1", port, "a.test", lmtp=True))

    return Here(connect)


async def _run(jobs: list[tuple[list[str], str]], pipelining: bool = True) -> tuple[Store, list[list[Reply]]]:
    store = Store(pipelining)
    server = await asyncio.get_running_loop().create_server(lambda: LMTP(store), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    lane = ReadyQueue(_store(port), NETWORK, print)
    replies: list[list[Reply]] = []
    finished = asyncio.Event()

    def done(reply: list[Reply] | None) -> None:
        assert reply is not None
        replies.append(reply)
        if len(replies) == len(jobs):
            finished.set()

    for recipients, text in jobs:
        lane.put(Transaction("x@b.test", recipients, partial(f"{text}\r\n".encode, "ascii"), done))
    async with asyncio.timeout(20):
        await finished.wait()
    await lane.close()
    server.close()
    return store, replies


pipelining = pytest.mark.parametrize("pipelining", [True, False])


@pipelining
def test_a_mailbox_gets_one_at_a_time_in_their_order(pipelining: bool) -> None:
    store, replies = asyncio.run(_run([(["7/info"], str(n)) for n in range(50)], pipelining))
    assert store.most == {"7/info": 1}
    assert store.order == [str(n) for n in range(50)]
    assert all(reply.ok for job in replies for reply in job)


def test_mailboxes_do_not_wait_for_each_other() -> None:
    store, _ = asyncio.run(_run([([f"7/{n}"], str(n)) for n in range(50)]))
    assert store.together >= 5


@pipelining
def test_messages_to_several_mailboxes_end(pipelining: bool) -> None:
    both = [(["7/a", "7/b"], "ab"), (["7/b", "7/c"], "bc"), (["7/c", "7/a"], "ca"), (["7/b"], "b")] * 10
    store, replies = asyncio.run(_run(both, pipelining))
    assert set(store.most.values()) == {1}
    assert sum(map(len, replies)) == 70


def test_a_fault_of_ours_puts_a_message_off_and_the_next_one_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver = Connection.deliver

    async def faulty(self: Connection, mail: Mail, following: Following) -> list[Reply]:
        if b"bad" in mail.body:
            raise RuntimeError("no buffer")
        return await deliver(self, mail, following)

    monkeypatch.setattr(Connection, "deliver", faulty)
    _, replies = asyncio.run(_run([(["7/info"], "bad"), (["7/info"], "good")]))
    assert [reply.code for (reply,) in replies] == [441, 250]
    assert "no buffer" in capsys.readouterr().out


def test_messages_for_a_mailbox_follow_each_other_on_one_connection_while_others_have_their_own() -> None:
    opened = 0
    original = Connection.open

    async def counted(target: Target) -> Connection:
        nonlocal opened
        opened += 1
        return await original(target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "open", counted)
        store, _ = asyncio.run(_run([(["7/info"], str(n)) for n in range(50)]))
    assert opened == 1 and store.together == 1


def test_what_was_to_follow_on_a_connection_that_breaks_is_delivered_all_the_same() -> None:
    class Breaking(LMTP):
        async def smtp_DATA(self, arg: str) -> None:
            await super().smtp_DATA(arg)
            if len(self.event_handler.order) in (3, 10):
                self.event_handler.order.append("break")
                self._writer.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{__name__}.LMTP", Breaking)
        store, replies = asyncio.run(_run([(["7/info"], str(n)) for n in range(20)]))
    delivered = [text for text in store.order if text != "break"]
    assert sorted(set(map(int, delivered))) == list(range(20))
    assert len(delivered) <= 22  # one of each broken connection may come twice
    assert delivered == sorted(delivered, key=int)
    assert store.most == {"7/info": 1} and all(reply.ok for (reply,) in replies)


@pytest.mark.parametrize(("fault", "code"), [(KeyError("gone"), 250), (OSError("unreadable"), 441)])
def test_what_cannot_be_read_or_was_deleted_holds_nobody_up(fault: Exception, code: int) -> None:
    def missing() -> bytes:
        raise fault

    async def run() -> list[list[Reply]]:
        store = Store(True)
        server = await asyncio.get_running_loop().create_server(lambda: LMTP(store), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        lane = ReadyQueue(_store(port), NETWORK, print)
        replies: list[list[Reply]] = []
        async with asyncio.timeout(20):
            for n in range(9):
                body = missing if n % 3 == 1 else lambda: b"x\r\n"
                lane.put(Transaction("x@b.test", ["7/info"], body, lambda said: replies.append(said or [])))
            while len(replies) < 9:
                await asyncio.sleep(0.01)
        await lane.close()
        server.close()
        return replies

    assert sorted(reply.code for (reply,) in asyncio.run(run())) == sorted([250] * 6 + [code] * 3)


async def _shaped(messages: int, per_minute: int, count: int) -> tuple[Peer, float]:
    """Deliver so many messages to a peer that gets so many at most; how long that took."""
    async with peer() as there:

        def connect() -> Awaitable[Connection]:
            return Connection.open(Target("127.0.0.1", there.port, "a.test"))

        lane = ReadyQueue(Elsewhere(connect), NETWORK, print, shape=Shape("mx", "*", 1, messages, per_minute))
        done: list[list[Reply]] = []
        began = time.monotonic()
        for n in range(count):
            lane.put(
                Transaction(
                    "x@a.test", [f"y{n}@b.test"], lambda: b"hello\r\n", lambda said: done.append(said or [])
                )
            )
        async with asyncio.timeout(30):
            while len(done) < count:
                await asyncio.sleep(0.01)
        seconds = time.monotonic() - began
        await lane.close()
        assert all(reply.ok for replies in done for reply in replies)
        return there, seconds


def test_a_connection_carries_as_many_messages_as_its_server_takes() -> None:
    there, _ = asyncio.run(_shaped(messages=3, per_minute=0, count=10))
    assert len(there.taken) == 10 and there.commands["CONNECT"] == 4


def test_a_minute_holds_as_many_messages_as_its_server_takes() -> None:
    there, seconds = asyncio.run(_shaped(messages=0, per_minute=300, count=6))
    assert len(there.taken) == 6 and 0.9 < seconds < 5  # one every 0.2 s


def test_large_providers_have_rules_and_policies_come_before_them() -> None:
    shipped = shaping.of(["mta7.am0.yahoodns.net"], ())
    assert shipped is not None and shipped.messages == 20
    own = Shape("ours", "*.yahoodns.net", connections=1)
    assert shaping.of(["mta7.am0.yahoodns.net"], [own]) == own
    assert shaping.of(["mx.a.test"], [own]) is None


def test_a_server_whose_connections_fail_gets_fewer() -> None:
    """It has proved to take several at a time, and then hangs up."""

    async def run() -> tuple[int, int]:
        async with peer() as there:

            def connect() -> Awaitable[Connection]:
                return Connection.open(Target("127.0.0.1", there.port, "a.test"))

            queue, done = ReadyQueue(Elsewhere(connect), NETWORK, print), list[object]()

            async def deliver(count: int) -> None:
                done.clear()
                for n in range(count):
                    queue.put(Transaction("x@a.test", [f"y{n}@b.test"], lambda: b"x\r\n", done.append))
                async with asyncio.timeout(30):
                    while len(done) < count:
                        await asyncio.sleep(0.01)

            await deliver(200)
            grown = queue._limit
            await asyncio.sleep(0)
            there.says["MAIL"], there.times = HANG_UP, 40
            await deliver(20)
            shrunk = queue._limit
            await queue.close()
            return grown, shrunk

    grown, shrunk = asyncio.run(run())
    assert grown > 4 and shrunk <= grown // 2
