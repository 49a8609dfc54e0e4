"""Where a header ends is settled once, and a proper message is not touched by a byte."""

import time

import pytest

from mailpods.message.header import HEADER_LIMIT, HeaderTooLarge, filtered, has, hops, settle, values, without
from mailpods.message.results import without_forged

PROPER = b"Received: x\r\n\tby y\r\nFrom: a@b.test\r\nX-Blank:\r\n \r\nSubject: z\r\n\r\n.body\r\n\r\nend"


@pytest.mark.parametrize(
    ("message", "header", "body"),
    [
        (PROPER, PROPER[: PROPER.index(b"\r\n\r\n") + 2], b".body\r\n\r\nend"),
        (b"text alone\r\nmore\r\n", b"", b"text alone\r\nmore\r\n"),
        (b" folded\r\nSubject: x\r\n\r\n", b"", b" folded\r\nSubject: x\r\n\r\n"),
        (b"A: b\r\nno field\r\nTo: x\r\n\r\n", b"A: b\r\n", b"no field\r\nTo: x\r\n\r\n"),
        (b"From a@b Sat\r\nFrom: a@b\r\n\r\nx", b"From: a@b\r\n", b"x"),
        (b">From a@b Sat\r\nFrom: a@b\r\n\r\nx", b"From: a@b\r\n", b"x"),
        (b"From : a@b\r\n\r\nx", b"From : a@b\r\n", b"x"),  # RFC 5322 §4.5, and no line of an mbox
        (b"A: b\r\nSubject: x\r\n", b"A: b\r\nSubject: x\r\n", b""),
        (b"A: b\r\nSubject: x", b"A: b\r\nSubject: x\r\n", b""),
        (b"A: b\r\nlast", b"A: b\r\n", b"last"),
        (b"\r\nbody", b"", b"body"),
        (b"", b"", b""),
        (b"A\xc3\xa4: b\r\n\r\n", b"", b"A\xc3\xa4: b\r\n\r\n"),
    ],
)
def test_a_header_ends_at_the_same_place_however_it_comes(message: bytes, header: bytes, body: bytes) -> None:
    for size in (1, 2, 3, 7, 1000):
        pieces = [message[n : n + size] for n in range(0, len(message), size)]
        found, rest = settle(pieces)
        assert (found, b"".join(rest)) == (header, body)


def test_a_proper_message_is_not_touched_by_a_byte() -> None:
    header, body = settle([PROPER])
    assert header + b"\r\n" + b"".join(body) == PROPER


def test_a_header_without_end_is_refused_and_takes_no_time() -> None:
    began = time.monotonic()
    with pytest.raises(HeaderTooLarge):
        settle([b"X-Much: more\r\n"] * (HEADER_LIMIT // 10))
    with pytest.raises(HeaderTooLarge):
        settle([b"X-Much: more\r\n" * (HEADER_LIMIT // 10)])
    assert time.monotonic() - began < 2


def test_fields_are_found_in_any_case_folded_and_with_a_space() -> None:
    header = b"RECEIVED : a\r\n\tb\r\nreceived:c\r\nX-Received: d\r\nBcc: secret\r\n\tmore\r\nTo: e\r\n"
    assert values(header, "received") == [b" a\r\n\tb", b"c"]
    assert hops(header) == 2
    assert without(header, ["bcc"]) == header.replace(b"Bcc: secret\r\n\tmore\r\n", b"")
    assert has(header, "to") and not has(header, "cc")
    assert b"received" not in filtered(header, "received", lambda value: value != b"c")


@pytest.mark.parametrize(
    "claim",
    [
        b" mail.example.org; dkim=pass",
        b"\r\n\tMAIL.example.org 1; dkim=pass",
        b' "mail.example.org"; spf=pass',
        b" (comment (nested)) mail.example.org; none",
        b" " + b"(" * 60 + b"x" + b")" * 60 + b" mail.example.org; none",
        b" mail.example.org.; none",
    ],
)
def test_results_that_claim_to_be_ours_go_and_others_stay(claim: bytes) -> None:
    """RFC 8601 §5."""
    others = b"Authentication-Results: other.example; spf=pass\r\nFrom: a@b.test\r\n"
    header = b"authentication-results:" + claim + b"\r\n" + others
    assert without_forged(header, "mail.example.org") == others
