"""Rules of a RelayPolicy about strangers: lists, senders, clients, names; each alone, and said beforehand."""

import smtplib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.installation import Installation, domain, mailbox, message, server
from tests.support.world import World, world

NAMED, FORGED, NAMELESS = 21, 22, 23
ZONES = (
    "host-record=client.good.test,{net}.21",  # with its PTR
    "ptr-record=22.{reverse}.in-addr.arpa,www.bank.test",  # which leads elsewhere
    "host-record=www.bank.test,{net}.99",
    "mx-host=sender.test,client.good.test,10",
    "host-record=bad.test,{net}.24",
    "host-record=worse.test,{net}.25",
    "host-record=friend.test,{net}.26",
)
INFO = "info@a.test"


@pytest.fixture(scope="module")
def outside(module_installation: Installation) -> Iterator[World]:
    with world(module_installation.net, *ZONES, sinks=()) as there:
        yield there


@pytest.fixture(scope="module")
def installation(module_installation: Installation, outside: World) -> Installation:
    made = module_installation
    made.apply("server", server(), domain("a.test", 7), mailbox("info"), mailbox("other"))
    govern(made, outside)
    made.start()
    made.wait_for("Mailbox", "info")
    made.wait_for("Mailbox", "other")
    return made


def govern(installation: Installation, outside: World, **spec: Any) -> None:
    """The one policy of the server; on return it is in force."""
    installation.govern({"serverRef": {"name": "main"}, "inbound": {"resolvers": [outside.resolver]}, **spec})


def verdict(
    installation: Installation,
    sender: str = "x@sender.test",
    to: str = INFO,
    client: int = NAMED,
    helo: str = "client.good.test",
) -> tuple[int, str]:
    """What a client gets whose message would come from one of the world's addresses; no message is sent."""
    from_ = (installation.at(client), 0)
    with smtplib.SMTP(*installation.address("smtp"), helo, source_address=from_, timeout=20) as smtp:
        smtp.ehlo()
        code, text = smtp.mail(sender)
        if code == 250:
            code, text = smtp.rcpt(to)
        return code, text.decode()


def refused(installation: Installation, code: int, words: str, **who: Any) -> None:
    """This client gets this reply."""
    found, text = verdict(installation, **who)
    assert found == code and words in text, (found, text)


def rejects(installation: Installation, reason: str) -> int:
    """How often a reason was counted."""
    log = installation.log("main-smtp-0-smtp")
    return log.count(f"reason={reason}")


@pytest.mark.req("R-003-18", "R-003-19")
@pytest.mark.req("R-003-20")
def test_each_kind_of_criterion_refuses_names_its_rule_and_nothing_else(
    installation: Installation, outside: World
) -> None:
    criteria: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
        "sender": ({"sender": "spam@*.test"}, {"sender": "spam@sender.test"}),
        "sender-domain": ({"sender": "bad.test"}, {"sender": "any@bad.test"}),
        "null-sender": ({"sender": "<>", "recipient": "other@a.test"}, {"sender": "", "to": "other@a.test"}),
        "recipient": ({"recipient": "no-*@a.test"}, {"to": "no-more@a.test"}),
        "domain": ({"domain": "worse.test"}, {"sender": "x@below.worse.test"}),
        "client": ({"client": installation.at(48) + "/28"}, {"client": 50}),
        "host-name": (
            {"hostName": "client.good.test", "sender": "n@sender.test"},
            {"sender": "n@sender.test"},
        ),
        "helo": ({"helo": "*.dyn.test"}, {"helo": "h7.dyn.test"}),
    }
    deny = [{"name": name, "criteria": has} for name, (has, _) in criteria.items()]
    govern(installation, outside, lists={"deny": deny})
    for name, (_, who) in criteria.items():
        refused(installation, 550, f"5.7.1 Refused by rule '{name}'", **who)
    assert verdict(installation) == (250, "2.1.5 Ok")
    # What matches but a part of the criteria passes.
    assert verdict(installation, sender="n@sender.test", client=FORGED)[0] == 250
    assert verdict(installation, sender="")[0] == 250
    assert "reason=deny-list rule='helo' code=550" in installation.log("main-smtp-0-smtp")


