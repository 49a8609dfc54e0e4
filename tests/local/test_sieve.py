"""Filters that users edit over ManageSieve (RFC 5804) act on what is delivered."""

import base64
import socket
import ssl

import pytest

from tests.support.installation import HOST, Installation, mailbox, wait

SCRIPT = b'require ["fileinto", "mailbox"];\r\nif header :contains "subject" "invoice" {\r\n'
SCRIPT += b'  fileinto :create "Invoices";\r\n}\r\n'


class ManageSieve:
    """As much of a client as the test needs."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._socket = socket.create_connection((HOST, port), 10)
        self._lines = self._socket.makefile("rb")
        self.answer()
        self.ask(b"STARTTLS")
        self._lines.close()
        self._socket = context.wrap_socket(self._socket)
        self._lines = self._socket.makefile("rb")
        self.answer()

    def ask(self, command: bytes) -> list[bytes]:
        """Send a command; its answer's lines."""
        self._socket.sendall(command + b"\r\n")
        return self.answer()

    def answer(self) -> list[bytes]:
        """The lines up to OK. Fails at anything else."""
        lines = []
        while not (line := self._lines.readline()).startswith(b"OK"):
            assert line and not line.startswith((b"NO", b"BYE")), line
            lines.append(line)
        return lines

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()


@pytest.mark.req("R-002-14")
def test_an_uploaded_script_sorts_mail(house: Installation) -> None:
    house.apply("sorter", mailbox("sorter"))
    house.wait_for("Mailbox", "sorter")
    client = ManageSieve(house.port("sieve"), house.tls())
    login = base64.b64encode(b"\0" + b"7/sorter" + b"\0" + b"pw-sorter")
    client.ask(b'AUTHENTICATE "PLAIN" "' + login + b'"')
    client.ask(b'PUTSCRIPT "sort" {%d+}\r\n%s' % (len(SCRIPT), SCRIPT))
    client.ask(b'SETACTIVE "sort"')
    assert b'"sort" ACTIVE\r\n' in client.ask(b"LISTSCRIPTS")
    client.close()
    house.deliver("x@example.net", "sorter@a.test", "invoice 7")
    house.deliver("x@example.net", "sorter@a.test", "hello")
    assert b"Subject: hello" in house.wait_for_mail("7/sorter", "pw-sorter", 1)[0]

    def sorted_in() -> bool:
        with house.imap("7/sorter", "pw-sorter") as reader:
            return reader.select("Invoices", readonly=True) == ("OK", [b"1"])

    assert wait(sorted_in)
