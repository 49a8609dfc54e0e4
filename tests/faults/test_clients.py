"""Clients that mean harm or know no better: nothing is smuggled, injected, or kept from others."""

import random
import resource
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support.installation import HOST, EmbeddedInstallation, mailbox

IDLE = 2000
TERMINATORS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r"]


class Raw:
    """A client that sends exactly what it is told."""

    def __init__(self, installation: EmbeddedInstallation) -> None:
        self.socket = socket.create_connection((HOST, installation.port("smtp")), 10)
        self._rest = b""
        assert self.reply().startswith(b"220")

    def reply(self) -> bytes:
        """The last line of the next reply."""
        while True:
            while b"\n" not in self._rest:
                more = self.socket.recv(65536)
                assert more, "the server closed the connection"
                self._rest += more
            line, _, self._rest = self._rest.partition(b"\n")
            if line[3:4] != b"-":
                return line

    def say(self, *lines: bytes) -> list[bytes]:
        """Send lines one by one; their replies."""
        replies = []
        for line in lines:
            self.socket.sendall(line + b"\r\n")
            replies.append(self.reply())
        return replies

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


@pytest.fixture
def raw(installation: EmbeddedInstallation) -> Iterator[Raw]:
    with closing(Raw(installation)) as client:
        yield client


@pytest.mark.parametrize("terminator", TERMINATORS)
def test_no_terminator_but_the_true_one_ends_a_message(raw: Raw, terminator: bytes) -> None:
    replies = raw.say(b"EHLO x.example", b"MAIL FROM:<x@example.net>", b"RCPT TO:<info@a.test>", b"DATA")
    assert replies[-1].startswith(b"354")
    raw.socket.sendall(b"Subject: outer\r\n\r\nouter" + terminator)
    raw.socket.sendall(b"MAIL FROM:<smuggled@example.net>\r\nRCPT TO:<info@a.test>\r\nDATA\r\nin\r\n.\r\n")
    assert raw.reply().startswith((b"554", b"550", b"500")), "bare CR or LF is refused, not repaired"
    assert raw.say(b"NOOP")[0].startswith(b"250"), "and nothing behind it was taken for commands"


def test_commands_pipelined_behind_starttls_are_discarded(
    installation: EmbeddedInstallation, raw: Raw
) -> None:
    raw.say(b"EHLO x.example")
    raw.socket.sendall(b"STARTTLS\r\nMAIL FROM:<injected@example.net>\r\n")
    assert raw.reply().startswith(b"220")
    context = installation.tls()
    with context.wrap_socket(raw.socket, server_hostname="mail.a.test") as secure:
        secure.sendall(b"RCPT TO:<info@a.test>\r\n")
        assert secure.recv(1000).startswith(b"503"), "the injected MAIL was not taken"


def test_idle_connections_do_not_stop_new_ones(installation: EmbeddedInstallation) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, IDLE + 1000)), hard))
    installation.apply("idle", mailbox("idle"))
    installation.wait_for("Mailbox", "idle")
    idle = [socket.create_connection((HOST, installation.port("smtp")), 10) for _ in range(IDLE)]
    try:
        assert idle[-1].recv(1000).startswith(b"220")
        installation.deliver("x@example.net", "idle@a.test")
        installation.wait_for_mail("7/idle", "pw-idle", 1)
    finally:
        for each in idle:
            each.close()


def test_chunking_takes_what_data_takes(installation: EmbeddedInstallation, raw: Raw) -> None:
    installation.apply("chunks", mailbox("chunks"))
    installation.wait_for("Mailbox", "chunks")
    raw.say(b"EHLO x.example", b"MAIL FROM:<x@example.net>", b"RCPT TO:<chunks@a.test>")
    first, last = b"Subject: c\r\n", b"\r\n.\r\nend\r\n"  # a dot alone ends nothing here (RFC 3030)
    raw.socket.sendall(b"BDAT %d\r\n%s" % (len(first), first))
    assert raw.reply().startswith(b"250")
    raw.socket.sendall(b"BDAT %d LAST\r\n%s" % (len(last), last))
    assert raw.reply().startswith(b"250")
    assert installation.wait_for_mail("7/chunks", "pw-chunks", 1)[0].endswith(first + last)


