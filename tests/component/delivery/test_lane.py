"""A lane to a store, against aiosmtpd's LMTP server: one message at a time for each mailbox."""

import asyncio
from collections import Counter
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.lmtp import LMTP

from mailpods.delivery.client import Connection, Reply, Target
from mailpods.delivery.lane import Job, Lane


class Store:
    """Takes its time for each message, and notes who came together."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.together = 0
        self.order: list[str] = []

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


async def _run(jobs: list[tuple[list[str], str]]) -> tuple[Store, list[list[Reply]]]:
    store = Store()
    server = await asyncio.get_running_loop().create_server(lambda: LMTP(store), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    lane = Lane("shard-0", lambda: Target("127.0.0.1", port, "a.test", lmtp=True), print, exclusive=True)
    replies: list[list[Reply]] = []
    finished = asyncio.Event()

    def done(reply: list[Reply]) -> None:
        replies.append(reply)
        if len(replies) == len(jobs):
            finished.set()

    for recipients, text in jobs:
        lane.put(Job("x@b.test", recipients, partial(f"{text}\r\n".encode, "ascii"), done))
    async with asyncio.timeout(20):
        await finished.wait()
    await lane.close()
    server.close()
    return store, replies


def test_a_mailbox_gets_one_at_a_time_in_their_order() -> None:
    store, replies = asyncio.run(_run([(["7/info"], str(n)) for n in range(50)]))
    assert store.most == {"7/info": 1}
    assert store.order == [str(n) for n in range(50)]
    assert all(reply.ok for job in replies for reply in job)


def test_mailboxes_do_not_wait_for_each_other() -> None:
    store, _ = asyncio.run(_run([([f"7/{n}"], str(n)) for n in range(50)]))
    assert store.together >= 5


def test_messages_to_several_mailboxes_end() -> None:
    both = [(["7/a", "7/b"], "ab"), (["7/b", "7/c"], "bc"), (["7/c", "7/a"], "ca"), (["7/b"], "b")] * 10
    store, replies = asyncio.run(_run(both))
    assert set(store.most.values()) == {1}
    assert sum(map(len, replies)) == 70


def test_a_fault_of_ours_puts_a_message_off_and_the_next_one_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver = Connection.deliver

    async def faulty(self: Connection, sender: str, recipients: Any, body: bytes, options: str = "") -> Any:
        if b"bad" in body:
            raise RuntimeError("no buffer")
        return await deliver(self, sender, recipients, body, options)

    monkeypatch.setattr(Connection, "deliver", faulty)
    _, replies = asyncio.run(_run([(["7/info"], "bad"), (["7/info"], "good")]))
    assert [reply.code for (reply,) in replies] == [441, 250]
    assert "no buffer" in capsys.readouterr().out
