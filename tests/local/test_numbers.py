"""Mail belongs to a domain by name: whoever gets its number never sees it, and it comes back to the name."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.installation import EmbeddedInstallation, domain, mailbox, server, wait

A = (domain("a.test"), mailbox("info", "a-test", "pw-a"))
B = (domain("b.test"), mailbox("info-b", "b-test", "pw-b", localPart="info"))
EXPLICIT = (domain("b.test", 1), B[1])


@pytest.mark.parametrize("at_once", [True, False], ids=["replaced in one edit", "one after the other"])
@pytest.mark.parametrize("second", [B, EXPLICIT], ids=["lowest free number", "the same number"])
def test_a_domain_that_follows_another_reads_none_of_its_mail(
    second: tuple[Any, ...], at_once: bool, installations: Callable[[], EmbeddedInstallation]
) -> None:
    made = installations()
    made.apply("server", server())
    made.apply("domain", *A)
    made.start()
    made.wait_for("Mailbox", "info")
    first = made.status("MailDomain", "a-test")["number"]
    made.deliver("x@example.net", "info@a.test", "for a")
    made.wait_for_mail("info@a.test", "pw-a", 1)
    if not at_once:
        made.remove("domain")
        mail = made.data / "volumes" / "mail-main-store-0"
        wait(lambda: list(mail.glob(".parked/*@a.test/info~*")))
    made.apply("domain", *second)
    made.wait_for("Mailbox", "info-b")
    assert made.inbox("info@b.test", "pw-b") == []
    made.deliver("x@example.net", "info@b.test", "for b")
    (only,) = made.wait_for_mail("info@b.test", "pw-b", 1)
    assert b"Subject: for b" in only
    if second is B:
        assert made.status("MailDomain", "b-test")["number"] != first

    made.apply("again", *A)
    made.wait_for("Mailbox", "info")
    (back,) = made.wait_for_mail("info@a.test", "pw-a", 1)
    assert b"Subject: for a" in back
    assert (made.status("MailDomain", "a-test")["number"] == first) == (second is B)
    assert len(made.inbox("info@b.test", "pw-b")) == 1
