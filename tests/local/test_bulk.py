"""Mass mailings have pods, ports, queues and an identity of their own, and limits; nothing else has."""

import json
import re
import smtplib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from typing import Any

import pytest
from mail_operator.components import SMTP

from tests.support.installation import Installation, domain, get, mailbox, message, server, wait
from tests.support.returned import dsn, feedback
from tests.support.world import World, world

SINK, OURS = 121, 77
PORTS = ("bulk", "bulk-submit", "bulk-submits")


@pytest.fixture(scope="module")
def outside(module_installation: Installation) -> Iterator[World]:
    zones = ("mx-host=sink.test,mx.sink.test,10", f"host-record=mx.sink.test,{{net}}.{SINK}")
    with world(module_installation.net, *zones, sinks=[SINK]) as there:
        yield there


@pytest.fixture(scope="module")
def identity(module_installation: Installation) -> tuple[dict[str, str], Callable[[], str]]:
    """What gives the pool an address of its own, and that address."""
    ours = module_installation.at(OURS)
    return {"sourceAddress": ours}, lambda: ours


@pytest.fixture(scope="module")
def installation(
    module_installation: Installation, outside: World, identity: tuple[dict[str, str], Callable[[], str]]
) -> Installation:
    made = module_installation
    bulk = {
        "replicas": 1,
        **identity[0],
        "hostname": "news.a.test",
        "unsubscribeUrl": "https://news.a.test",
        "limits": {"campaignPerHour": 60},
        "complaintsTo": "fbl@a.test",
    }
    made.apply(
        "server",
        server(bulk=bulk),
        domain("a.test", 7),
        domain("b.test", 8, bulk={"enabled": False}),
        mailbox("info"),
        mailbox("fbl"),
        mailbox("anna", "b-test"),
    )
    made.govern({"serverRef": {"name": "main"}, "inbound": {"resolvers": [outside.resolver]}})
    made.start()
    made.wait_for("Mailbox", "info")
    made.wait_for("Mailbox", "anna")
    return made


@contextmanager
def bulk(installation: Installation, port: str, name: str = "7/info") -> Iterator[smtplib.SMTP]:
    """A client of one of the pool's ports, logged in."""
    at = installation.address(port)
    client: smtplib.SMTP
    if port == "bulk-submits":
        client = smtplib.SMTP_SSL(*at, context=installation.tls(), timeout=20)
    else:
        client = smtplib.SMTP(*at, timeout=20)
    with client:
        if port != "bulk-submits":
            client.starttls(context=installation.tls())
        client.login(name, f"pw-{name.partition('/')[2]}")
        yield client


@pytest.mark.req("R-002-21", "R-002-24")
@pytest.mark.parametrize("port", PORTS)
def test_mail_goes_out_over_each_port_with_the_same_login(
    installation: Installation, outside: World, port: str
) -> None:
    to = f"{port}@sink.test"
    with bulk(installation, port) as client:
        client.send_message(message("info@a.test", to))
    wait(lambda: outside.sinks[SINK].to(to), 40)
    with installation.submission("7/info", "pw-info") as client:  # the regular server answers, too
        assert client.noop()[0] == 250


@pytest.mark.req("R-002-23")
def test_the_pool_has_an_address_and_a_name_of_its_own(
    installation: Installation, outside: World, identity: tuple[dict[str, str], Callable[[], str]]
) -> None:
    sink = outside.sinks[SINK]
    with bulk(installation, "bulk-submit") as client:
        client.send_message(message("info@a.test", "mass@sink.test"))
    with installation.submission("7/info", "pw-info") as client:
        client.send_message(message("info@a.test", "single@sink.test"))
    wait(lambda: sink.to("mass@sink.test") and sink.to("single@sink.test"), 40)
    assert sink.client("mass@sink.test") == (identity[1](), "news.a.test")
    address, name = sink.client("single@sink.test")
    assert address != identity[1]() and name == "mail.a.test"


