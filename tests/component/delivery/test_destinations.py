"""The way to a domain: past servers that fail, in clear where TLS fails, and a pause once all are down."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mailpods.delivery.client.connection import Connection, Mail
from mailpods.delivery.client.replies import Disconnected, Reply
from mailpods.delivery.destinations import attempt, mx
from mailpods.delivery.destinations.base import Network
from mailpods.delivery.destinations.mx import Domain, Site
from mailpods.delivery.queues import reachability, ready_queue
from mailpods.delivery.queues.ready_queue import ReadyQueue
from mailpods.delivery.queues.transaction import Transaction
from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import DomainName, Server
from mailpods.dns.records import MailHost
from mailpods.dns.resolver import NoAnswer, Resolver, Undeliverable
from tests.support.destinations import NETWORK, Elsewhere

READER = cast(DirectoryReader, SimpleNamespace(server=Server("mail.a.test")))
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Zone:
    """Names and addresses; what is asked of DNS in other tests."""

    def __init__(self, **addresses: list[str]) -> None:
        self._addresses = addresses

    async def mail_hosts(self, domain: str, own: str) -> list[MailHost]:
        return [MailHost(n, name) for n, name in enumerate(self._addresses)]

    async def is_signed(self, domain: str) -> bool:
        return False

    async def addresses(self, name: str) -> list[str]:
        return self._addresses[name]


def way(**addresses: list[str]) -> Callable[[], Awaitable[Connection]]:
    """To a domain whose hosts have these addresses."""
    network = Network(READER, lambda: cast(Resolver, Zone(**addresses)))
    return lambda: Domain(DomainName("b.test")).connect(network)


def server(*lines: bytes) -> Talk:
    """Says the first line, and one more for each line that it reads."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(lines[0])
        for line in lines[1:]:
            if not await reader.readline():
                break
            writer.write(line)
        await reader.read()

    return talk


def with_servers(
    monkeypatch: pytest.MonkeyPatch, talks: dict[str, Talk], use: Callable[[], Awaitable[Any]]
) -> Any:
    """Run `use` while a server listens at each address, all on one port."""

    async def run() -> Any:
        port, running = 0, []
        for address, talk in talks.items():

            async def serve(r: asyncio.StreamReader, w: asyncio.StreamWriter, talk: Talk = talk) -> None:
                try:
                    await talk(r, w)
                finally:
                    w.close()

            running.append(await asyncio.start_server(serve, address, port))
            port = running[0].sockets[0].getsockname()[1]
        monkeypatch.setattr(attempt, "SMTP_PORT", port)
        try:
            async with asyncio.timeout(20):
                return await use()
        finally:
            for each in running:
                each.close()

    return asyncio.run(run())


GOOD = server(b"220 hi\r\n", b"250-b.test\r\n250 PIPELINING\r\n")


async def opened(to: Callable[[], Awaitable[Connection]]) -> dict[str, str]:
    """The extensions of the server that was reached."""
    connection = await to()
    connection.abort()
    return connection.extensions


def test_a_server_that_sends_us_away_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    talks = {"127.0.9.1": server(b"554 5.3.2 no service\r\n"), "127.0.9.2": GOOD}
    to = way(first=["127.0.9.1"], dead=["127.0.9.9"], none=[], second=["127.0.9.2"])
    assert "PIPELINING" in with_servers(monkeypatch, talks, lambda: opened(to))


def test_where_none_answers_the_last_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Disconnected, match=r"127\.0\.9\.9"):
        with_servers(monkeypatch, {"127.0.9.1": GOOD}, lambda: opened(way(dead=["127.0.9.9"])))
    with pytest.raises(Undeliverable, match=r"550 5\.4\.4 no mail server has an address: none"):
        with_servers(monkeypatch, {"127.0.9.1": GOOD}, lambda: opened(way(none=[])))


def test_a_domain_with_many_addresses_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def refused(target: Any, seconds: float) -> Connection:
        tried.append(target.host)
        raise Disconnected("down")

    monkeypatch.setattr(Connection, "open", refused)
    hosts = {f"h{n}": [f"127.0.8.{n}{m}" for m in range(4)] for n in range(1, 9)}
    with pytest.raises(Disconnected):
        asyncio.run(opened(way(**hosts)))
    assert len(tried) == mx.MAX_ATTEMPTS


def test_where_tls_fails_mail_goes_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        offers = server(b"220 hi\r\n", b"250-b.test\r\n250 STARTTLS\r\n", b"220 go\r\n", b"no TLS\r\n")
        await offers(reader, writer)

    extensions = with_servers(monkeypatch, {"127.0.9.1": talk}, lambda: opened(way(mx=["127.0.9.1"])))
    assert (count, extensions) == (2, {"STARTTLS": ""})


def test_a_server_that_does_not_know_ehlo_is_greeted_with_helo(monkeypatch: pytest.MonkeyPatch) -> None:
    old = server(b"220 hi\r\n", b"502 5.5.1 what?\r\n", b"250 b.test\r\n")
    assert with_servers(monkeypatch, {"127.0.9.1": old}, lambda: opened(way(mx=["127.0.9.1"]))) == {}


