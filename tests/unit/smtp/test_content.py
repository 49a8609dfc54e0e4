"""Message text in pieces of any length: where it ends, and what is mended or refused."""

import pytest

from mailpods.refusal import Refusal
from mailpods.smtp.content import BARE, LINE_LIMIT, LONG, NUL, Chunk, Data, MessageContent


def received(text: bytes, size: int, mend: bool = False) -> tuple[MessageContent, bytes | None]:
    """What is made of a text that comes in pieces of this size, and what lies behind its end."""
    data = Data(MessageContent(1 << 30, mend))
    for at in range(0, len(text), size):
        rest = data.feed(text[at : at + size])
        if rest is not None:
            return data.text, rest + text[at + size :]
    return data.text, None


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_dots_are_taken_away_and_the_true_end_alone_ends_it(size: int) -> None:
    content, rest = received(b"..a\r\n.b\r\n \r\n...\r\n.\r\nNOOP\r\n", size)
    assert b"".join(content.pieces) == b".a\r\nb\r\n \r\n..\r\n" and content.problem is None
    assert rest == b"NOOP\r\n"
    content, rest = received(b".\r\nNOOP\r\n", size)
    assert (b"".join(content.pieces), rest) == (b"", b"NOOP\r\n")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    "forged", [b"\n.\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n\x00.\r\n"]
)
def test_a_forged_end_ends_nothing(forged: bytes, size: int) -> None:
    text = b"a" + forged + b"MAIL FROM:<x@y.test>\r\n.\r\nNOOP\r\n"
    content, rest = received(text, size)
    assert content.problem in (BARE, NUL) and not content.pieces and content.kept == 0
    assert rest == b"NOOP\r\n"
    content, rest = received(text, size, mend=True)
    assert rest == b"NOOP\r\n" and (content.problem is NUL or b"MAIL FROM" in b"".join(content.pieces))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_each_line_end_of_a_login_becomes_one(size: int) -> None:
    content, _ = received(b"a\nb\rc\r\nd\n\re\r\r\nf\r\n.\r\n", size, mend=True)
    assert b"".join(content.pieces) == b"a\r\nb\r\nc\r\nd\r\n\r\ne\r\n\r\nf\r\n"
    assert content.kept == len(b"".join(content.pieces))


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_silence_ends_a_text_behind_a_dot_alone_and_only_there(size: int) -> None:
    data = Data(MessageContent(1000, mend=True))
    text = b"a\nb.\r\n"
    for at in range(0, len(text), size):
        assert data.feed(text[at : at + size]) is None
    assert not data.end_by_silence()
    data.feed(b"c\n.")
    assert not data.end_by_silence()
    data.feed(b"\r\n")
    assert data.end_by_silence()
    assert b"".join(data.text.pieces) == b"a\r\nb.\r\nc\r\n"
    strict = Data(MessageContent(1000))
    strict.feed(b"c\n.\r\n")
    assert not strict.end_by_silence()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"x" * LINE_LIMIT + b"\r\n", None),
        (b"x" * (LINE_LIMIT + 1) + b"\r\n", LONG),
        (b"x\x00y\r\n", NUL),
        (b"x\r", BARE),
    ],
)
def test_what_no_mail_may_hold(text: bytes, problem: Refusal | None) -> None:
    content = MessageContent(1 << 30)
    Chunk(content, len(text)).feed(text)
    content.end()
    assert content.problem is problem
