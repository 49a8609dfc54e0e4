"""Our signatures hold for another's verifier, whatever a message looks like, and break where it changes."""

import base64
import datetime

import dkim  # type: ignore[import-untyped]
import pytest
from mail_operator.compiler.dkim import keys_in, records, signing
from mail_operator.engine.secrets import make_dkim_keys

from mailpods.directory.records import DkimKey
from mailpods.message.dkim import sign

KEYS, _ = keys_in(make_dkim_keys(datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)))
ZONE = {
    record["name"].encode(): record["value"].replace('" "', "").strip('"').encode()
    for record in records(KEYS, "a.test")
}
PLAIN = b"From: info@a.test\r\nTo: x@b.test\r\nSubject: hello\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n"
NOW = 1_793_000_000.0
BODIES = {
    "plain": b"It works.\r\n",
    "empty": b"",
    "empty lines": b"\r\n\r\n\r\n",
    "ends in empty lines": b"text\r\n\r\n\r\n",
    "spaces": b"a  b\t c \r\n \t\r\nd\t\r\n",
    "no last line end": b"first\r\nlast",
    "no last line end, space": b"first\r\nlast \t",
    "large": b"0123456789 abcdef\r\n" * 20_000,
    "eight bit": "Grüße\r\n".encode(),
    "dots": b".\r\n..\r\n",
    "only spaces": b"   \r\n",
}
HEADERS = {
    "plain": PLAIN,
    "folded": b"from:  Info \r\n\t<info@a.test>\r\nSubject: a\r\n b\t c\r\n" + PLAIN[19:],
    "twice": PLAIN + b"To: y@b.test\r\nReceived: by x\r\nReceived: by y\r\n",
    "without": b"From: info@a.test\r\n",
    "mime": PLAIN + b"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n\tcharset=utf-8\r\n",
}


def dns(name: bytes, timeout: int = 5) -> bytes | None:
    return ZONE.get(name)


def verified(message: bytes) -> list[bool]:
    """Of each signature, whether it holds."""
    check = dkim.DKIM(message)
    count = len([name for name, _ in check.headers if name.lower() == b"dkim-signature"])
    return [_holds(message, n) for n in range(count)]


def _holds(message: bytes, number: int) -> bool:
    try:
        return bool(dkim.DKIM(message).verify(number, dnsfunc=dns))
    except dkim.ValidationError:
        return False


def signed(header: bytes, body: bytes, keys: list[DkimKey] | None = None) -> bytes:
    chosen = keys or [key for key, _ in KEYS]
    # A last line gets its end on the wire at the latest.
    end = b"" if body.endswith(b"\r\n") or not body else b"\r\n"
    return sign(header, [body], "a.test", chosen, NOW) + header + b"\r\n" + body + end


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_both_signatures_hold(header: bytes, body: bytes) -> None:
    assert verified(signed(header, body)) == [True, True]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.replace(b"It works", b"It worked"),
        lambda m: m.replace(b"Subject: hello", b"Subject: hell"),
        lambda m: b"From: other@a.test\r\n" + m,  # a second one in front
        lambda m: m.replace(b"To: x@b.test", b"To: y@b.test"),
    ],
)
def test_a_change_breaks_them(change: object) -> None:
    message = change(signed(PLAIN, BODIES["plain"]))  # type: ignore[operator]
    assert verified(message) == [False, False]


def test_changes_of_white_space_alone_do_not() -> None:
    message = signed(PLAIN, b"a b\r\n").replace(b"\r\na b\r\n", b"\r\na   b \t\r\n\r\n")
    assert verified(message.replace(b"Subject: hello", b"subject:   hello")) == [True, True]


def test_pieces_are_as_good_as_the_whole() -> None:
    keys = [key for key, _ in KEYS if key.algorithm == "ed25519"]
    body = BODIES["large"]
    whole = sign(PLAIN, [body], "a.test", keys, NOW)
    assert sign(PLAIN, [body[:777], body[777:5000], body[5000:]], "a.test", keys, NOW) == whole


def test_what_is_no_key_is_named() -> None:
    good = next(iter(make_dkim_keys(datetime.datetime.now(datetime.UTC)).values()))
    broken = {"r1.key": b"no key", "active": b"r1", "x.key": good}
    keys, bad = keys_in(broken)
    assert [key.selector for key, _ in keys] == ["x"] and bad == ["r1.key"]
    with pytest.raises(ValueError, match="DKIM key s"):
        signed(PLAIN, b"", [DkimKey("s", "rsa", base64.b64encode(b"nothing").decode())])


def test_while_selectors_are_named_active_the_others_do_not_sign() -> None:
    values = make_dkim_keys(datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC))
    keys, _ = keys_in(values)
    assert [key.selector for key in signing(keys, values)] == ["e202611", "r202611"]
    assert [key.selector for key in signing(keys, {**values, "active": b"r202611 gone\n"})] == ["r202611"]
    assert len(signing(keys, {**values, "active": b"gone"})) == 2  # a slip of the pen leaves nothing unsigned
    assert len(list(records(keys, "a.test"))) == 2  # the zone shows all of them
