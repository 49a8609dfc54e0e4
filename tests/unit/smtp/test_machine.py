"""A session without a socket: commands in, actions out."""

import pytest

from mailpods.smtp.machine import (
    Authenticate,
    HangUp,
    Hello,
    Machine,
    Mail,
    Misuse,
    Rcpt,
    ReadChunk,
    ReadData,
    StartTls,
)
from mailpods.smtp.sasl import Challenge, Credentials, Exchange, Failure


def ready(recipients: int = 1, utf8: bool = False) -> Machine:
    """With EHLO said, and a transaction."""
    machine = Machine()
    machine.said_hello(esmtp=True)
    machine.began(Mail("x@far.test", utf8=utf8))
    for _ in range(recipients):
        machine.took_recipient()
    return machine


def code(action: object) -> bytes:
    assert isinstance(action, Misuse | HangUp), action
    return action.reply[:3]


def test_commands_in_their_order() -> None:
    machine = Machine()
    assert machine.command("EHLO", "c.test") == Hello("c.test", True)
    machine.said_hello(esmtp=True)
    assert code(machine.command("RCPT", "TO:<a@b.test>")) == b"503"
    mail = machine.command("MAIL", "FROM:<x@far.test> SIZE=9 BODY=8BITMIME SMTPUTF8")
    assert mail == Mail("x@far.test", 9, True, True)
    machine.began(mail)
    assert code(machine.command("MAIL", "FROM:<>")) == b"503"
    assert code(machine.command("DATA", "")) == b"554"
    assert machine.command("RCPT", "TO:<a@b.test>") == Rcpt("a@b.test")
    machine.took_recipient()
    assert machine.command("DATA", "") == ReadData()


def test_tls_makes_everything_forgotten() -> None:
    machine = ready()
    assert machine.command("STARTTLS", "") == StartTls()
    machine.started_tls()
    assert machine.mail is None and not machine.esmtp
    assert code(machine.command("STARTTLS", "")) == b"503"
    assert code(machine.command("AUTH", "PLAIN")) == b"503"
    machine.said_hello(esmtp=True)
    assert machine.command("AUTH", "PLAIN") == Authenticate("PLAIN")


@pytest.mark.parametrize("verb", ["RCPT", "MAIL", "DATA", "EHLO", "VRFY", "HELP", "STARTTLS", "AUTH"])
def test_between_chunks_nothing_else_makes_sense(verb: str) -> None:
    """RFC 3030 §2."""
    machine = ready()
    assert machine.command("BDAT", "5") == ReadChunk(5, False)
    assert code(machine.command(verb, "TO:<a@b.test>")) == b"503"
    assert machine.command("BDAT", "0 LAST") == ReadChunk(0, True)
    machine.reset()
    assert code(machine.command("RCPT", "TO:<a@b.test>")) == b"503"


@pytest.mark.parametrize("argument", ["\u0665 LAST", "", "-1", "5 FIRST", "5 LAST LAST", "1" * 21, "0x5"])
def test_a_size_that_is_none_ends_the_session(argument: str) -> None:
    action = ready().command("BDAT", argument)
    assert isinstance(action, HangUp) and code(action) == b"501"


def test_unwanted_octets_are_read_all_the_same() -> None:
    action = Machine().command("BDAT", "5 LAST")
    assert isinstance(action, ReadChunk) and action.octets == 5 and code(action.refusal) == b"503"
    action = ready(recipients=0).command("BDAT", "5 LAST")
    assert isinstance(action, ReadChunk) and code(action.refusal) == b"554"


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("<a@b.test>", "a@b.test"),
        ("<PostMaster>", "postmaster"),
        ('<"a b"@c.test>', '"a b"@c.test'),
        ('<"ab"@c.test>', "ab@c.test"),
        ("<@x.test,@y.test:a@b.test>", "a@b.test"),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("<jörg@a.test>", "jörg@a.test"),
        ("<info@straße.test>", "info@xn--strae-oqa.test"),
        ("<info@BÜCHER.example>", "info@xn--bcher-kva.example"),
    ],
)
def test_paths(path: str, address: str) -> None:
    assert ready(utf8=True).command("RCPT", f"TO:{path}") == Rcpt(address)


@pytest.mark.parametrize(
    "path",
    [
        *("<$(id)@a.test>", "<a b@c.test>", "a@b.test", "<a@b.test", "<@a.test>", "<a@>", "<>"),
        *("<a@-b.test>", "<a@b..test>", "<a\udcff@b.test>", "<a@b\udcff.test>", "<\x85@b.test>"),
        *("<" + "(" * 600 + "a@b.test>", "<" + "a" * 65 + "@b.test>", "<a@" + "b." * 127 + "test>"),
        *("<a@b.test> X=", "<a@b.test> NOSUCH=1", '<"a"b@c.test>'),
    ],
)
def test_paths_that_are_none(path: str) -> None:
    assert code(ready(utf8=True).command("RCPT", f"TO:{path}")) in (b"501", b"555")


@pytest.mark.parametrize("path", ["<x@bücher.example>", "<jörg@far.test>"])
def test_others_than_ascii_need_smtputf8(path: str) -> None:
    """RFC 6531 §3.4, for sender and recipient alike; also where the domain alone has them."""
    machine = Machine()
    machine.said_hello(esmtp=True)
    assert code(machine.command("MAIL", f"FROM:{path}")) == b"553"
    assert isinstance(machine.command("MAIL", f"FROM:{path} SMTPUTF8"), Mail)
    assert code(ready().command("RCPT", f"TO:{path}")) == b"553"


@pytest.mark.parametrize(
    ("argument", "lines", "steps"),
    [
        ("PLAIN AGEAYg==", [], [Credentials(b"a", b"b")]),
        ("plain", [b"AGEAYg=="], [Challenge(b"334 \r\n"), Credentials(b"a", b"b")]),
        ("LOGIN", [b"YQ==", b"Yg=="], [Challenge, Challenge, Credentials(b"a", b"b")]),
        ("LOGIN YQ==", [b"="], [Challenge, Credentials(b"a", b"")]),
        ("LOGIN", [b"*"], [Challenge, Failure]),
        ("LOGIN", [b"***"], [Challenge, Failure]),
        ("PLAIN \udcff\udcfe", [], [Failure]),
        ("PLAIN YQ==", [], [Failure]),
        ("PLAIN YQBiAGM=", [], [Failure]),  # to act as somebody else
        ("CRAM-MD5", [], [Failure]),
    ],
)
def test_a_login_line_by_line(argument: str, lines: list[bytes], steps: list[object]) -> None:
    exchange = Exchange(argument)
    found = [exchange.begin(), *(exchange.answer(line) for line in lines)]
    assert len(found) == len(steps)
    for step, wanted in zip(found, steps, strict=True):
        assert isinstance(step, wanted) if isinstance(wanted, type) else step == wanted
