"""What a message needs is decided by its content; for a server of 7 bits it is made so."""

import email
from email.message import Message

import pytest

from mailpods.delivery.client.content import needs_utf8, seven_bit


@pytest.mark.parametrize(
    ("sender", "to", "body", "needs"),
    [
        ("a@b.test", "c@d.test", b"Subject: x\r\n\r\nx\r\n", False),
        ("a@b.test", "c@d.test", "Subject: x\r\n\r\nGr\u00fc\u00dfe\r\n".encode(), False),  # that is 8BITMIME
        ("a@b.test", "c@d.test", "Subject: Gr\u00fc\u00dfe\r\n\r\nx\r\n".encode(), True),
        ("\u00e4@b.test", "c@d.test", b"x\r\n", True),
        ("a@b.test", "c@\u00e4.test", b"x\r\n", True),
    ],
)
def test_what_needs_smtputf8(sender: str, to: str, body: bytes, needs: bool) -> None:
    assert needs_utf8(sender, [to], body) is needs


UMLAUTS = "Gr\u00fc\u00dfe"
TEXT = f"Subject: {UMLAUTS}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{UMLAUTS} = .\r\n.\r\n".encode()
PARTS = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa4\r\n--b\r\n"
    b"Content-Type: image/png\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\x89PNG\xff\r\n--b--\r\n"
)


def leaves(message: Message) -> list[bytes]:
    found = [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]
    return [data.replace(b"\r\n", b"\n").rstrip(b"\n") for data in found if isinstance(data, bytes)]


@pytest.mark.parametrize(
    "body", [TEXT, PARTS, "no header: \u00e4\r\n\r\n\u00e4\r\n".encode(), b"\xff\r\n\r\n\xff\r\n"]
)
def test_the_same_in_seven_bits(body: bytes) -> None:
    made = seven_bit(body)
    assert made is not None and made.isascii() and b"\n" not in made.replace(b"\r\n", b"")
    assert leaves(email.message_from_bytes(made)) == leaves(email.message_from_bytes(body))


def test_what_is_signed_may_not_change() -> None:
    assert seven_bit(PARTS.replace(b"multipart/mixed", b"multipart/signed")) is None