@pytest.mark.req("R-003-18")
def test_what_is_allowed_passes_what_is_discarded_is_taken_and_nowhere(
    installation: Installation, outside: World
) -> None:
    lists = {
        "allow": [{"name": "friend", "criteria": {"sender": "good@bad.test"}}],
        "deny": [
            {"name": "bad", "criteria": {"sender": "bad.test"}},
            {"name": "drop", "criteria": {"sender": "void@sender.test"}, "action": "discard"},
        ],
    }
    govern(installation, outside, lists=lists, connectionPolicy={"requirePtr": True})
    refused(installation, 550, "bad", sender="x@bad.test")
    assert verdict(installation, sender="good@bad.test") == (250, "2.1.5 Ok")
    # Past the other rules about strangers, too; but nobody is made a relay by it.
    assert verdict(installation, client=NAMELESS)[0] == 550
    assert verdict(installation, sender="good@bad.test", client=NAMELESS)[0] == 250
    assert verdict(installation, sender="good@bad.test", to="x@sink.test") == (550, "relay not permitted")
    assert verdict(installation, sender="good@bad.test", to="nobody@a.test")[0] == 550
    house_mail = message("void@sender.test", INFO, "void")
    with smtplib.SMTP(*installation.address("smtp"), source_address=(installation.at(NAMED), 0)) as smtp:
        assert smtp.send_message(house_mail, "void@sender.test", [INFO]) == {}
        smtp.send_message(message("x@sender.test", INFO, "kept"), "x@sender.test", [INFO])
    (kept,) = installation.wait_for_mail("7/info", "pw-info", 1)
    assert b"Subject: kept" in kept
    discarded = f"discarded client={installation.at(NAMED)} from=<void@sender.test> to=<{INFO}> rule='drop'"
    assert discarded in installation.log("main-smtp-0-smtp")


@pytest.mark.req("R-003-21", "R-003-22")
def test_senders_that_cannot_be_identified_are_refused_each_switch_alone(
    installation: Installation, outside: World
) -> None:
    govern(installation, outside, senderPolicy={"rejectNonFqdn": True})
    refused(installation, 550, "5.1.8 The sender address needs a full domain", sender="x@local")
    assert verdict(installation, sender="x@nx.invalid")[0] == 250
    assert verdict(installation, sender="")[0] == 250
    govern(installation, outside, senderPolicy={"rejectUnknownDomain": True})
    refused(installation, 550, "5.1.8 The sender's domain nx.invalid", sender="x@nx.invalid")
    assert verdict(installation, sender="x@sender.test")[0] == 250  # by its MX
    assert verdict(installation, sender="x@friend.test")[0] == 250  # by its address
    assert verdict(installation, sender="")[0] == 250