def test_strangers_and_domains_without_it_are_refused(installation: Installation) -> None:
    with smtplib.SMTP(*installation.address("bulk")) as client:
        client.ehlo()
        client.mail("x@example.net")
        assert client.rcpt("info@a.test")[0] == 530
        assert client.rcpt("x@sink.test") == (550, b"relay not permitted")
    with bulk(installation, "bulk-submit", "8/anna") as client:
        code, text = client.mail("anna@b.test")
        assert (code, text[:5]) == (550, b"5.7.1") and b"off for your domain" in text


def test_what_is_over_a_limit_waits_for_its_turn_and_says_so(
    installation: Installation, outside: World
) -> None:
    sink = outside.sinks[SINK]
    with bulk(installation, "bulk-submit") as client:
        for n in range(4):
            made = message("info@a.test", f"limited{n}@sink.test")
            made["X-Campaign"] = "spring"
            client.send_message(made)
        client.send_message(message("info@a.test", "free@sink.test"))  # of no campaign
    wait(lambda: sink.to("free@sink.test"), 40)

    waiting = wait(
        lambda: text if (text := installation.tool("queue")).count("the limit of its campaign") >= 2 else None
    )
    # One a minute, and one at once after the pause before.
    assert 1 <= sum(bool(sink.to(f"limited{n}@sink.test")) for n in range(4)) <= 2
    assert "limited3@sink.test" in waiting


def suppressions(installation: Installation, *words: str) -> str:
    """What is said; of entries without their times."""
    said = installation.tool("suppressions", *words)
    return re.sub(r" +\d{4}-\S+ \S+ +(?:\d{4}-\S+ \S+|removed) +", "  ", said)


def test_who_bounced_for_good_gets_no_further_mailing(installation: Installation, outside: World) -> None:
    sink = outside.sinks[SINK]
    sink.recipient = "550 5.1.1 no such user"
    with bulk(installation, "bulk-submit") as client:
        client.send_message(message("info@a.test", "gone@sink.test"))
    entry = "a.test  gone@sink.test  bounce: 550 5.1.1 no such user"
    wait(lambda: entry in suppressions(installation), 40)
    sink.recipient = "250 2.1.5 Ok"
    with bulk(installation, "bulk-submit") as client:
        client.mail("info@a.test")
        code, text = client.rcpt("gone@sink.test")
        assert code == 550 and b"on the suppression list of your domain: bounce: 550" in text
        assert client.rcpt("there@sink.test")[0] == 250
    with installation.submission("7/info", "pw-info") as client:  # a letter is no mailing
        client.send_message(message("info@a.test", "gone@sink.test"))
    wait(lambda: sink.to("gone@sink.test"), 40)
    suppressions(installation, "remove", "--domain", "a.test", "--address", "gone@sink.test")
    assert "gone@sink.test" not in suppressions(installation)
    with bulk(installation, "bulk-submit") as client:
        client.mail("info@a.test")
        assert client.rcpt("gone@sink.test")[0] == 250


