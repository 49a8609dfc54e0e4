"""Questions to DNS servers that are silent, broken, or lie."""

import asyncio
from collections.abc import Sequence

import dns.message
import dns.rcode
import pytest

from mailpods.dns import resolver as module
from mailpods.dns.records import MailHost
from mailpods.dns.resolver import NoAnswer, Resolver, Undeliverable
from tests.support.dnsserver import LIES, Answer, Server, serving, zone


def ask(answer: Answer, *domains: str, own: str = "mail.a.test") -> tuple[list[list[MailHost]], Server]:
    """The mail hosts of the domains, asked one after the other."""

    async def run() -> tuple[list[list[MailHost]], Server]:
        async with serving(answer) as server:
            resolver = Resolver([server.resolver])
            return [await resolver.mail_hosts(domain, own) for domain in domains], server

    return asyncio.run(run())


def names(hosts: Sequence[MailHost]) -> list[str]:
    return [host.name for host in hosts]


def test_the_better_ones_come_first_and_equals_in_any_order() -> None:
    records = [f"b.test. 300 IN MX 10 a{n}.test." for n in range(6)] + ["b.test. 300 IN MX 5 best.test."]
    orders = {tuple(names(ask(zone(*records), "b.test")[0][0])) for _ in range(20)}
    assert {order[0] for order in orders} == {"best.test"}
    assert len(orders) > 1


def test_answers_are_kept() -> None:
    _, server = ask(zone("b.test. 300 IN MX 10 mx.test."), "b.test", "b.test", "B.test")
    assert server.asked["MX"] == 1


def test_a_zone_with_hundreds_is_cut() -> None:
    records = [f"b.test. 300 IN MX {n} m{n}.test." for n in range(200)]
    assert names(ask(zone(*records), "b.test")[0][0]) == [f"m{n}.test" for n in range(module.MAX_HOSTS)]


def test_without_mx_the_domain_is_its_own_server() -> None:
    assert ask(zone("b.test. 300 IN A 192.0.2.1"), "b.test")[0] == [[MailHost(0, "b.test")]]


@pytest.mark.parametrize("own", ["mx.test", "MX.test"])
def test_those_as_good_as_ourselves_and_worse_are_left_out(own: str) -> None:
    records = [f"b.test. 300 IN MX {host}.test." for host in ("5 best", "10 mx", "10 b", "20 worse")]
    assert names(ask(zone(*records), "b.test", own=own)[0][0]) == ["best.test"]
    with pytest.raises(Undeliverable, match=r"554 5\.4\.6"):
        ask(zone(*records[1:]), "b.test", own=own)


def test_a_null_mx_takes_no_mail() -> None:
    with pytest.raises(Undeliverable, match=r"556 5\.1\.10"):
        ask(zone("b.test. 300 IN MX 0 ."), "b.test")


def test_what_is_no_host_is_no_mail_server() -> None:
    hosts = ("x,y.test", "10:x.test", "x!", r"a\032b")
    odd = [f"b.test. 300 IN MX {n} {host}." for n, host in enumerate(hosts)]
    assert names(ask(zone(*odd, "b.test. 300 IN MX 20 mx_1.test."), "b.test")[0][0]) == ["mx_1.test"]
    with pytest.raises(Undeliverable, match=r"550 5\.4\.4"):
        ask(zone(*odd), "b.test")


def test_a_domain_that_does_not_exist() -> None:
    with pytest.raises(Undeliverable, match=r"550 5\.1\.2"):
        ask(zone(rcode=dns.rcode.NXDOMAIN), "b.test")


@pytest.mark.parametrize("answer", LIES.values(), ids=LIES.keys())
def test_no_answer_is_never_for_good(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFETIME_SECONDS", 0.5)
    with pytest.raises(NoAnswer, match="no answer for b"):
        ask(answer, "b.test")


@pytest.mark.parametrize("name", ["a" * 64 + ".test", "..", "-.\udc80"])
def test_what_is_no_name_does_no_harm(name: str) -> None:
    with pytest.raises((NoAnswer, Undeliverable)):
        ask(zone(), name)


def addresses(answer: Answer) -> list[str]:
    async def run() -> list[str]:
        async with serving(answer) as server:
            return await Resolver([server.resolver]).addresses("mx.test")

    return asyncio.run(run())


def test_both_kinds_of_addresses_are_tried_in_turn() -> None:
    four = [f"mx.test. 300 IN A 192.0.2.{n}" for n in range(1, 40)]
    six = [f"mx.test. 300 IN AAAA 2001:db8::{n}" for n in range(1, 40)]
    found = addresses(zone(*four, *six))
    assert len(found) == module.MAX_ADDRESSES
    assert [":" in address for address in found[:4]] == [True, False, True, False]
    assert len(addresses(zone(four[0]))) == 1
    assert addresses(zone("mx.test. 300 IN TXT x")) == []


def test_one_kind_without_an_answer_leaves_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFETIME_SECONDS", 0.5)

    def half(question: dns.message.Message) -> bytes | None:
        good = zone("mx.test. 300 IN A 192.0.2.1")
        return good(question) if question.question[0].rdtype == 1 else None

    assert addresses(half) == ["192.0.2.1"]