def test_a_half_closed_client_gets_its_answers(installation: EmbeddedInstallation, raw: Raw) -> None:
    installation.apply("half", mailbox("half"))
    installation.wait_for("Mailbox", "half")
    raw.socket.sendall(
        b"EHLO x.example\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<half@a.test>\r\nDATA\r\n"
        b"Subject: half\r\n\r\nclosed\r\n.\r\nQUIT\r\n"
    )
    raw.socket.shutdown(socket.SHUT_WR)
    assert [raw.reply()[:3] for _ in range(6)] == [b"250", b"250", b"250", b"354", b"250", b"221"]
    assert b"closed" in installation.wait_for_mail("7/half", "pw-half", 1)[0]


def test_a_client_that_vanishes_within_a_message_leaves_nothing(installation: EmbeddedInstallation) -> None:
    installation.apply("vanish", mailbox("vanish"))
    installation.wait_for("Mailbox", "vanish")
    with closing(Raw(installation)) as client:
        client.say(b"EHLO x.example", b"MAIL FROM:<x@example.net>", b"RCPT TO:<vanish@a.test>", b"DATA")
        client.socket.sendall(b"Subject: never\r\n\r\nended\r\n")
    installation.deliver("x@example.net", "vanish@a.test", "whole")
    (only,) = installation.wait_for_mail("7/vanish", "pw-vanish", 1)
    assert b"Subject: whole" in only


def test_garbage_is_refused_line_by_line_and_then_altogether(installation: EmbeddedInstallation) -> None:
    draw = random.Random(1)
    for _ in range(20):
        with closing(Raw(installation)) as client, suppress(ConnectionError):
            client.socket.sendall(draw.randbytes(200_000) + b"\r\n")
            assert client.reply()[:1] in (b"4", b"5")
    with closing(Raw(installation)) as client:
        replies = client.say(*[b"NONSENSE"] * 19)
        assert {reply[:3] for reply in replies} == {b"500"}
        client.socket.sendall(b"NONSENSE\r\n")
        assert client.reply().startswith(b"500")
        assert client.reply().startswith(b"421")
    with closing(Raw(installation)) as client:
        assert client.say(b"EHLO x.example")[0].startswith(b"250")


def test_a_line_without_end_costs_no_memory(installation: EmbeddedInstallation, raw: Raw) -> None:
    before = _memory(installation)
    for _ in range(500):
        raw.socket.sendall(b"A" * 100_000)
    raw.socket.sendall(b"\r\n")
    assert raw.reply().startswith(b"500")
    assert _memory(installation) - before < 30 << 20


def test_a_message_far_over_the_limit_costs_no_memory(installation: EmbeddedInstallation, raw: Raw) -> None:
    raw.say(b"EHLO x.example", b"MAIL FROM:<x@example.net>", b"RCPT TO:<info@a.test>", b"DATA")
    before = _memory(installation)
    line = b"B" * 78 + b"\r\n"
    for _ in range(1000):
        raw.socket.sendall(line * 1000)  # 80 MB; the limit here is 2 MB
    raw.socket.sendall(b".\r\n")
    assert raw.reply().startswith(b"552")
    assert _memory(installation) - before < 30 << 20
    assert raw.say(b"NOOP")[0].startswith(b"250")


def _memory(installation: EmbeddedInstallation) -> int:
    """Resident bytes of the smtp program's processes."""
    total = 0
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            command = (process / "cmdline").read_bytes() if process.name.isdecimal() else b""
            if str(installation.data).encode() in command and b"mailpods.programs.smtp" in command:
                total += int((process / "statm").read_text().split()[1]) * resource.getpagesize()
    assert total
    return total
