"""What is asked of a real DNS server, again and again, and told once it changes."""

import shutil
import threading
import time
from collections.abc import Iterator

import pytest
from mail_operator.compiler.snapshot import Question
from mail_operator.engine import dns_prober
from mail_operator.engine.dns_prober import DnsProber

from tests.support.installation import wait
from tests.support.zones import Zones, zones_at

pytestmark = pytest.mark.skipif(shutil.which("knotd") is None, reason="no DNS server: ./run test installs it")


@pytest.fixture
def zones() -> Iterator[Zones]:
    with zones_at("127.0.0.1") as made:
        made.write(
            "a.test",
            "@ MX 10 Mail",
            "@ MX 20 other.test.",
            "_imap._tcp SRV 0 1 143 mail",
            'k._domainkey TXT "v=DKIM1; " "p=AB"',
            "mail A 192.0.2.1",
            "mail AAAA 2001:db8::1",
            "null MX 0 .",
            "_none._tcp SRV 0 0 0 .",
        )
        yield made


@pytest.fixture
def news() -> threading.Event:
    return threading.Event()


def test_records_are_told_in_one_form(zones: Zones, news: threading.Event) -> None:
    expected = {
        ("a.test", "MX"): ("10 mail.a.test", "20 other.test"),
        ("_imap._tcp.a.test", "SRV"): ("0 1 143 mail.a.test",),
        ("k._domainkey.a.test", "TXT"): ("v=DKIM1; p=AB",),
        ("mail.a.test", "A"): ("192.0.2.1",),
        ("mail.a.test", "AAAA"): ("2001:db8::1",),
        ("null.a.test", "MX"): ("0 .",),
        ("_none._tcp.a.test", "SRV"): ("0 0 0 .",),
        ("a.test", "A"): (),
        ("nothing.a.test", "MX"): (),
    }
    made = DnsProber(news.set)
    asked = {Question(name, type_, (zones.resolver,)): answer for (name, type_), answer in expected.items()}
    assert made.look(asked) == {}  # nobody waits
    wait(lambda: made.look(asked) == asked)
    assert news.wait(5)


def test_a_change_is_told_and_what_nobody_asks_is_forgotten(zones: Zones, news: threading.Event) -> None:
    made, question = DnsProber(news.set), Question("a.test", "MX", (zones.resolver,))
    wait(lambda: made.look([question]))
    time.sleep(2 * dns_prober.NEWS_SECONDS)
    news.clear()
    zones.write("a.test", "@ MX 5 new")
    assert news.wait(40)
    assert made.look([question]) == {question: ("5 new.a.test",)}
    assert made.look([]) == {}
    for _ in range(3):  # and asked once however often it comes and goes
        made.look([question])
        made.look([])
    made.look([question])
    assert len([each for _, _, each in made._due if each == question]) <= 1


def test_while_dns_is_silent_the_last_answer_stays(
    zones: Zones, news: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_prober, "SHORTEST_SECONDS", 0.2)
    monkeypatch.setattr(dns_prober, "LONGEST_SECONDS", 0.2)
    monkeypatch.setattr(dns_prober, "LIFETIME_SECONDS", 0.5)
    made, question = DnsProber(news.set), Question("a.test", "MX", (zones.resolver,))
    known = wait(lambda: made.look([question]))
    zones.stop()
    time.sleep(2)
    assert made.look([question]) == known
    assert made.look([question, Question("b.test", "MX", (zones.resolver,))]) == known


def test_new_questions_come_before_those_that_were_answered(
    zones: Zones, news: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_prober, "SHORTEST_SECONDS", 0.01)
    monkeypatch.setattr(dns_prober, "LONGEST_SECONDS", 0.01)
    made = DnsProber(news.set)
    old = [Question(f"n{n}.a.test", "A", (zones.resolver,)) for n in range(50)]
    wait(lambda: len(made.look(old)) == len(old))
    late = Question("mail.a.test", "A", (zones.resolver,))
    began = time.monotonic()
    wait(lambda: late in made.look([*old, late]))
    assert time.monotonic() - began < 2  # all of the others take ten seconds
