"""Servers that say more or less than they are asked: no reply stands for another command's."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mailpods.delivery.client import connection, pipeline
from mailpods.delivery.client.connection import Connection, Mail, Target
from mailpods.delivery.client.replies import Disconnected, OutOfStep, Reply

CHUNKING = ("PIPELINING", "CHUNKING")
EXTENSIONS = [CHUNKING, ("PIPELINING",), ()]
VERBS = ["MAIL", "RCPT", "DATA", "TEXT", "RSET"]


class Server:
    """Takes the first message and refuses all others. `surplus` is said behind the reply to a verb; that to
    `missing` is not given; both from the message of this number on."""

    def __init__(self, extensions: tuple[str, ...], at: int = 1) -> None:
        self._extensions, self._at = extensions, at
        self.surplus: tuple[str, bytes] = ("", b"")
        self.before: tuple[str, bytes] = ("", b"")
        self.missing = ""
        self.count = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(verb: str, reply: bytes) -> None:
            now = self.count + (verb not in ("TEXT", "RSET")) >= self._at
            if now and self.before[0] == verb:
                writer.write(self.before[1])
            if not (now and self.missing == verb):
                writer.write(reply)
            if now and self.surplus[0] == verb:
                writer.write(self.surplus[1])

        writer.write(b"220 mx\r\n")
        while line := await reader.readline():
            verb = line.split()[0].decode().upper()
            if verb == "EHLO":
                names = ["mx", *self._extensions]
                writer.write(b"".join(f"250{'- '[n is names[-1]]}{n}\r\n".encode() for n in names))
            elif verb in ("BDAT", "DATA"):
                if verb == "DATA":
                    say("DATA", b"354 go\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                else:
                    await reader.readexactly(int(line.split()[1]))
                self.count += 1
                say("TEXT", b"250 taken\r\n" if self.count == 1 else b"554 5.7.1 refused\r\n")
            elif verb == "QUIT":
                return
            else:
                say(verb, f"250 ok {verb}\r\n".encode())


def against(talk: Callable[..., Awaitable[None]], use: Callable[[Target], Awaitable[object]]) -> object:
    async def run() -> object:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await talk(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, asyncio.timeout(20):
            return await use(Target("127.0.0.1", server.sockets[0].getsockname()[1], "mx.a.test"))

    return asyncio.run(run())


def mails(count: int) -> list[Mail]:
    return [Mail("a@b.test", ["c@d.test"], b"Subject: %d\r\n\r\nx\r\n" % n) for n in range(count)]


async def all_of(target: Target, pause: float = 0.0) -> list[list[Reply] | Disconnected]:
    """What is believed of four messages over one connection, each beginning behind the one before."""
    there, found = await Connection.open(target), list[list[Reply] | Disconnected]()
    todo = mails(4)
    try:
        for n, mail in enumerate(todo):
            after = todo[n + 1] if n + 1 < len(todo) and not pause else None
            found.append(await there.deliver(mail, lambda after=after: after))  # type: ignore[misc]
            await asyncio.sleep(pause)
    except Disconnected as error:
        found.append(error)
    finally:
        there.abort()
    return found


def believed(found: object) -> list[int]:
    """Numbers of the messages that are taken to be delivered."""
    assert isinstance(found, list)
    return [n for n, each in enumerate(found) if isinstance(each, list) and each[0].ok]


SURPLUS = [b"421 4.4.2 idle too long\r\n", b"250 slow down\r\n", b"250-slow\r\n250 down\r\n", b"451 hm\r\n"]


@pytest.mark.parametrize("extensions", EXTENSIONS)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_more_than_was_asked_delivers_nothing(
    extensions: tuple[str, ...], verb: str, at: int, pause: float
) -> None:
    for surplus in SURPLUS:
        for place in ("surplus", "before"):
            server = Server(extensions, at)
            setattr(server, place, (verb, surplus))
            found = against(server.talk, lambda target: all_of(target, pause))
            assert set(believed(found)) <= {0}, (surplus, place, found)


@pytest.mark.parametrize("extensions", EXTENSIONS)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("at", [1, 2])
def test_less_than_was_asked_delivers_nothing(
    monkeypatch: pytest.MonkeyPatch, extensions: tuple[str, ...], verb: str, at: int
) -> None:
    for module in (connection, pipeline):
        monkeypatch.setattr(module, "REPLY_SECONDS", 0.2)
    monkeypatch.setattr(connection, "FINAL_SECONDS", 0.2)
    server = Server(extensions, at)
    server.missing = verb
    assert set(believed(against(server.talk, all_of))) <= {0}


def test_words_on_an_idle_connection_end_it() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx\r\n")
        await reader.readline()
        writer.write(b"250 mx\r\n250 by the way\r\n")
        await reader.read()

    async def use(target: Target) -> None:
        there = await Connection.open(target)
        await asyncio.sleep(0.05)
        with pytest.raises(Disconnected, match="by the way"):
            await there.deliver(mails(1)[0])

    against(talk, use)


def test_a_server_that_takes_a_text_for_commands_is_noticed() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx\r\n")
        await reader.readline()
        writer.write(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
        while line := await reader.readline():
            known = line.split()[:1] and line.split()[0] in (b"MAIL", b"RCPT", b"RSET")
            refused = b"503 5.5.1 no BDAT\r\n" if line.startswith(b"BDAT") else b"500 what?\r\n"
            writer.write(b"250 ok\r\n" if known else refused)

    async def use(target: Target) -> None:
        there = await Connection.open(target)
        with pytest.raises(OutOfStep):
            await there.deliver(mails(1)[0])

    against(talk, use)


@pytest.mark.parametrize("extensions", EXTENSIONS)
def test_the_final_reply_is_about_those_that_were_taken(extensions: tuple[str, ...]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def refuse(read: bytes) -> None:
            writer.write(b"550 5.1.1 unknown\r\n" if b"bad" in read else b"250 ok\r\n")

        writer.write(b"220 mx\r\n")
        while line := await reader.readline():
            if line.startswith(b"EHLO"):
                names = ["mx", *extensions]
                writer.write(b"".join(f"250{'- '[n is names[-1]]}{n}\r\n".encode() for n in names))
            elif line.startswith(b"BDAT"):
                await reader.readexactly(int(line.split()[1]))
                writer.write(b"250 taken\r\n")
            elif line.startswith(b"DATA"):
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 taken\r\n")
            else:
                await refuse(line)

    async def use(target: Target) -> list[Reply]:
        there = await Connection.open(target)
        try:
            return await there.deliver(Mail("a@b.test", ["bad@d.test", "c@d.test", "bad2@d.test"], b"x\r\n"))
        finally:
            there.abort()

    found = against(talk, use)
    assert isinstance(found, list) and [reply.code for reply in found] == [550, 250, 550]


def test_replies_before_a_hang_up_are_kept() -> None:
    """The store answers for one of two, and goes; or a server refuses a recipient, and goes."""

    def going(*last: bytes) -> Callable[..., Awaitable[None]]:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mx\r\n")
            await reader.readline()
            writer.write(b"250-mx\r\n250 PIPELINING\r\n")
            await reader.readuntil(b"DATA\r\n")
            writer.write(last[0])
            if len(last) > 1:
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(last[1])

        return talk

    async def lost(target: Target, lmtp: bool) -> Disconnected:
        there = await Connection.open(Target(target.host, target.port, "us", lmtp))
        with pytest.raises(Disconnected) as caught:
            await there.deliver(Mail("a@b.test", ["7/a", "7/b"], b"x\r\n"))
        return caught.value

    go = b"250 a\r\n250 b\r\n250 c\r\n354 go\r\n"
    found = against(going(go, b"250 stored\r\n"), lambda target: lost(target, True))
    assert isinstance(found, Disconnected) and found.text_sent
    assert [reply and reply.code for reply in found.known] == [250, None]
    found = against(going(b"250 a\r\n550 5.1.1 no\r\n"), lambda target: lost(target, False))
    assert isinstance(found, Disconnected) and not found.text_sent
    assert [reply and reply.code for reply in found.known] == [550, None]
