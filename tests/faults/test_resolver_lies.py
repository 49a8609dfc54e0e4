"""A DNS server lies, is silent, or names hundreds of servers: mail waits, and goes where it should."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import dns.message
import pytest
from aiosmtpd.controller import Controller

from mailpods.delivery.outcomes import retry
from mailpods.delivery.queues import reachability
from mailpods.dns import resolver
from tests.support.deliveries import Harness, harness, until
from tests.support.dnsserver import LIES, Answer, Server, serving, zone
from tests.support.peer import Peer, peer
from tests.support.world import SMTP_PORT, Sink

GOOD, DEAD = "127.0.9.51", "127.0.9.52"
TRUE = zone("far.test. 300 IN MX 10 mx.far.test.", f"mx.far.test. 300 IN A {GOOD}")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for minutes here."""
    monkeypatch.setattr(resolver, "LIFETIME_SECONDS", 0.3)
    monkeypatch.setattr(retry, "FIRST_RETRY", 0.3)
    monkeypatch.setattr(reachability, "FIRST_PAUSE", 0.2)


@contextmanager
def server_of_far() -> Iterator[Sink]:
    sink = Sink(GOOD)
    controller = Controller(sink, hostname=GOOD, port=SMTP_PORT)
    controller.start()
    try:
        yield sink
    finally:
        controller.stop()


@asynccontextmanager
async def world(tmp_path: Path, answer: Answer) -> AsyncIterator[tuple[Harness, Server, Peer]]:
    async with (
        serving(answer) as server,
        peer() as store,
        harness(tmp_path, {}, store, resolvers=(server.resolver,)) as made,
    ):
        made.start()
        yield made, server, store


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_mail_waits_until_there_is_an_answer(tmp_path: Path, lie: Answer) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lie) as (made, server, store):
            await made.take("x@far.test")
            await until(lambda: "DNS gives no answer" in str(made.queue))
            assert server.asked["MX"] >= 1 and store.taken == []
            server.answer = TRUE
            await until(lambda: sink.to("x@far.test") and not made.queue)
            assert len(sink.taken) == 1 and store.taken == []  # and no notice

    with server_of_far() as sink:
        asyncio.run(scenario())


def test_one_lie_among_answers_holds_up_no_other_domain(tmp_path: Path) -> None:
    def answer(question: dns.message.Message) -> bytes | None:
        return None if "dark.test" in question.question[0].to_text() else TRUE(question)

    async def scenario() -> None:
        async with world(tmp_path, answer) as (made, _, _):
            for n in range(20):
                await made.take(f"x{n}@dark.test")
            await made.take("x@far.test")
            await until(lambda: sink.to("x@far.test"), 5)
            await until(lambda: len(made.queue) == 20)

    with server_of_far() as sink:
        asyncio.run(scenario())


@pytest.mark.parametrize("place", [0, 3])
def test_of_two_hundred_servers_some_are_tried_and_the_good_one_is_found(tmp_path: Path, place: int) -> None:
    records = [f"far.test. 300 IN MX {n} m{n}.far.test." for n in range(200)]
    records += [f"m{n}.far.test. 300 IN A {GOOD if n == place else DEAD}" for n in range(200)]

    async def scenario() -> None:
        async with world(tmp_path, zone(*records)) as (made, server, _):
            await made.take("x@far.test")
            await until(lambda: sink.to("x@far.test") and not made.queue)
            assert server.asked["A"] <= resolver.MAX_HOSTS

    with server_of_far() as sink:
        asyncio.run(scenario())


def test_two_hundred_dead_servers_are_given_up_for_now(tmp_path: Path) -> None:
    records = [f"far.test. 300 IN MX {n} m{n}.far.test." for n in range(200)]
    records += [f"m{n}.far.test. 300 IN A {DEAD}" for n in range(200)]

    async def scenario() -> None:
        async with world(tmp_path, zone(*records)) as (made, server, store):
            await made.take("x@far.test")
            await until(lambda: "4.4.1" in str(made.queue))
            assert server.asked["A"] <= resolver.MAX_HOSTS and store.taken == []
            assert len(made.queue) == 1

    asyncio.run(scenario())
