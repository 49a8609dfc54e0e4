"""Whoever keeps most has to give way; nothing that strangers send makes a login's mail wait."""

import asyncio
import time
from dataclasses import dataclass

from mailpods.reception.budgets import Budget, Budgets, network_of
from mailpods.reception.timeouts import Timeouts
from tests.support.dialogues import Player, StoringSpool, reception


@dataclass(eq=False)
class Message:
    network: str
    gone: bool = False

    def give_up(self) -> None:
        self.gone = True


def test_the_largest_of_the_network_that_keeps_most_gives_way() -> None:
    budget = Budget(1000)
    small, large, other = Message("a"), Message("a"), Message("b")
    budget.note(small, 60)
    budget.note(large, 200)  # beyond a quarter for its network, but there is room
    budget.note(other, 240)
    assert not (small.gone or large.gone or other.gone)
    budget.note(small, 61)
    assert large.gone and not small.gone and budget.held == 301
    budget.release(other)
    assert budget.held == 61


def test_one_message_alone_is_never_too_much() -> None:
    budget, only = Budget(1000), Message("a")
    budget.note(only, 5000)
    assert not only.gone
    budget.note(newcomer := Message("b"), 10)
    assert only.gone and not newcomer.gone


def test_networks() -> None:
    assert network_of("192.0.2.7") == network_of("192.0.2.8") != network_of("192.0.3.7")
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff") != network_of("2001:db8:0:1::1")


async def _stranger(player: Player, octets: int) -> None:
    await player.connect()
    await player.say(b"EHLO c.test", "250")
    await player.say(b"MAIL FROM:<x@example.net>", "250")
    await player.say(b"RCPT TO:<info@a.test>", "250")
    await player.say(b"DATA", "354")
    player.send((b"x" * 98 + b"\r\n") * (octets // 100))


async def _mails(player: Player) -> None:
    await player.play("on submission\nlogin")
    await player.say(b"MAIL FROM:<info@a.test>", "250")
    await player.say(b"RCPT TO:<anna@a.test>", "250")
    await player.say(b"DATA", "354")
    player.send(b"From: info@a.test\r\nSubject: prompt\r\n\r\n")
    player.send((b"y" * 98 + b"\r\n") * 3000)  # more than any stranger's
    await player.say(b".", "250")


def test_two_hundred_strangers_with_slow_bodies_do_not_make_a_login_wait() -> None:
    async def run() -> None:
        spool = StoringSpool()
        state = reception(spool)
        state.budgets = Budgets(1 << 20)
        strangers = [Player(state, f"10.0.{n}.1") for n in range(200)]
        for stranger in strangers:
            await _stranger(stranger, 50_000)
        assert state.budgets.strangers.held <= 1 << 20
        began = time.monotonic()
        await _mails(Player(state))
        assert time.monotonic() - began < 1
        small = Player(state, "192.0.2.77")  # nor another stranger, with a small message
        await _stranger(small, 500)
        await small.say(b".", "250")
        assert len(spool.stored) == 2
        assert state.budgets.senders.held == 0

    asyncio.run(run())


def test_what_will_be_refused_anyway_counts_for_nothing() -> None:
    async def run() -> None:
        state = reception()
        player = Player(state)
        await _stranger(player, 50_000)
        assert state.budgets.strangers.held == 50_000 - 2  # the last CRLF may begin the end
        player.send(b"a\nb")
        assert state.budgets.strangers.held == 0
        player.send(b"x" * 100_000)
        assert state.budgets.strangers.held == 0
        player.session.connection_lost(None)
        assert state.budgets.strangers.held == 0 and not state.budgets.strangers._holders

    asyncio.run(run())


def test_a_slow_body_has_a_floor() -> None:
    async def run() -> None:
        state = reception(timeouts=Timeouts(rate=100, rate_window=10))
        slow, steady = Player(state, "10.0.0.1"), Player(state, "10.0.1.1")
        await _stranger(slow, 1000)
        await _stranger(steady, 1000)
        now = state.loop.time()
        for second in range(1, 12):
            slow.send(b"x")
            steady.send(b"x" * 98 + b"\r\n")
            for each in (slow, steady):
                each.session.look_at_the_clock(now + second)
        for second in range(12, 24):
            slow.send(b"x")
            steady.send(b"x" * 98 + b"\r\n" + b"y" * 20)
            for each in (slow, steady):
                if not each.transport.closed:
                    each.session.look_at_the_clock(now + second)
        assert slow.transport.closed and not steady.transport.closed
        assert b"421 4.4.2 Timeout: your message comes too slowly" in slow.transport.written

    asyncio.run(run())
