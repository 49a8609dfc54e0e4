"""Clients that mean harm or know no better: nothing is smuggled, injected, or kept from others."""

import resource
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.installation import HOST, Installation, mailbox

IDLE = 2000
TERMINATORS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r"]


class Raw:
    """A client that sends exactly what it is told."""

    def __init__(self, house: Installation) -> None:
        self.socket = socket.create_connection((HOST, house.port("smtp")), 10)
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
def raw(house: Installation) -> Iterator[Raw]:
    with closing(Raw(house)) as client:
        yield client


@pytest.mark.parametrize("terminator", TERMINATORS)
def test_no_terminator_but_the_true_one_ends_a_message(raw: Raw, terminator: bytes) -> None:
    replies = raw.say(b"EHLO x.example", b"MAIL FROM:<x@example.net>", b"RCPT TO:<info@a.test>", b"DATA")
    assert replies[-1].startswith(b"354")
    raw.socket.sendall(b"Subject: outer\r\n\r\nouter" + terminator)
    raw.socket.sendall(b"MAIL FROM:<smuggled@example.net>\r\nRCPT TO:<info@a.test>\r\nDATA\r\nin\r\n.\r\n")
    assert raw.reply().startswith((b"554", b"550", b"500")), "bare CR or LF is refused, not repaired"
    assert raw.say(b"NOOP")[0].startswith(b"250"), "and nothing behind it was taken for commands"


def test_commands_pipelined_behind_starttls_are_discarded(house: Installation, raw: Raw) -> None:
    raw.say(b"EHLO x.example")
    raw.socket.sendall(b"STARTTLS\r\nMAIL FROM:<injected@example.net>\r\n")
    assert raw.reply().startswith(b"220")
    context = house.tls()
    with context.wrap_socket(raw.socket, server_hostname="mail.a.test") as secure:
        secure.sendall(b"RCPT TO:<info@a.test>\r\n")
        assert secure.recv(1000).startswith(b"503"), "the injected MAIL was not taken"


def test_idle_connections_do_not_stop_new_ones(house: Installation) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, IDLE + 1000)), hard))
    house.apply("idle", mailbox("idle"))
    house.wait_for("Mailbox", "idle")
    idle = [socket.create_connection((HOST, house.port("smtp")), 10) for _ in range(IDLE)]
    try:
        assert idle[-1].recv(1000).startswith(b"220")
        house.deliver("x@example.net", "idle@a.test")
        house.wait_for_mail("7/idle", "pw-idle", 1)
    finally:
        for each in idle:
            each.close()


def test_chunking_takes_what_data_takes(house: Installation, raw: Raw) -> None:
    house.apply("chunks", mailbox("chunks"))
    house.wait_for("Mailbox", "chunks")
    raw.say(b"EHLO x.example", b"MAIL FROM:<x@example.net>", b"RCPT TO:<chunks@a.test>")
    first, last = b"Subject: c\r\n", b"\r\n.\r\nend\r\n"  # a dot alone ends nothing here (RFC 3030)
    raw.socket.sendall(b"BDAT %d\r\n%s" % (len(first), first))
    assert raw.reply().startswith(b"250")
    raw.socket.sendall(b"BDAT %d LAST\r\n%s" % (len(last), last))
    assert raw.reply().startswith(b"250")
    assert house.wait_for_mail("7/chunks", "pw-chunks", 1)[0].endswith(first + last)