@pytest.mark.parametrize(
    ("mail", "why"),
    [
        (Mail("x@a.test", ["y@b.test"], b"x" * 101), "552 5.3.4"),
        (Mail("é@a.test", ["y@b.test"], b"x", utf8=True), "553 5.6.7"),
    ],
)
def test_what_a_server_can_never_take_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, mail: Mail, why: str
) -> None:
    small = server(b"220 hi\r\n", b"250-b.test\r\n250 SIZE 100\r\n")

    async def use() -> list[Reply]:
        connection = await way(mx=["127.0.9.1"])()
        try:
            return await connection.deliver(mail)
        finally:
            connection.abort()

    (reply,) = with_servers(monkeypatch, {"127.0.9.1": small}, use)
    assert str(reply).startswith(why) and reply.permanent


def put(lane: ReadyQueue) -> "asyncio.Future[list[Reply]]":
    """A message for the lane; what it says."""
    said: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
    lane.put(
        Transaction(
            "x@a.test", ["y@b.test"], lambda: b"x\r\n", lambda replies: said.set_result(replies or [])
        )
    )
    return said


def test_a_destination_that_is_down_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(ready_queue, "IDLE_ABROAD_SECONDS", 0.1)
    attempts = 0

    async def connect() -> Connection:
        nonlocal attempts
        attempts += 1
        raise Disconnected("nobody there")

    async def run() -> None:
        lane = ReadyQueue(Elsewhere(connect), NETWORK, print)
        (first,) = await put(lane)
        assert not first.permanent and "nobody there" in first.text
        assert attempts == 1
        for said in await asyncio.gather(*(put(lane) for _ in range(100))):
            assert said[0].code == ready_queue.UNREACHABLE
        assert attempts == 1 and not lane.is_idle
        await asyncio.sleep(0.25)
        assert lane.is_idle
        await put(lane)
        assert attempts == 2
        await asyncio.sleep(0.25)
        assert not lane.is_idle  # the second pause is longer

    asyncio.run(run())


def test_a_domain_that_takes_no_mail_is_said_so_for_good() -> None:
    async def connect() -> Connection:
        raise Undeliverable(556, "5.1.10 b.test takes no mail")

    async def run() -> list[Reply]:
        return await put(ReadyQueue(Elsewhere(connect), NETWORK, print))

    assert asyncio.run(run()) == [Reply(556, "5.1.10 b.test takes no mail")]


@pytest.mark.parametrize("answer", [b"454 4.7.0 TLS not available\r\n", b"502 what?\r\n", b""])
def test_where_starttls_is_refused_or_dropped_mail_goes_in_clear(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    count = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        writer.write(b"220 hi\r\n")
        await reader.readline()
        writer.write(b"250-b.test\r\n250 STARTTLS\r\n")
        if await reader.readline() and answer:
            writer.write(answer)
            await reader.read()

    extensions = with_servers(monkeypatch, {"127.0.9.1": talk}, lambda: opened(way(mx=["127.0.9.1"])))
    assert (count, extensions) == (2, {"STARTTLS": ""})  # on a connection of its own


def test_a_server_of_which_dns_says_nothing_now_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Zone):
        async def addresses(self, name: str) -> list[str]:
            if name == "first":
                raise NoAnswer("DNS gives no answer for first A: SERVFAIL")
            return await super().addresses(name)

    def to(**addresses: list[str]) -> Callable[[], Awaitable[Connection]]:
        network = Network(READER, lambda: cast(Resolver, Silent(**addresses)))
        return lambda: Domain(DomainName("b.test")).connect(network)

    talks = {"127.0.9.2": GOOD}
    assert with_servers(monkeypatch, talks, lambda: opened(to(first=[], second=["127.0.9.2"])))
    with pytest.raises(Disconnected, match="SERVFAIL"):  # it may have one: that is no fault for good
        with_servers(monkeypatch, talks, lambda: opened(to(first=[], none=[])))


def test_a_server_that_sends_us_away_at_mail_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best one greets, and then takes nothing; the next one does."""

    def talking(mail: bytes) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 hi\r\n")
            while line := await reader.readline():
                if line.startswith(b"DATA"):
                    writer.write(b"354 go\r\n")
                    await reader.readuntil(b".\r\n")
                writer.write(mail if line.startswith(b"MAIL") else b"250 ok\r\n")
                if line.startswith(b"MAIL") and mail[:1] == b"4":
                    return

        return talk

    hosts = Site((MailHost(1, "first"), MailHost(2, "second")))
    zone = Zone(first=["127.0.9.1"], second=["127.0.9.2"])
    network = Network(READER, lambda: cast(Resolver, zone))

    async def use() -> list[Reply]:
        queue = ReadyQueue(hosts, network, print)
        try:
            return await put(queue)
        finally:
            await queue.close()

    talks = {"127.0.9.1": talking(b"421 4.3.2 go away\r\n"), "127.0.9.2": talking(b"250 ok\r\n")}
    (reply,) = with_servers(monkeypatch, talks, use)
    assert reply.ok
