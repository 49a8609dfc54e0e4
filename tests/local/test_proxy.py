"""Behind a load balancer that speaks the PROXY protocol, the client's own address counts."""

import imaplib
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.hub import HUB, Hub
from tests.support.installation import Installation, domain, mailbox, manifest, secret, server, wait

LAN, WAN = "192.0.2.7", "198.51.100.7"


@pytest.fixture(scope="module")
def office(module_installation: Installation, hub: tuple[Hub, int]) -> Iterator[Installation]:
    host = module_installation.at(HUB)
    smarthost = {"host": host, "port": hub[1], "tls": "none", "authSecretRef": {"name": "hub"}}
    trusted = [{"name": "printer", "cidr": "203.0.113.4/30"}]
    spec = {
        "serverRef": {"name": "main"},
        "lanNetworks": [{"name": "office", "cidr": "192.0.2.0/24"}],
        "auth": {"skipLan": True},
        "outbound": {"mode": "smarthost", "smarthost": smarthost, "trusted": trusted},
    }
    module_installation.apply("hub", secret("hub", username="global", password="secret"))
    behind = server(service={"proxies": ["127.0.0.1/32"]})
    module_installation.apply("server", behind, domain("a.test", 7), manifest("RelayPolicy", "main", spec))
    lan_only = {"imap": "lan", "pop3": "everywhere"}
    module_installation.apply("people", mailbox("info"), mailbox("lan", services=lan_only))
    module_installation.start()
    module_installation.wait_for("Mailbox", "lan")
    module_installation.wait_for("Mailbox", "info")
    yield module_installation


def header(version: int, client: str) -> bytes:
    """A PROXY header, as HAProxy writes it (proxy-protocol.txt, 2.1 and 2.2)."""
    if version == 1:
        return f"PROXY TCP4 {client} 127.0.0.1 40000 25\r\n".encode()
    addresses = socket.inet_aton(client) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 40000, 25)
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(addresses)) + addresses


def dialogue(connection: socket.socket, *lines: bytes) -> list[bytes]:
    """The last lines of the replies to the greeting and to each line."""
    replies = []
    with connection.makefile("rwb") as stream:
        for line in (b"", *lines):
            if line:
                stream.write(line + b"\r\n")
                stream.flush()
            reply = stream.readline()
            while reply[3:4] == b"-":
                reply = stream.readline()
            replies.append(reply)
    return replies


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("client", "may_relay"), [(LAN, True), (WAN, False), ("203.0.113.7", True), ("203.0.113.8", False)]
)
@pytest.mark.req("R-003-03", "R-003-10")
def test_smtp_judges_the_client_behind_the_proxy(
    office: Installation, version: int, client: str, may_relay: bool
) -> None:
    with socket.create_connection(office.pod("main-smtp-0", 3525), 10) as connection:
        connection.sendall(header(version, client))
        replies = dialogue(connection, b"EHLO x.example", b"MAIL FROM:<x@a.test>", b"RCPT TO:<y@sink.test>")
    assert replies[-1].startswith(b"250" if may_relay else b"550 relay not permitted"), replies


def test_smtp_writes_the_client_s_address_into_the_message(office: Installation) -> None:
    with socket.create_connection(office.pod("main-smtp-0", 3525), 10) as connection:
        connection.sendall(header(2, WAN))
        lines = (b"EHLO x.example", b"MAIL FROM:<x@example.net>", b"RCPT TO:<info@a.test>", b"DATA")
        replies = dialogue(connection, *lines, b"Subject: p\r\n\r\nx\r\n.")
        assert replies[-1].startswith(b"250")

    def arrived() -> bytes | None:
        with Proxied(office, LAN) as client:
            client.login("7/info", "pw-info")
            if client.select("INBOX")[1] == [b"0"]:
                return None
            found = client.fetch("1", "(BODY[HEADER])")[1][0]
        return found[1] if isinstance(found, tuple) else None

    assert f"[{WAN}]".encode() in wait(arrived)


class Proxied(imaplib.IMAP4):
    """A client of IMAP behind the proxy, with STARTTLS."""

    def __init__(self, office: Installation, client: str) -> None:
        self._client = client
        super().__init__(*office.pod("main-store-0", 3143))
        self.starttls(office.tls())

    def open(self, host: str = "", port: int = 0, timeout: float | None = None) -> None:
        super().open(host, port, timeout)
        self.send(header(2, self._client))


@pytest.mark.parametrize("garbage", [b"EHLO x.example\r\n", b"PROXY TCP4 nonsense\r\n", b"\x16\x03\x01" * 20])
def test_without_a_header_nothing_is_answered(office: Installation, garbage: bytes) -> None:
    with socket.create_connection(office.pod("main-smtp-0", 3525), 10) as connection:
        connection.sendall(garbage)
        with suppress(ConnectionResetError):
            assert connection.recv(100) == b""


def test_who_is_no_proxy_of_the_server_s_tells_nobody_s_address(office: Installation) -> None:
    for pod, port in (("main-smtp-0", 3525), ("main-store-0", 3143)):
        stranger = (office.at(9), 0)
        with (
            socket.create_connection(office.pod(pod, port), 10, source_address=stranger) as connection,
            suppress(ConnectionResetError, BrokenPipeError),
        ):
            connection.sendall(header(2, LAN))
            assert connection.recv(100) == b"", pod


@pytest.mark.req_part("R-004-04", "R-004-16")
def test_imap_for_the_lan_alone_opens_to_the_lan_alone(office: Installation) -> None:
    with Proxied(office, LAN) as client:
        client.login("7/lan", "pw-lan")
    with Proxied(office, WAN) as client, pytest.raises(imaplib.IMAP4.error):
        client.login("7/lan", "pw-lan")
