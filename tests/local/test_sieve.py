"""Filters that users edit over ManageSieve (RFC 5804) act on what is delivered."""

import time
from collections.abc import Callable

import pytest
from aiosmtpd.smtp import Envelope

from tests.support.hub import Hub
from tests.support.installation import EmbeddedInstallation, Installation, mailbox, manifest, wait
from tests.support.managesieve import ManageSieve

SCRIPT = b'require ["fileinto", "mailbox"];\r\nif header :contains "subject" "invoice" {\r\n'
SCRIPT += b'  fileinto :create "Invoices";\r\n}\r\n'


Abroad = Callable[[str], list[Envelope]]
FORWARD = b'redirect "far@elsewhere.test";\r\n'
AWAY = b'require ["vacation"];\r\nvacation "I am away.";\r\n'


def upload(installation: Installation, login: str, script: bytes) -> None:
    """Make a script the active one."""
    client = ManageSieve(installation.address("sieve"), installation.tls())
    client.login(login, f"pw-{login.partition('/')[2]}")
    client.ask(b'PUTSCRIPT "mine" {%d+}\r\n%s' % (len(script), script))
    client.ask(b'SETACTIVE "mine"')
    client.close()


@pytest.mark.req("R-002-14")
def test_an_uploaded_script_sorts_mail(installation: EmbeddedInstallation) -> None:
    installation.apply("sorter", mailbox("sorter"))
    installation.wait_for("Mailbox", "sorter")
    upload(installation, "7/sorter", SCRIPT)
    client = ManageSieve(installation.address("sieve"), installation.tls())
    client.login("7/sorter", "pw-sorter")
    assert b'"mine" ACTIVE\r\n' in client.ask(b"LISTSCRIPTS")
    client.close()
    installation.deliver("x@example.net", "sorter@a.test", "invoice 7")
    installation.deliver("x@example.net", "sorter@a.test", "hello")
    assert b"Subject: hello" in installation.wait_for_mail("7/sorter", "pw-sorter", 1)[0]

    def sorted_in() -> bool:
        with installation.imap("7/sorter", "pw-sorter") as reader:
            return reader.select("Invoices", readonly=True) == ("OK", [b"1"])

    assert wait(sorted_in)


@pytest.fixture
def sending(behind: EmbeddedInstallation) -> Installation:
    """A installation whose mail leaves it."""
    return behind


@pytest.fixture
def abroad(hub: tuple[Hub, int]) -> Abroad:
    """What came out of it for an address of elsewhere.test."""
    return lambda to: [envelope for _, envelope in hub[0].taken if to in envelope.rcpt_tos]


@pytest.mark.req("R-003-08")
def test_a_filter_sends_mail_on_unless_that_is_forbidden(sending: Installation, abroad: Abroad) -> None:
    sending.apply("forwarder", mailbox("forwarder"))
    sending.wait_for("Mailbox", "forwarder")
    upload(sending, "7/forwarder", FORWARD)
    sending.deliver("x@example.net", "forwarder@a.test", "send this on")
    (sent,) = wait(lambda: abroad("far@elsewhere.test"), 40)
    assert isinstance(sent.content, bytes) and b"Subject: send this on" in sent.content
    assert sent.mail_from == "forwarder@a.test"
    assert sending.inbox("7/forwarder", "pw-forwarder") == []
    policy = {"serverRef": {"name": "main"}, "autoForward": False}
    sending.apply("forwarding", manifest("RelayPolicy", "forwarding", policy))
    sending.wait_for("RelayPolicy", "forwarding")
    sending.deliver("x@example.net", "forwarder@a.test", "keep this here")
    (kept,) = sending.wait_for_mail("7/forwarder", "pw-forwarder", 1, 40)
    assert b"Subject: keep this here" in kept
    assert len(abroad("far@elsewhere.test")) == 1
    sending.remove("forwarding")

    def goes_on() -> bool:
        sending.deliver("x@example.net", "forwarder@a.test", "and on again")
        time.sleep(2)
        return len(abroad("far@elsewhere.test")) > 1

    wait(goes_on, 60)  # nobody tells when the end of a policy has reached the pods


def test_an_absent_user_s_filter_answers(sending: Installation, abroad: Abroad) -> None:
    sending.apply("away", mailbox("away"))
    sending.wait_for("Mailbox", "away")
    upload(sending, "7/away", AWAY)
    sending.deliver("friend@elsewhere.test", "away@a.test", "are you there")
    (sent,) = wait(lambda: abroad("friend@elsewhere.test"), 40)
    assert sent.mail_from == "<>"
    assert isinstance(sent.content, bytes) and b"I am away." in sent.content
    assert b"away@a.test" in sent.content.partition(b"From:")[2].partition(b"\n")[0]