def test_one_click_takes_a_recipient_off_the_list_and_a_look_at_the_link_does_not(
    installation: Installation, outside: World
) -> None:
    def mailing(to: str) -> EmailMessage:
        made = message("info@a.test", to)
        made["X-Unsubscribe"] = "one-click"
        return made

    with bulk(installation, "bulk-submit") as client:
        client.send_message(mailing("tired@sink.test"))
        client.send_message(message("info@a.test", "plain@sink.test"))
    (envelope,) = wait(lambda: outside.sinks[SINK].to("tired@sink.test"), 40)
    (plain,) = wait(lambda: outside.sinks[SINK].to("plain@sink.test"), 40)
    assert isinstance(envelope.content, bytes) and isinstance(plain.content, bytes)
    assert b"List-Unsubscribe" not in plain.content
    got = message_from_bytes(envelope.content)
    assert got["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "list-unsubscribe:list-unsubscribe-post" in "".join(str(got["DKIM-Signature"]).split())
    link = str(got["List-Unsubscribe"]).strip("<>")
    assert link.startswith("https://news.a.test/unsubscribe?t=")
    here = link.replace("https://news.a.test", "http://{}:{}".format(*installation.address("unsubscribe")))

    with urllib.request.urlopen(here) as page:
        assert b"<button>" in page.read()
    assert "tired@sink.test" not in suppressions(installation)
    with urllib.request.urlopen(here, data=b"List-Unsubscribe=One-Click") as answer:
        assert b"tired@sink.test gets no more mailings of a.test" in answer.read()
    assert "a.test  tired@sink.test  unsubscribed" in suppressions(installation)
    forged = here[:-4] + ("AAAA" if here[-4:] != "AAAA" else "BBBB")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(forged, data=b"")


def returned(installation: Installation, sender: str, to: str, text: bytes) -> None:
    """Mail that somebody sends back to this installation."""
    with installation.smtp() as client:
        client.ehlo("mx.sink.test")
        client.sendmail(sender, [to], text)


def test_a_bounce_that_comes_back_later_ends_mailings_and_reaches_the_sender(
    installation: Installation, outside: World
) -> None:
    before, there = events(installation)["next"], len(installation.inbox("7/info", "pw-info"))
    with bulk(installation, "bulk-submit") as client:
        client.send_message(message("info@a.test", "later@sink.test"))
    (envelope,) = wait(lambda: outside.sinks[SINK].to("later@sink.test"), 40)
    marked = envelope.mail_from or ""
    assert marked != "info@a.test" and marked.startswith("info+v=") and marked.endswith("@a.test")
    report = dsn("failed", "5.1.1", "550 5.1.1 user unknown")
    returned(installation, "x@sink.test", marked, report)  # not from the null sender: a letter
    returned(installation, "", marked, dsn("delayed", "4.4.1", "451 later"))
    returned(installation, "", marked, report)
    wait(lambda: "a.test  later@sink.test  bounce: 550 5.1.1 user unknown" in suppressions(installation), 40)
    installation.wait_for_mail("7/info", "pw-info", there + 3, 30)
    found = wait(lambda: [e for e in events(installation, before)["events"] if e["kind"] == "bounced"], 20)
    (event,) = found
    assert (event["recipient"], event["class"]) == ("later@sink.test", "unknown-recipient")


def test_who_complains_gets_no_further_mailing(installation: Installation, outside: World) -> None:
    for to in ("cross@sink.test", "glad@sink.test"):
        with bulk(installation, "bulk-submit") as client:
            client.send_message(message("info@a.test", to))
    marks = {
        to: envelope.mail_from
        for to in ("cross@sink.test", "glad@sink.test")
        for envelope in wait(lambda to=to: outside.sinks[SINK].to(to), 40)  # type: ignore[misc]
    }
    forged = feedback("abuse", "Return-Path: <info@a.test>\r\nTo: glad@sink.test")
    returned(installation, "fbl@sink.test", "fbl@a.test", forged)
    returned(
        installation,
        "fbl@sink.test",
        "fbl@a.test",
        feedback("not-spam", f"Return-Path: <{marks['glad@sink.test']}>"),
    )
    returned(
        installation,
        "fbl@sink.test",
        "fbl@a.test",
        feedback("abuse", f"Return-Path: <{marks['cross@sink.test']}>"),
    )
    wait(lambda: "a.test  cross@sink.test  complaint: abuse" in suppressions(installation), 40)
    installation.wait_for_mail("7/fbl", "pw-fbl", 3, 30)  # people may read them, too
    assert "glad@sink.test" not in suppressions(installation)


def events(installation: Installation, after: str = "") -> dict[str, Any]:
    queue = installation.pod("main-bulk-0", SMTP.port("queue").number)
    found: dict[str, Any] = json.loads(get(queue, f"/events?after={after}"))
    return found


def test_a_program_reads_on_from_where_it_was_what_became_of_a_mailing(
    installation: Installation, outside: World
) -> None:
    before = events(installation)["next"]
    made = message("info@a.test", "event@sink.test")
    made["X-Campaign"] = "autumn"
    with bulk(installation, "bulk-submit") as client:
        client.send_message(made)
    found = wait(lambda: found if (found := events(installation, before))["events"] else None, 40)
    (event,) = found["events"]
    assert (event["kind"], event["recipient"], event["campaign"]) == (
        "delivered",
        "event@sink.test",
        "autumn",
    )
    assert event["sender"] == "info@a.test" and event["reply"].startswith("250")
    assert events(installation, found["next"]) == {"events": [], "next": found["next"]}
    with pytest.raises(urllib.error.HTTPError, match="400"):
        events(installation, "nonsense")
