"""Small promises, each of them a line of the requirements that a user can check within a minute."""

import contextlib
import imaplib
import smtplib
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.installation import (
    EmbeddedInstallation,
    Installation,
    domain,
    mailbox,
    manifest,
    message,
    server,
)


def rcpt(installation: Installation, address: str) -> int:
    """What port 25 says of a recipient."""
    with installation.smtp() as client:
        client.ehlo("x.example")
        client.mail("x@example.net")
        return client.rcpt(address)[0]


@pytest.mark.req("R-000-06", "R-000-07")
def test_several_domains_of_one_file_take_mail_as_soon_as_they_say_so(installation: Installation) -> None:
    names = ("one.test", "two.test", "three.test")
    assert {rcpt(installation, f"who@{name}") for name in names} == {550}
    people = [mailbox(f"who-{n}", name.replace(".", "-"), localPart="who") for n, name in enumerate(names)]
    installation.apply("three", *(domain(name) for name in names), *people)
    for n, name in enumerate(names):
        installation.wait_for("MailDomain", name.replace(".", "-"))
        installation.wait_for("Mailbox", f"who-{n}")
        assert installation.conditions("MailDomain", name.replace(".", "-"))["Accepting"]["status"] == "True"
    assert {rcpt(installation, f"who@{name}") for name in names} == {250}


@pytest.mark.req("R-002-05")
@pytest.mark.req_part("R-001-02")
def test_an_address_comes_and_goes_and_its_password_is_the_one_that_was_chosen(
    installation: Installation,
) -> None:
    assert rcpt(installation, "brief@a.test") == 550
    installation.apply("brief", mailbox("brief", password="my own choice: 100% long"))
    installation.wait_for("Mailbox", "brief")
    assert rcpt(installation, "brief@a.test") == 250
    with installation.submission("7/brief", "my own choice: 100% long") as client:
        client.send_message(message("brief@a.test", "brief@a.test"))
    installation.remove("brief")
    end = time.monotonic() + 20
    while rcpt(installation, "brief@a.test") != 550:
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.req("R-001-11", "R-001-12", "R-004-05")
@pytest.mark.req_part("R-001-13")
def test_imap_keeps_mail_folders_and_flags_for_several_clients(installation: Installation) -> None:
    installation.apply("several", mailbox("several"))
    installation.wait_for("Mailbox", "several")
    installation.deliver("x@example.net", "several@a.test", "kept")
    installation.wait_for_mail("7/several", "pw-several", 1)
    with (
        installation.imap("7/several", "pw-several") as first,
        installation.imap("7/several", "pw-several") as second,
    ):
        assert first.create("Work/2024")[0] == "OK"
        assert any(b"Work/2024" in line for line in second.list()[1] if isinstance(line, bytes))
        first.select("INBOX")
        assert first.fetch("1", "(RFC822)")[0] == "OK"
        first.store("1", "+FLAGS", "\\Flagged")
        second.select("INBOX")
        _, found = second.fetch("1", "(FLAGS)")
        assert isinstance(found[0], bytes) and b"\\Flagged" in found[0]
        assert first.append("Sent", "", imaplib.Time2Internaldate(time.time()), b"Subject: sent\r\n\r\nx\r\n")
        assert second.select("Sent") == ("OK", [b"1"])
    assert len(installation.inbox("7/several", "pw-several")) == 1


@pytest.fixture(scope="module")
def strict(module_installation: Installation) -> Iterator[Installation]:
    """A server for whose policy everybody has to log in, and nobody may have more than three connections."""
    spec = {
        "serverRef": {"name": "main"},
        "auth": {"required": True},
        "tls": {"required": False},
        "connectionPolicy": {"maxConcurrent": 3},
    }
    policy = manifest("RelayPolicy", "main", spec)
    module_installation.apply("server", server(), domain("a.test", 7), policy)
    module_installation.apply("info", mailbox("info"))
    module_installation.start()
    module_installation.wait_for("Mailbox", "info")
    module_installation.wait_for("RelayPolicy", "main")
    yield module_installation


@pytest.mark.req("R-003-01")
def test_who_has_to_log_in_and_does_not_is_refused(strict: Installation) -> None:
    for service in ("smtp", "submission"):
        with strict.smtp(service) as client:
            client.ehlo("x.example")
            assert client.mail("x@example.net")[0] == 530
            client.login("7/info", "pw-info")
            client.sendmail("info@a.test", ["info@a.test"], "Subject: x\r\n\r\nx\r\n")


@pytest.mark.req("R-001-44")
def test_logins_in_clear_are_taken_where_the_policy_says_so(strict: Installation) -> None:
    with strict.smtp("submission") as client:
        assert client.login("7/info", "pw-info")[0] == 235
    reader = imaplib.IMAP4(*strict.address("imap"), timeout=20)
    assert reader.login("7/info", "pw-info")[0] == "OK"
    reader.logout()


def test_the_connection_after_the_last_one_allowed_is_sent_away(strict: Installation) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(strict.smtp()).ehlo("x.example")
        with pytest.raises(smtplib.SMTPConnectError) as refused, strict.smtp():
            pass
        assert refused.value.smtp_code == 421
    end = time.monotonic() + 10
    while True:
        with contextlib.suppress(smtplib.SMTPConnectError), strict.smtp() as client:
            assert client.ehlo("x.example")[0] == 250
            return
        assert time.monotonic() < end


@pytest.mark.req("R-002-03")
def test_mail_lies_in_the_maildir_of_its_account(installations: Callable[[], EmbeddedInstallation]) -> None:
    made = installations()
    made.apply("server", server(), domain("a.test", 7))
    made.apply("info", mailbox("info"))
    made.start()
    made.wait_for("Mailbox", "info")
    made.deliver("x@example.net", "info@a.test", "found on disk")
    made.wait_for_mail("7/info", "pw-info", 1)
    files = list((made.data / "volumes" / "mail-main-store-0" / "7" / "info" / "Maildir").glob("*/*,*"))
    assert len([f for f in files if b"Subject: found on disk" in f.read_bytes()]) == 1
