"""A notification can always be made, and says what it is about in forms that every reader knows."""

import email
import itertools
from email.message import Message
from typing import cast

import pytest

from mailpods.delivery.outcomes.dsn import Action, Failure, build, is_international, wants_notification
from mailpods.directory.records import Address
from mailpods.spool.message import Envelope, MessageId, Recipient

WORDS = ["ascii", "größer", "邮件", "\udcff\ud800", "a\x00b\x07\r\nInjected: x", "x" * 5000, "", "é " * 3000]


@pytest.mark.parametrize("utf8", [False, True])
def test_whatever_was_said_one_can_be_made(utf8: bool) -> None:
    for sender, recipient, reply in itertools.product(WORDS, repeat=3):
        _is_made(sender, recipient, reply, utf8)


def _is_made(sender: str, recipient: str, reply: str, utf8: bool) -> None:
    envelope = Envelope(f"{sender}@a.test", (), 1.0, smtputf8=utf8, envid="a+20b+C3")
    told = [Failure(Recipient(Address(f"{recipient}@b.test"), None, f"rfc822;{recipient}"), f"550 {reply}")]
    bodies = (b"Subject: \xff\x00\r\n\r\nx\r\n", f"Subject: {sender}\r\n".encode(errors="replace"), b"")
    for body, action in zip(bodies, ("failed", "delayed", "delivered"), strict=True):
        made = build(MessageId("id"), envelope, body, told, "mx.a.test", 1e9, action)  # type: ignore[arg-type]
        assert max(map(len, made.split(b"\r\n"))) <= 998
        assert made.endswith(b"\r\n") and b"\n" not in made.replace(b"\r\n", b"") and b"\0" not in made
        assert b"\r\nInjected: x" not in made
        message = email.message_from_bytes(made)
        assert message.get_content_type() == "multipart/report"
        people, programs, _ = cast(list[Message], message.get_payload())
        assert people.get_content_type() == "text/plain"
        if not is_international(envelope, told):
            assert programs.as_bytes().isascii()
            assert made.isascii()


def test_where_the_message_was_international_so_is_the_notification() -> None:
    told = [Failure(Recipient(Address("größe@b.test")), "550 5.1.1 unbekannt: größe")]
    utf8 = build(MessageId("id"), Envelope("x@a.test", (), 1.0, smtputf8=True), b"", told, "mx.a.test", 1.0)
    assert "Final-Recipient: utf-8; größe@b.test\r\n".encode() in utf8
    assert b"message/global-delivery-status" in utf8
    plain = build(MessageId("id"), Envelope("x@a.test", (), 1.0), b"", told, "mx.a.test", 1.0)
    assert rb"Final-Recipient: utf-8; gr\x{F6}\x{DF}e@b.test" in plain  # RFC 6533 §3
    assert b"Content-Type: message/delivery-status" in plain


def test_fields_of_rfc_3461_come_back() -> None:
    envelope = Envelope("x@a.test", (), 1.0, ret="FULL", envid="QQ+2B314")
    told = [Failure(Recipient(Address("7/info"), "FAILURE", "rfc822;info@a.test"), "550 5.2.1 disabled")]
    made = build(MessageId("id"), envelope, b"Subject: x\r\n\r\nbody\r\n", told, "mx.a.test", 1.0)
    assert b"Original-Envelope-Id: QQ+314\r\n" in made
    assert b"Original-Recipient: rfc822;info@a.test\r\n" in made and b"Status: 5.2.1\r\n" in made
    assert b"message/rfc822" in made and b"\r\nbody\r\n" in made
    assert b"<info@a.test>" in made  # people see the address that they wrote to


@pytest.mark.parametrize(
    ("sender", "notify", "action", "wanted"),
    [
        ("", None, "failed", False),  # nothing answers a notification (RFC 5321 §6.1)
        ("", "FAILURE", "failed", False),
        ("x@a.test", None, "failed", True),
        ("x@a.test", None, "delayed", True),
        ("x@a.test", "NEVER", "failed", False),
        ("x@a.test", "NEVER", "delayed", False),
        ("x@a.test", "SUCCESS", "failed", False),
        ("x@a.test", "DELAY", "failed", False),
        ("x@a.test", "success,failure", "failed", True),
        ("x@a.test", None, "delivered", False),
        ("x@a.test", "SUCCESS", "relayed", True),
    ],
)
def test_who_is_told_what(sender: str, notify: str | None, action: Action, wanted: bool) -> None:
    recipient = Recipient(Address("y@b.test"), notify)
    assert wants_notification(Envelope(sender, (recipient,), 1.0), recipient, action) is wanted
