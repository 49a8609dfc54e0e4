"""The delivery client against servers that answer in every way, allowed and not."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mailpods.delivery.client import connection
from mailpods.delivery.client.connection import Connection, Mail, Target, wire
from mailpods.delivery.client.replies import Disconnected, Reply, Unwelcome

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def against(talk: Talk, use: Callable[[Target], Awaitable[object]], lmtp: bool = True) -> object:
    """What `use` finds when the server talks like this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    async def run() -> object:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, asyncio.timeout(30):
            return await use(Target("127.0.0.1", port, "mx.a.test", lmtp))

    return asyncio.run(run())


def script(*answers: bytes, extensions: bytes = b"250 PIPELINING\r\n") -> Talk:
    """Greets and takes LHLO; then gives one answer for each line that is a command, and for each message.

    What is asked behind those, it does.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.readline()
        writer.write(b"250-mx\r\n" + extensions)
        for answer in answers:
            line = await reader.readline()
            if not line:
                return
            writer.write(answer)
            if answer.startswith(b"354"):
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 2.0.0 taken\r\n")
        while await reader.readline():
            writer.write(b"250 2.0.0 Ok\r\n")

    return talk


async def deliver(target: Target) -> list[Reply]:
    connection = await Connection.open(target)
    try:
        return await connection.deliver(Mail("x@b.test", ["7/info", "7/anna"], b"Subject: x\r\n\r\nx\r\n"))
    finally:
        connection.abort()


def codes(found: object) -> list[int]:
    assert isinstance(found, list)
    return [reply.code for reply in found]


def test_each_recipient_has_its_reply() -> None:
    talk = script(b"250 ok\r\n", b"250 ok\r\n", b"550-5.1.1 no\r\n550 5.1.1 such user\r\n", b"354 go\r\n")
    found = against(talk, deliver)
    assert codes(found) == [250, 550]
    assert isinstance(found, list) and found[1].text == "5.1.1 no 5.1.1 such user"


def test_answers_may_come_byte_by_byte() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: bytes) -> None:
            for n in range(len(text)):
                writer.write(text[n : n + 1])
                await writer.drain()
                await asyncio.sleep(0)

        await say(b"220-hello\r\n220 there\r\n")
        await reader.readline()
        await say(b"250-mx\r\n250-SIZE\r\n250 PIPELINING\r\n")
        await reader.readuntil(b"DATA\r\n")
        await say(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        await say(b"250 one\r\n452 4.2.2 full\r\n250 reset\r\n")

    assert codes(against(talk, deliver)) == [250, 452]


def test_without_pipelining_a_refused_sender_ends_it() -> None:
    talk = script(b"451 4.3.0 later\r\n", extensions=b"250 SIZE\r\n")
    assert codes(against(talk, deliver)) == [451, 451]


def test_smtp_has_one_reply_for_all() -> None:
    async def use(target: Target) -> list[Reply]:
        return await deliver(Target(target.host, target.port, target.hello))

    assert codes(against(script(b"250 a\r\n", b"250 b\r\n", b"250 c\r\n", b"354 go\r\n"), use)) == [250, 250]


@pytest.mark.parametrize(
    "answer",
    [b"hello world\r\n", b"25", b"", b"250-" + b"x" * 70_000, b"250-more\r\n" * 200, b"\xff\xfe\r\n"],
)
def test_what_is_no_reply_ends_the_connection(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.readline()
        writer.write(b"250-mx\r\n250 PIPELINING\r\n")
        await reader.readuntil(b"DATA\r\n")
        writer.write(answer)

    with pytest.raises(Disconnected):
        against(talk, deliver)


TWO = Mail("x@b.test", ["7/info"], b"first\r\n.\r\n"), Mail("x@b.test", ["7/anna"], b"second\r\n")


async def deliver_two(target: Target) -> list[Reply]:
    """The second one begins with the first one's text."""
    connection = await Connection.open(target)
    try:
        first = await connection.deliver(TWO[0], lambda: TWO[1])
        return first + await connection.deliver(TWO[1])
    finally:
        connection.abort()


