"""What a filter sends is on an smtp pod's disk before Dovecot hears 250, and nobody else is listened to."""

import json
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.processes import free_port
from mailpods.admin.server import AdminServer, Request, Response
from mailpods.spool import transfer
from mailpods.store.outgoing import MAX_RECIPIENTS, Outgoing, Way

KEY = "the installation's"


@dataclass
class Pod:
    """An smtp pod that takes mail, or does not."""

    status: int = 200
    taken: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)
    port: int = 0

    def adopt(self, request: Request) -> Response:
        assert request.bears(KEY)
        line, _, body = request.body.partition(b"\n")
        if self.status == 200:
            self.taken.append((json.loads(line), body))
        return Response.text("so it is", self.status)


@pytest.fixture
def pod() -> Iterator[Pod]:
    made = Pod()
    server = AdminServer("127.0.0.1", 0, {f"POST {transfer.PATH}": made.adopt})
    server.start()
    made.port = server.port
    yield made
    server.stop()


@pytest.fixture
def outgoing(pod: Pod) -> Iterator[Outgoing]:
    # The first one is down.
    pods = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{pod.port}"]
    way = Way("mail.a.test", pods, KEY, {"info@a.test": "7/info"})
    made = Outgoing(lambda: way, lambda text: None)
    made.start()
    yield made
    made.stop()


def test_a_message_reaches_the_first_pod_that_takes_it(outgoing: Outgoing, pod: Pod) -> None:
    text = "Subject: x\r\n\r\n.one dot\r\n..two\r\nend\r\n"
    with smtplib.SMTP("127.0.0.1", outgoing.port) as client:
        client.sendmail("info@a.test", ["Far@Elsewhere.Test", "near@a.test"], text, ["BODY=8BITMIME"])
        client.sendmail("", ["far@elsewhere.test"], text)
    (first, body), (second, _) = pod.taken
    assert body == text.encode()
    assert [each["address"] for each in first["recipients"]] == ["Far@elsewhere.test", "near@a.test"]
    assert (first["sender"], first["account"], first["body_8bit"]) == ("info@a.test", "7/info", 1)
    assert (second["sender"], second["account"], second["body_8bit"]) == ("", None, 0)
    assert first["id"] != second["id"]


@pytest.mark.parametrize("status", [503, 507, 403])
def test_where_no_pod_takes_it_it_is_to_be_tried_again(outgoing: Outgoing, pod: Pod, status: int) -> None:
    pod.status = status
    with smtplib.SMTP("127.0.0.1", outgoing.port) as client:
        with pytest.raises(smtplib.SMTPDataError, match="451"):
            client.sendmail("info@a.test", ["far@elsewhere.test"], "x\r\n")
        pod.status = 200
        client.sendmail("info@a.test", ["far@elsewhere.test"], "x\r\n")
    assert len(pod.taken) == 1


def test_what_makes_no_sense_is_refused_and_harms_nothing(outgoing: Outgoing, pod: Pod) -> None:
    with smtplib.SMTP("127.0.0.1", outgoing.port) as client:
        client.ehlo()
        assert client.docmd("RCPT", "TO:<x@b.test>")[0] == 501
        assert client.docmd("MAIL", "FROM:x@a.test")[0] == 501
        assert client.docmd("DATA")[0] == 503
        assert client.docmd("STARTTLS")[0] == 502
        assert client.docmd("MAIL", "FROM:<info@a.test>")[0] == 250
        assert client.docmd("MAIL", "FROM:<info@a.test>")[0] == 501
        assert client.docmd("RCPT", "TO:<nobody>")[0] == 501
        for n in range(MAX_RECIPIENTS):
            assert client.docmd("RCPT", f"TO:<x{n}@b.test>")[0] == 250
        assert client.docmd("RCPT", "TO:<more@b.test>")[0] == 452
        assert client.docmd("RSET")[0] == 250
        client.sendmail("info@a.test", ["far@elsewhere.test"], "x\r\n")
    assert len(pod.taken) == 1


def test_half_a_message_is_none(outgoing: Outgoing, pod: Pod) -> None:
    with socket.create_connection(("127.0.0.1", outgoing.port)) as client:
        client.sendall(b"HELO x\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nhalf\r\n.")
    with smtplib.SMTP("127.0.0.1", outgoing.port) as client:
        client.sendmail("info@a.test", ["far@elsewhere.test"], "x\r\n")
    assert len(pod.taken) == 1


def test_other_users_of_the_machine_are_not_listened_to(outgoing: Outgoing) -> None:
    script = (
        "import encodings.idna, os, socket, sys; os.setuid(65534); there = ('127.0.0.1', int(sys.argv[1]));"
    )
    script += "print(socket.create_connection(there).recv(100).decode())"
    said = subprocess.run(
        [sys.executable, "-c", script, str(outgoing.port)], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("554 5.7.1")
