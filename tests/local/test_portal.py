"""Pages for everybody: settings, help where sending fails, how much fits, the authority's certificate."""

import socket
import ssl
import urllib.error
import urllib.request
from email.message import EmailMessage
from typing import Any

import pytest

from tests.support.installation import Installation, domain, mailbox, message, server, wait

URL = "https://help.a.test"
INFO = "info@a.test"


@pytest.fixture(scope="module")
def installation(module_installation: Installation) -> Installation:
    made = module_installation
    made.apply("server", server(portal={"replicas": 1, "url": URL}), domain("a.test", 7), mailbox("info"))
    made.govern({"serverRef": {"name": "main"}, "limits": {"messageSize": "128M"}})
    made.start()
    made.wait_for("Mailbox", "info")
    wait(lambda: _answers(made), 60, "the portal does not answer")
    return made


def get(installation: Installation, path: str) -> tuple[Any, bytes]:
    """Headers and body."""
    with urllib.request.urlopen(
        "http://{}:{}{}".format(*installation.address("portal"), path), timeout=10
    ) as answer:
        return answer.headers, answer.read()


def _answers(installation: Installation) -> bool:
    try:
        return b"<h1>" in get(installation, "/")[1]
    except OSError:
        return False


@pytest.mark.req("R-001-38", "R-001-39")
def test_a_refusal_names_the_page_that_explains_it(installation: Installation) -> None:
    with installation.smtp() as client:
        client.ehlo("client.test")
        client.mail("x@sender.test")
        code, text = client.rcpt("x@sink.test")
    assert (code, text) == (550, f"relay not permitted {URL}/#sending".encode())
    path, _, anchor = text.decode().rpartition(URL)[2].partition("#")
    headers, body = get(installation, path)
    page = " ".join(body.decode().split())
    part = page[page.index(f'id="{anchor}"') :].partition("<h2")[0]
    assert "password a second time when you send, so that no stranger can send mail in your name" in part
    assert "switch your virus scanner and the firewall of your computer off for a moment" in part
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.req("R-001-45")
def test_people_are_told_how_imap_and_pop3_differ(installation: Installation) -> None:
    page = " ".join(get(installation, "/")[1].decode().split())
    part = page[page.index('id="imap-or-pop3"') :].partition('<h2 id="sending"')[0]
    assert all(word in part for word in ("removes it from the server", "space", "folders"))


@pytest.mark.req("R-001-36")
def test_one_login_reads_and_sends_as_the_page_says(installation: Installation) -> None:
    page = " ".join(get(installation, "/")[1].decode().split())
    assert "the outgoing server requires authentication, with the same settings as the incoming one" in page
    with installation.imap("7/info", "pw-info") as reader:
        assert reader.noop()[0] == "OK"
    with installation.submission("7/info", "pw-info") as sender:
        assert sender.mail(INFO)[0] == sender.rcpt("x@sink.test")[0] == 250


@pytest.mark.req("R-002-20")
@pytest.mark.timeout(300)
def test_as_much_as_the_page_says_can_be_attached(installation: Installation) -> None:
    page = get(installation, "/")[1].decode()
    assert "may have 128 MB" in page and "<strong>93 MB</strong>" in page

    def sized(attached: int) -> EmailMessage:
        made = message(INFO, INFO, "photos")
        made.add_attachment(bytes(attached), maintype="image", subtype="jpeg", filename="photo.jpg")
        return made

    with installation.submission("7/info", "pw-info") as client:
        assert client.send_message(sized(90_000_000)) == {}
        assert client.docmd(f"MAIL FROM:<{INFO}> SIZE=129000000")[0] == 552
        client.mail(INFO)  # somebody who does not say so beforehand
        client.rcpt(INFO)
        assert client.data(b"Subject: x\r\n\r\n" + (b"x" * 998 + b"\r\n") * 129_000)[0] == 552
    (got,) = installation.wait_for_mail("7/info", "pw-info", 1, 120)
    assert len(got) > 120_000_000


@pytest.mark.req("R-001-35")
def test_the_certificate_of_the_authority_can_be_had_and_the_chain_holds(installation: Installation) -> None:
    headers, certificate = get(installation, "/ca.crt")
    assert headers["Content-Type"] == "application/x-x509-ca-cert"
    assert headers["Content-Disposition"] == 'attachment; filename="mail.a.test.crt"'
    assert b'href="/ca.crt"' in get(installation, "/")[1]
    context = ssl.create_default_context(cadata=certificate.decode())
    with (
        socket.create_connection(installation.address("submissions"), 10) as plain,
        context.wrap_socket(plain, server_hostname="mail.a.test") as secure,
    ):
        assert secure.recv(3) == b"220"


def test_what_is_not_there_is_not_found(installation: Installation) -> None:
    for path in ("/../etc/passwd", "/metrics", "/ca.key"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(installation, path)