@pytest.mark.req("R-003-22")
def test_while_dns_is_silent_senders_are_put_off_and_not_refused(
    installation: Installation, outside: World
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind((installation.at(1), 0))
        inbound = {"resolvers": [f"{installation.at(1)}:{mute.getsockname()[1]}"]}
        strict = {"senderPolicy": {"rejectUnknownDomain": True}}
        installation.govern({"serverRef": {"name": "main"}, "inbound": inbound, **strict})
        refused(installation, 451, "4.4.3", sender="x@another.test")
    govern(installation, outside)
    assert verdict(installation, sender="x@nx.invalid")[0] == 250


@pytest.mark.req("R-003-23")
def test_clients_without_a_name_are_refused(installation: Installation, outside: World) -> None:
    govern(installation, outside, connectionPolicy={"requirePtr": True})
    refused(
        installation,
        550,
        f"5.7.1 Your address {installation.at(NAMELESS)} has no name in DNS",
        client=NAMELESS,
    )
    assert verdict(installation, client=NAMED)[0] == 250
    with installation.submission("7/info", "pw-info") as client:  # whoever logged in is known
        assert client.mail(INFO)[0] == client.rcpt("other@a.test")[0] == 250


@pytest.mark.req("R-003-24")
def test_too_many_connections_within_a_minute_are_sent_away(
    installation: Installation, outside: World
) -> None:
    govern(installation, outside, connectionPolicy={"ratePerMinute": 5})

    def greeted(client: int) -> bool:
        with socket.create_connection(
            installation.address("smtp"), 10, (installation.at(client), 0)
        ) as there:
            return there.recv(200).startswith(b"220")

    assert [greeted(32) for _ in range(6)] == [True] * 5 + [False]
    assert greeted(33)
    govern(installation, outside)
    assert greeted(32)


@pytest.mark.req("R-003-25")
def test_names_in_ehlo_each_switch_alone(installation: Installation, outside: World) -> None:
    govern(installation, outside, helo={"fqdn": True})
    refused(installation, 550, "5.7.1 Say your full host name", helo="laptop")
    assert verdict(installation, helo="nx.invalid")[0] == 250
    assert verdict(installation, helo=f"[{installation.at(NAMED)}]")[0] == 250
    govern(installation, outside, helo={"known": True})
    refused(installation, 550, "nx.invalid that you gave in EHLO is not in DNS", helo="nx.invalid")
    assert verdict(installation, helo="client.good.test")[0] == 250
    govern(installation, outside, helo={"required": False})

    def without_hello() -> int:
        with smtplib.SMTP(*installation.address("smtp")) as smtp:
            return smtp.docmd("MAIL FROM:<x@sender.test>")[0]

    assert without_hello() == 250
    govern(installation, outside)
    assert without_hello() == 503


@pytest.mark.req("R-003-25")
def test_early_talkers_are_sent_away(installation: Installation, outside: World) -> None:
    govern(installation, outside, connectionPolicy={"rejectEarlyTalkers": True})

    def first_reply(early: bool) -> bytes:
        with socket.create_connection(installation.address("smtp"), 10) as client:
            if early:
                client.sendall(b"EHLO client.good.test\r\n")
            return client.recv(200)

    assert first_reply(early=True).startswith(b"554 5.5.1")
    began = time.monotonic()
    assert first_reply(early=False).startswith(b"220")
    assert time.monotonic() - began > 1  # it was given time to betray itself
    assert rejects(installation, "early-talker") >= 1


@pytest.mark.req("R-003-26", "R-003-27")
def test_extended_rules_each_alone(installation: Installation, outside: World) -> None:
    def vrfy() -> int:
        with smtplib.SMTP(*installation.address("smtp")) as smtp:
            return smtp.docmd("VRFY", "info")[0]

    def pipelined(commands: bytes) -> bytes:
        with socket.create_connection(installation.address("smtp"), 10) as client:
            client.recv(200)
            client.sendall(commands)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := client.recv(4096):
                answer += piece
            return answer

    premature = b"EHLO a.test\r\nMAIL FROM:<x@sender.test>\r\n"
    govern(installation, outside)
    assert vrfy() == 252
    assert b"250 2.1.0" in pipelined(premature)
    govern(installation, outside, advanced={"disableVrfy": True})
    assert vrfy() == 502
    assert b"250 2.1.0" in pipelined(premature)
    govern(installation, outside, advanced={"refuseEarlyPipelining": True})
    assert b"503 5.5.1" in pipelined(premature)
    assert vrfy() == 252
    with installation.smtp() as smtp:  # PIPELINING as it was offered stays
        smtp.ehlo()
        smtp.send("MAIL FROM:<x@sender.test>\r\nRCPT TO:<info@a.test>\r\nRCPT TO:<other@a.test>\r\n")
        assert [smtp.getreply()[0] for _ in range(3)] == [250, 250, 250]
    with installation.smtp("submission") as smtp:  # no AUTH without TLS
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        assert smtp.docmd("AUTH", "PLAIN AGEAYg==")[0] in (530, 538, 504)


def test_explain_says_beforehand_what_would_happen(installation: Installation, outside: World) -> None:
    lists = {"deny": [{"name": "no bad", "criteria": {"sender": "bad.test"}}]}
    govern(
        installation,
        outside,
        lists=lists,
        outbound={"trusted": [{"name": "t", "cidr": installation.at(64) + "/28"}]},
    )
    assert verdict(installation, sender="x@bad.test")[0] == 550

    def explained(*words: str) -> str:
        return installation.tool("explain", *words)

    stranger = ("--client", installation.at(NAMED), "--to", INFO, "--from")
    denied = explained(*stranger, "x@bad.test")
    assert "RCPT TO: refused, deny-list (rule 'no bad'): 550 5.7.1" in denied
    assert "accepted" in explained(*stranger, "x@sender.test")
    relay = explained("--client", installation.at(NAMED), "--from", "x@sender.test", "--to", "y@sink.test")
    assert "relay_not_permitted: 550 relay not permitted" in relay
    trusted = explained("--client", installation.at(70), "--from", "x@sender.test", "--to", "y@sink.test")
    assert "trusted" in trusted and "goes to the servers of its domain" in trusted
    foreign = explained("--login", "7/info", "--from", "other@a.test", "--to", INFO)
    assert "MAIL FROM: refused, sender-mismatch" in foreign
    assert "no account" in installation.tool("explain", INFO, "--login", "9/nobody", fails=True)


@pytest.mark.req("R-003-05", "R-003-06", "R-003-33")
def test_the_profile_and_the_limits_hold_for_strangers_and_users_alike(
    installation: Installation, outside: World
) -> None:
    profile = {"hostname": "relay.a.test", "banner": "Our own words", "helpUrl": "https://help.a.test/relay"}
    limits = {"recipients": 3, "hops": 5, "messageSize": "10k"}
    govern(installation, outside, profile=profile, limits=limits)
    with socket.create_connection(installation.address("smtp"), 10) as greeted:
        assert greeted.recv(200) == b"220 relay.a.test Our own words\r\n"
    hop = "Received: from a.example by b.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    looping, large = hop * 6 + "Subject: x\r\n\r\nx\r\n", "Subject: x\r\n\r\n" + "x" * 60 * 200
    with installation.smtp() as stranger, installation.submission("7/info", "pw-info") as user:
        stranger.ehlo("client.good.test")
        for client, sender in ((stranger, "x@sender.test"), (user, INFO)):
            assert client.mail(sender)[0] == 250
            assert [client.rcpt(INFO)[0] for _ in range(4)] == [250, 250, 250, 452]
            client.rset()
            with pytest.raises(smtplib.SMTPDataError, match="loop"):
                client.sendmail(sender, [INFO], looping)
            assert client.docmd(f"MAIL FROM:<{sender}> SIZE=10001")[0] == 552
            with pytest.raises(smtplib.SMTPDataError, match="larger than"):
                client.mail(sender)
                client.rcpt(INFO)
                code, text = client.data(large)
                raise smtplib.SMTPDataError(code, text.decode().lower())
        stranger.rset()
        stranger.mail("x@sender.test")
        code, text = stranger.rcpt("x@sink.test")
        assert (code, text) == (550, b"relay not permitted https://help.a.test/relay")


@pytest.mark.req("R-003-07")
def test_mail_to_postmaster_reaches_all_external_postmasters(
    installation: Installation, outside: World
) -> None:
    installation.apply("boss", mailbox("boss"), mailbox("vice"))
    for name in ("boss", "vice"):
        installation.wait_for("Mailbox", name)
    govern(installation, outside, externalPostmasters=["boss@a.test", "vice@a.test"])
    for n, to in enumerate(("postmaster@a.test", "mailer-daemon@a.test", "postmaster"), 1):
        installation.deliver("x@sender.test", to, f"for the {to}")
        for name in ("boss", "vice"):
            installation.wait_for_mail(f"7/{name}", f"pw-{name}", n)


@pytest.mark.req("R-003-13", "R-003-15")
def test_the_second_resolver_answers_while_the_first_one_is_down(
    installation: Installation, outside: World
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind((installation.at(1), 0))
        nobody = f"{installation.at(1)}:{closed.getsockname()[1]}"
    inbound = {"resolvers": [nobody, outside.resolver]}
    strict = {"senderPolicy": {"rejectUnknownDomain": True}}
    installation.govern({"serverRef": {"name": "main"}, "inbound": inbound, **strict})
    assert verdict(installation, sender="x@friend.test")[0] == 250
    refused(installation, 550, "nx2.invalid has neither", sender="x@nx2.invalid")
