"""What bounces and complaints say, in the forms in which servers write them."""

import pytest

from mailpods.bulk.returned import BOUNCE, COMPLAINT, bounce, complaint, target_of
from mailpods.delivery.outcomes import response_classes
from mailpods.message.verp import Verp, token
from tests.support.returned import dsn, feedback

KEY = "key"
VERP = Verp(KEY)
MARKED = VERP.mark("news@a.test", "user@far.test")


@pytest.mark.parametrize(
    ("text", "class_", "final"),
    [
        (dsn("failed", "5.1.1", "550 5.1.1 <user@far.test>: user unknown"), "unknown-recipient", True),
        (dsn("Failed", "5.1.1", ""), "unknown-recipient", True),
        (dsn("failed", "5.2.1", "550-5.2.1 disabled"), "mailbox-disabled", True),
        (dsn("failed", "5.2.2", "552 5.2.2 mailbox full"), "mailbox-full", False),
        (dsn("failed", "5.7.1", "554 5.7.1 spam"), "spam", False),
        (dsn("failed", "4.2.1", "450 4.2.1 mailbox disabled for now"), "mailbox-disabled", False),
        (dsn("failed", "4.1.1", ""), "unknown-recipient", False),
        (dsn("failed", "5.1.1", "450 4.1.1 user unknown in our cache"), "unknown-recipient", False),
        (dsn("failed", "5.2.1", "550 5.2.1 mailbox disabled: over quota"), "mailbox-full", False),
        (b"From: MAILER-DAEMON@far.test\r\n\r\nSorry, no such user here.\r\n", "unknown-recipient", True),
        (b"From: Postmaster <x@far.test>\r\n\r\nSomething went wrong.\r\n", "permanent", False),
        (b"From: <mailer-daemon@far.test>\r\n\r\n\xff\xfe\x00", "permanent", False),
    ],
)
def test_a_bounce_is_classed_by_what_the_server_said(text: bytes, class_: str, final: bool) -> None:
    found = bounce(text, "a.test", "user@far.test", response_classes.of_text)
    assert found is not None and (found.kind, found.class_, found.final) == ("bounced", class_, final)
    assert (found.domain, found.recipient) == ("a.test", "user@far.test")


@pytest.mark.parametrize(
    "text",
    [
        dsn("delayed", "4.4.1", "451 later"),
        b"From: User <user@far.test>\r\nSubject: Away\r\n\r\nThat user unknown to you is away.\r\n",
        b"\xff\xfe\x00",
        b"",
    ],
)
def test_delays_and_absences_give_nothing_up(text: bytes) -> None:
    assert bounce(text, "a.test", "user@far.test", response_classes.of_text) is None


LINK = f"List-Unsubscribe: <https://news.a.test/unsubscribe?t={token(KEY, 'a.test', 'user@far.test')}>"


@pytest.mark.parametrize(
    "text",
    [
        feedback("abuse", f"Return-Path: <{MARKED}>"),
        feedback("abuse", f"Return-Path: <{MARKED}>", part="text/rfc822-headers"),
        feedback("abuse", "X: y", f"Original-Mail-From: <{MARKED}>\r\n"),
        feedback("fraud", LINK),
        feedback("abuse", LINK.replace("?t=", "?t=\r\n ")),
    ],
)
def test_a_complaint_is_known_by_marks_of_ours(text: bytes) -> None:
    found = complaint(text, VERP, KEY)
    assert found is not None and found.final and found.kind == "complained"
    assert (found.domain, found.recipient) == ("a.test", "user@far.test")


@pytest.mark.parametrize(
    "text",
    [
        feedback("not-spam", LINK),
        feedback("abuse", "Return-Path: <news@a.test>", "Original-Rcpt-To: <user@far.test>\r\n"),
        feedback("abuse", f"Return-Path: <{Verp('other').mark('news@a.test', 'user@far.test')}>"),
        f"Return-Path: <{MARKED}>\r\n{LINK}\r\nSubject: no report\r\n\r\nx\r\n".encode(),
        b"",
    ],
)
def test_nothing_follows_from_what_anybody_could_write(text: bytes) -> None:
    assert complaint(text, VERP, KEY) is None


def test_what_goes_to_be_read() -> None:
    assert target_of(MARKED, "", None, VERP) == f"{BOUNCE}a.test user@far.test"
    assert target_of(MARKED, "x@far.test", None, VERP) is None  # a letter, and no bounce
    assert target_of("fbl@a.test", "x@far.test", "fbl@a.test", VERP) == COMPLAINT
    assert target_of("news@a.test", "", "fbl@a.test", VERP) is None
