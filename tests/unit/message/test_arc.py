"""Our seals hold for another's verifier, over chains of forwarders, and break where anything changes."""

import datetime

import dkim  # type: ignore[import-untyped]
import pytest
from mail_operator.compiler.dkim import keys_in, records
from mail_operator.engine.secrets import make_dkim_keys

from mailpods.message import arc
from mailpods.message.dkim import sign
from tests.unit.message.test_dkim import BODIES, HEADERS, PLAIN

KEYS, _ = keys_in(make_dkim_keys(datetime.date(2026, 11, 1)))
(RSA,) = (key for key, _ in KEYS if key.algorithm == "rsa")
(ED25519,) = (key for key, _ in KEYS if key.algorithm == "ed25519")
ZONE = {
    record["name"].encode(): record["value"].replace('" "', "").strip('"').encode()
    for domain in ("a.test", "b.test", "c.test")
    for record in records(KEYS, domain)
}
NOW = 1_793_000_000.0


def texts(name: bytes) -> bytes | None:
    return ZONE.get(name)


def state(message: bytes) -> bytes:
    """Of a message's chain, for dkimpy."""
    found: bytes = dkim.arc_verify(message, dnsfunc=lambda name, timeout=5: ZONE.get(name))[0]
    return found


def forwarded(message: bytes, domain: str = "b.test") -> bytes:
    """The message as a server passes it on."""
    header, _, body = message.partition(b"\r\n\r\n")
    found = arc.findings(message, texts)
    made = arc.seal(header + b"\r\n", [body], f"mail.{domain}", domain, RSA, found, NOW)
    # A last line gets its end on the wire at the latest.
    end = b"" if body.endswith(b"\r\n") or not body else b"\r\n"
    return made + b"Received: from x by y; date\r\n" + message + end


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_a_seal_holds_for_another_verifier(header: bytes, body: bytes) -> None:
    assert state(forwarded(header + b"\r\n" + body)) == b"pass"


def test_a_chain_of_forwarders_holds_and_says_what_the_first_one_found() -> None:
    signed = sign(PLAIN, [b"It works.\r\n"], "a.test", [RSA, ED25519], NOW) + PLAIN + b"\r\nIt works.\r\n"
    once = forwarded(signed)
    assert b"dkim=pass header.d=a.test header.s=r202611" in once
    assert b"dkim=neutral header.d=a.test header.s=e202611" in once and b"arc=none" in once
    twice = forwarded(once, "c.test")
    assert state(twice) == b"pass" and b"i=2" in twice and twice.count(b"cv=pass") == 1
    # A list that changed the message has its own findings to go by; the first ones still stand there.
    changed = once.replace(b"It works.", b"It worked.")
    after = forwarded(changed, "c.test")
    assert b"cv=fail" in after and b"arc=fail" in after and b"dkim=fail header.d=a.test" in after


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"It works", b"It worked"),
        (b"Subject: hello", b"Subject: buy"),
        (b"dkim=none", b"dkim=pass"),
        (b"cv=none", b"cv=pass"),
    ],
)
def test_what_is_changed_behind_a_seal_breaks_it(old: bytes, new: bytes) -> None:
    sealed = forwarded(PLAIN + b"\r\nIt works.\r\n")
    assert old in sealed and state(sealed.replace(old, new)) != b"pass"


def test_a_broken_chain_is_said_to_be_broken_once() -> None:
    broken = forwarded(PLAIN + b"\r\nIt works.\r\n").replace(b"It works", b"It worked")
    said = forwarded(broken, "c.test")
    assert said.count(b"cv=fail") == 1
    assert forwarded(said, "a.test").startswith(b"Received:")  # nothing more to say


def test_a_chain_has_an_end() -> None:
    message = PLAIN + b"\r\nIt works.\r\n"
    full = b"ARC-Seal: i=50; cv=pass; b=x\r\n" + message
    header, _, body = full.partition(b"\r\n\r\n")
    assert arc.seal(header + b"\r\n", [body], "mail.b.test", "b.test", RSA, ("pass", []), NOW) == b""


def test_only_rsa_keys_seal() -> None:
    with pytest.raises(ValueError, match="RSA"):
        arc.seal(PLAIN, [b""], "mail.b.test", "b.test", ED25519, ("none", []), NOW)


@pytest.mark.parametrize(
    "field",
    [
        b"DKIM-Signature: nonsense",
        b"DKIM-Signature: v=1; a=rsa-sha256; d=x\xff\r\n\t y; s=(s; b=",
        b"DKIM-Signature: v=1; a=rsa-sha256; d=nowhere.test; s=s; h=from; bh=AA==; b=AA==",
        b"ARC-Seal: i=1; cv=none\r\nARC-Seal: i=1",
        b"ARC-Seal: i=99999999999999999999",
    ],
)
def test_what_others_wrote_harms_nobody(field: bytes) -> None:
    message = field + b"\r\n" + PLAIN + b"\r\nIt works.\r\n"
    chain, said = arc.findings(message, texts)
    assert chain in ("none", "fail") and all(line.isascii() and line.isprintable() for line in said)
    assert not any(line.startswith(("dkim=pass", "arc=pass")) for line in said)
    forwarded(message)


def test_while_dns_is_silent_that_is_said() -> None:
    signed = sign(PLAIN, [b"x\r\n"], "a.test", [RSA], NOW) + PLAIN + b"\r\nx\r\n"

    def silent(name: bytes) -> bytes | None:
        raise TimeoutError

    assert arc.findings(signed, silent)[1][0].startswith("dkim=temperror")