def silent(extensions: bytes, *steps: tuple[bytes, bytes]) -> Talk:
    """Greets; then says nothing before it has read up to the end of a step, and all its answers in one go."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.readline()
        writer.write(b"250-mx\r\n" + extensions)
        for end, answers in steps:
            await reader.readuntil(end)
            writer.write(answers)
        assert await reader.read() == b""

    return talk


def test_the_next_message_begins_behind_the_text_of_the_one_before() -> None:
    talk = silent(
        b"250 PIPELINING\r\n",
        (b"DATA\r\n", b"250 a\r\n250 b\r\n354 go\r\n"),
        (
            b"first\r\n..\r\n.\r\nRSET\r\nMAIL FROM:<x@b.test>\r\nRCPT TO:<7/anna>\r\nDATA\r\n",
            b"452 4.2.2 full\r\n250 reset\r\n250 a\r\n250 b\r\n354 go\r\n",
        ),
        (b"second\r\n.\r\nRSET\r\n", b"250 taken\r\n250 reset\r\n"),
    )
    assert codes(against(talk, deliver_two)) == [452, 250]


CHUNKING = b"250-PIPELINING\r\n250 CHUNKING\r\n"
WHOLE = b"MAIL FROM:<x@b.test>\r\nRCPT TO:<7/anna>\r\nBDAT 8 LAST\r\nsecond\r\nRSET\r\n"


def test_where_chunks_are_taken_a_whole_message_goes_at_once_and_the_next_one_behind_its_end() -> None:
    ok = b"250 a\r\n250 b\r\n250 taken\r\n250 reset\r\n"
    talk = silent(CHUNKING, (b"BDAT 10 LAST\r\nfirst\r\n.\r\nRSET\r\n", ok), (WHOLE, ok))
    assert codes(against(talk, deliver_two)) == [250, 250]


def test_a_text_for_nobody_does_not_harm_the_next_one() -> None:
    refused = b"250 a\r\n550 5.1.1 unknown\r\n554 5.5.1 no valid recipients\r\n250 reset\r\n"
    taken = b"250 a\r\n250 b\r\n250 taken\r\n250 reset\r\n"
    talk = silent(CHUNKING, (b"BDAT 10 LAST\r\nfirst\r\n.\r\nRSET\r\n", refused), (WHOLE, taken))
    assert codes(against(talk, deliver_two)) == [550, 250]


def test_a_refused_transaction_ends_before_the_next_one() -> None:
    async def use(target: Target) -> list[Reply]:
        connection = await Connection.open(target)
        try:
            return await connection.deliver(TWO[1])
        finally:
            connection.abort()

    refused = b"550 5.7.1 not you\r\n503 5.5.1 MAIL first\r\n503 5.5.1 no\r\n250 reset\r\n"
    talk = silent(CHUNKING, (WHOLE, refused))
    assert codes(against(talk, use)) == [550]


def test_a_large_text_waits_for_its_recipients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "AT_ONCE_BYTES", 9)
    done = b"250 taken\r\n250 reset\r\n"
    # The large one first, and the small one behind its end. Then the other way round.
    go = b"250 a\r\n250 b\r\n354 go\r\n"
    whole = (WHOLE, b"250 a\r\n250 b\r\n" + done)
    talk = silent(CHUNKING, (b"DATA\r\n", go), (b"..\r\n.\r\nRSET\r\n", done), whole)
    assert codes(against(talk, deliver_two)) == [250, 250]
    monkeypatch.setattr(connection, "AT_ONCE_BYTES", 7)
    talk = silent(
        CHUNKING,
        (b"DATA\r\n", go),
        (b"..\r\n.\r\nRSET\r\nMAIL FROM:<x@b.test>\r\nRCPT TO:<7/anna>\r\nDATA\r\n", done + go),
        (b"second\r\n.\r\nRSET\r\n", done),
    )
    assert codes(against(talk, deliver_two)) == [250, 250]


def test_a_server_that_does_not_want_us_is_a_refusal() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"554 5.3.2 go away\r\n")
        await reader.read()

    with pytest.raises(Unwelcome, match="go away"):
        against(talk, deliver)


def test_silence_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REPLY_SECONDS", 0.3)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with pytest.raises(Disconnected, match="no reply in 0 s"):
        against(talk, deliver)


def test_a_slow_reader_of_a_large_message_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FINAL_SECONDS", 2)
    large = b"x" * 76 + b"\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.readline()
        writer.write(b"250-mx\r\n250 PIPELINING\r\n")
        await reader.readuntil(b"DATA\r\n")
        writer.write(b"250 a\r\n250 b\r\n354 go\r\n")
        tail = b""
        while not tail.endswith(b"\r\n.\r\nRSET\r\n"):
            tail = (tail + await reader.read(1 << 20))[-11:]
            await asyncio.sleep(0.02)  # some five seconds in all
        writer.write(b"250 done\r\n250 reset\r\n")
        await reader.read()

    async def use(target: Target) -> list[Reply]:
        connection = await Connection.open(target)
        try:
            return await connection.deliver(Mail("x@b.test", ["7/info"], large * 400_000))
        finally:
            connection.abort()  # a server's end waits for its connections, since Python 3.12

    assert codes(against(talk, use)) == [250]


def test_words_behind_the_answer_to_starttls_are_an_attack() -> None:
    async def use(target: Target) -> object:
        return await Connection.open(Target(target.host, target.port, "mx", tls="opportunistic"))

    talk = script(b"220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n", extensions=b"250 STARTTLS\r\n")
    with pytest.raises(Disconnected, match="more in clear"):
        against(talk, use)


def test_tls_that_is_needed_and_not_offered_is_a_refusal() -> None:
    async def use(target: Target) -> object:
        return await Connection.open(Target(target.host, target.port, "mx", tls="starttls"))

    with pytest.raises(Unwelcome, match="offers no STARTTLS"):
        against(script(), use)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n..b\r\n", b"a\r\n..\r\n...b\r\n.\r\n"),
    ],
)
def test_dots_are_doubled(body: bytes, expected: bytes) -> None:
    assert b"".join(wire(body)) == expected
