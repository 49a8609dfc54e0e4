"""What strangers sign, and what their DNS does, bounds what a seal may cost."""

import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import pytest
from mail_operator.compiler.dkim import keys_in
from mail_operator.engine.secrets import make_dkim_keys

from mailpods.directory.records import Address, Domain, DomainName, Server
from mailpods.message.dkim import sign
from mailpods.reception import seal
from mailpods.reception.receive import IncomingMessage, seal_forward
from mailpods.reception.recipients import Taken
from mailpods.reception.state import ReceptionState
from mailpods.routing.router import Routed
from mailpods.rules.context import PolicyContext
from mailpods.rules.settings import Settings
from mailpods.smtp.machine import Mail

KEYS = [key for key, _ in keys_in(make_dkim_keys(datetime.date(2026, 11, 1)))[0]]
(RSA,) = (key for key in KEYS if key.algorithm == "rsa")
HEADER = b"From: x@far.test\r\nTo: out@a.test\r\nSubject: hello\r\n"
SIGNED = sign(HEADER, [b"x\r\n"], "far.test", [RSA], 1_793_000_000.0) + HEADER
Texts = Callable[[str], Awaitable[list[str]]]


def sealed(texts: Texts, domain: Domain = Domain(7, dkim=tuple(KEYS)), to: str = "out@a.test") -> bytes:  # noqa: B008
    """What a stranger's message to an address of ours gets in front that leads to another server."""
    known = {DomainName("a.test"): domain, DomainName("b.test"): Domain(7, DomainName("a.test"))}
    state = SimpleNamespace(
        reader=SimpleNamespace(domain=known.get), names=SimpleNamespace(texts=texts)
    )  # as much of one as a seal needs
    taken = Taken(Address(to), Routed((), (Address("x@elsewhere.test"),)))
    context = PolicyContext(Settings(Server("mail.a.test")), "192.0.2.1", False, False)
    message = IncomingMessage(
        context, Mail("x@far.test"), (taken,), (), True, 99, [b"x\r\n"], 1_793_000_000.0, SIGNED
    )
    asyncio.run(seal_forward(message, cast(ReceptionState, state)))
    return message.front


async def nothing(name: str) -> list[str]:
    return []


@pytest.mark.parametrize(("to", "domain"), [("out@a.test", b"d=a.test"), ("out@b.test", b"d=b.test")])
def test_the_domain_of_the_address_seals_by_the_keys_of_its_owner(to: str, domain: bytes) -> None:
    made = sealed(nothing, to=to)
    assert made.count(b"\r\nARC-") == 2 and made.startswith(b"ARC-Seal:") and domain in made
    assert b"dkim=fail header.d=far.test" in made


def test_without_an_rsa_key_nothing_is_sealed() -> None:
    assert sealed(nothing, Domain(7)) == b""
    assert sealed(nothing, Domain(7, dkim=tuple(key for key in KEYS if key is not RSA))) == b""


def test_a_key_that_would_keep_us_at_sums_is_none() -> None:
    async def huge(name: str) -> list[str]:
        return ["v=DKIM1; k=rsa; p=" + "A" * 60_000]

    began = time.monotonic()
    assert b"dkim=fail" in sealed(huge)
    assert time.monotonic() - began < 2


def test_dns_that_hangs_holds_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "VERIFY_SECONDS", 0.5)

    async def hangs(name: str) -> list[str]:
        await asyncio.sleep(60)
        return []

    began = time.monotonic()
    made = sealed(hangs)
    assert time.monotonic() - began < 5
    assert made == b"" or b"dkim=temperror" in made
