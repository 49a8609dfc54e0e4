"""An account gets another address and keeps mail, flags, filters and quota; the former one leads to it."""

from collections.abc import Callable
from typing import Any

from tests.support.installation import EmbeddedInstallation, domain, mailbox, server, wait
from tests.support.managesieve import ManageSieve

SCRIPT = b'require ["fileinto", "mailbox"];\r\nif header :contains "subject" "invoice" {\r\n'
SCRIPT += b'  fileinto :create "Invoices";\r\n}\r\n'
FORMER = {"localPart": "anna"}


def renamed(name: str, of: str, **spec: Any) -> list[dict[str, Any]]:
    return mailbox(name, of, "pw", quota="1Gi", **spec)


def fill(made: EmbeddedInstallation) -> None:
    """Anna's mailbox: a message that was answered, a filter, and what that sorted."""
    sieve = ManageSieve(made.address("sieve"), made.tls())
    sieve.login("7/anna", "pw")
    sieve.ask(b'PUTSCRIPT "mine" {%d+}\r\n%s' % (len(SCRIPT), SCRIPT))
    sieve.ask(b'SETACTIVE "mine"')
    sieve.close()
    made.deliver("x@example.net", "anna@a.test", "hello")
    made.deliver("x@example.net", "anna@a.test", "invoice 1")
    made.wait_for_mail("7/anna", "pw", 1)
    with made.imap("7/anna", "pw") as client:
        client.select("INBOX")
        client.store("1", "+FLAGS", r"(\Answered \Flagged)")
    wait(lambda: used(made, "7/anna")[1] == "1048576")
    wait(lambda: count(made, "7/anna", "Invoices") == 1)


def count(made: EmbeddedInstallation, login: str, folder: str) -> int:
    with made.imap(login, "pw") as client:
        status, found = client.select(folder, readonly=True)
        return int(found[0] or b"0") if status == "OK" else 0


def used(made: EmbeddedInstallation, login: str) -> tuple[str, str]:
    """What is used of the quota, and the quota: KiB."""
    with made.imap(login, "pw") as client:
        _, (_, (line, *_)) = client.getquotaroot("INBOX")
        words = line.decode().strip("()").split("STORAGE ")[1].split()
        return words[0], words[1].strip(")")


def has_all(made: EmbeddedInstallation, login: str) -> None:
    (only, *_) = made.inbox(login, "pw")
    assert b"Subject: hello" in only
    with made.imap(login, "pw") as client:
        client.select("INBOX", readonly=True)
        _, (flags, *_) = client.fetch("1", "(FLAGS)")
        assert isinstance(flags, bytes) and b"\\Answered" in flags and b"\\Flagged" in flags
    sieve = ManageSieve(made.address("sieve"), made.tls())
    sieve.login(login, "pw")
    assert b'"mine" ACTIVE\r\n' in sieve.ask(b"LISTSCRIPTS")
    sieve.close()


def test_an_account_gets_another_local_part(installations: Callable[[], EmbeddedInstallation]) -> None:
    made = installations()
    made.apply("server", server(), domain("a.test", 7))
    made.apply("anna", renamed("anna", "a-test"))
    made.start()
    made.wait_for("Mailbox", "anna")
    fill(made)
    before = used(made, "7/anna")

    # The new one waits while the former is there, which works on.
    made.apply("berta", renamed("berta", "a-test", formerAddress=FORMER))
    said = made.wait_for("Mailbox", "berta", "False")
    assert said["reason"] == "FormerAddressHeld"
    has_all(made, "7/anna")

    with made.imap("7/anna", "pw") as client:
        client.select("INBOX")
        made.remove("anna")
        made.wait_for("Mailbox", "berta")
        wait(lambda: is_over(client), why="the session of the former login did not end")
    has_all(made, "7/berta")
    assert used(made, "7/berta") == before
    assert not made.can_log_in("7/anna", "pw")

    made.deliver("x@example.net", "anna@a.test", "to the former address")
    made.deliver("x@example.net", "anna@a.test", "invoice 2")
    assert b"to the former" in made.wait_for_mail("7/berta", "pw", 2)[1]
    wait(lambda: count(made, "7/berta", "Invoices") == 2)

    # Once more, and after a new start: nothing is done again.
    made.apply("berta", renamed("berta", "a-test", formerAddress=FORMER))
    made.stop()
    made.start()
    made.wait_for("Mailbox", "berta")
    has_all(made, "7/berta")

    # Somebody new may have the former address once it is given up, and finds nothing there.
    made.apply("second", renamed("second", "a-test", localPart="anna"))
    assert made.wait_for("Mailbox", "second", "False")["reason"] == "AddressTaken"
    given_up = {**FORMER, "keepAsAlias": False}
    made.apply("berta", renamed("berta", "a-test", formerAddress=given_up))
    made.wait_for("Mailbox", "second")
    assert made.inbox("7/anna", "pw") == []
    made.deliver("x@example.net", "anna@a.test", "to somebody new")
    assert b"to somebody new" in made.wait_for_mail("7/anna", "pw", 1)[0]
    has_all(made, "7/berta")
    assert len(made.inbox("7/berta", "pw")) == 2


def is_over(client: Any) -> bool:
    try:
        return bool(client.noop()[0] != "OK")
    except (client.abort, OSError):
        return True


def test_an_account_gets_another_domain_in_one_edit(
    installations: Callable[[], EmbeddedInstallation],
) -> None:
    made = installations()
    made.apply("server", server(), domain("a.test", 7), domain("b.test", 9))
    made.apply("anna", renamed("anna", "a-test"))
    made.start()
    made.wait_for("Mailbox", "anna")
    fill(made)
    former = {"domainRef": {"name": "a-test"}}
    moved = renamed("anna-b", "b-test", localPart="anna", formerAddress=former)
    made.apply("anna", moved)
    made.wait_for("Mailbox", "anna-b")
    has_all(made, "9/anna")
    made.deliver("x@example.net", "anna@a.test", "to the former address")
    made.deliver("x@example.net", "anna@b.test", "to the new one")
    made.wait_for_mail("anna@b.test", "pw", 3)

    # The former domain may go.
    made.apply("server", server(), domain("b.test", 9))
    assert made.wait_for("Mailbox", "anna-b", "False")["reason"] == "DomainMissing"
    has_all(made, "9/anna")
    made.apply("anna", renamed("anna-b", "b-test", localPart="anna"))
    made.wait_for("Mailbox", "anna-b")
    has_all(made, "9/anna")
