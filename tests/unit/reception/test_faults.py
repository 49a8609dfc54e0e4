"""A fault of our own is told to the client whom it concerns, is logged and counted, and ends nobody else."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mailpods.reception import metrics, receive
from mailpods.reception.state import ReceptionState
from mailpods.rules import chains
from tests.support.dialogues import Player, reception


def faulty(*arguments: Any) -> Any:
    raise ZeroDivisionError("not foreseen")


async def faulty_later(*arguments: Any) -> Any:
    faulty()


async def transaction(player: Player) -> None:
    await player.say(b"MAIL FROM:<x@example.net>", "250")
    await player.say(b"RCPT TO:<info@a.test>", "250")


PLACES: dict[str, Callable[[pytest.MonkeyPatch, ReceptionState], None]] = {
    "a rule": lambda patch, state: patch.setattr(chains, "MAIL", (faulty,)),
    "routing": lambda patch, state: patch.setattr(state.router, "route", faulty),
    "a step": lambda patch, state: patch.setattr(receive, "STEPS", (faulty_later,)),
    "the spool": lambda patch, state: patch.setattr(state.spool, "accept", faulty_later),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_client_is_told_and_the_session_goes_on(
    place: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        state = reception()
        player, other = Player(state), Player(state)
        await player.connect()
        await other.connect()
        await player.say(b"EHLO c.test", "250")
        await other.say(b"EHLO c.test", "250")
        before = metrics.FAULTS._value.get()
        with monkeypatch.context() as patch:
            PLACES[place](patch, state)
            for line in (b"MAIL FROM:<x@example.net>", b"RCPT TO:<info@a.test>", b"DATA", b"text\r\n."):
                player.send(line + b"\r\n")
            reply = ""
            while not reply.startswith("451 4.3.0"):
                reply = await player.line()
        id = reply.partition("(id ")[2].rstrip(")")
        assert id and f"fault id={id}" in capfd.readouterr().err
        assert metrics.FAULTS._value.get() == before + 1
        for each in (player, other):  # both go on, and the transaction of neither is left half
            await each.say(b"RSET", "503|250")
            while b"\n" in each.transport.written:
                await each.line()
            await transaction(each)

    asyncio.run(run())


def test_a_fault_within_message_text_closes_with_421() -> None:
    async def run() -> None:
        player = Player(reception())
        await player.connect()
        await player.say(b"EHLO c.test", "250")
        await transaction(player)
        await player.say(b"DATA", "354")
        player.session._incoming.content.add = faulty  # type: ignore[union-attr, method-assign]
        player.send(b"text\r\n")
        await player.expect("421 4.3.0")
        assert player.transport.closed

    asyncio.run(run())


def test_who_is_looked_after_by_the_clock_fails_alone() -> None:
    async def run() -> None:
        state = reception()
        player, other = Player(state), Player(state)
        await player.connect()
        await other.connect()
        player.session.look_at_the_clock = faulty  # type: ignore[method-assign, assignment]
        watch = asyncio.create_task(state.sessions.watch())
        other.session.active -= 1000
        async with asyncio.timeout(10):
            while not other.transport.closed:
                await asyncio.sleep(0.01)
        assert other.transport.written.startswith(b"421 4.4.2")
        watch.cancel()

    asyncio.run(run())
