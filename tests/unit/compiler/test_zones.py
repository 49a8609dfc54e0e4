"""Whether zones hold what they should, by the answers of DNS alone."""

import pytest
from mail_operator.compiler import zones
from mail_operator.compiler.snapshot import Answers, Question
from mail_operator.compiler.zones import NOT_ASKED
from mail_operator.engine.secrets import make_dkim_keys
from mail_operator.kinds.meta import DnsStatus

from mailpods.directory.records import DkimKey
from tests.support.compiling import Compiled, domain, server
from tests.support.pairs import NOW

OWN = ("mail.a.test",)
RECORDS = list(zones.of_domain(["a.test"], "mail.a.test", []))
SRV = [
    ("_imap._tcp.a.test", "0 1 143 mail.a.test"),
    ("_imaps._tcp.a.test", "10 5 993 mail.a.test"),  # how it ranks is the zone's affair
    ("_pop3._tcp.a.test", "0 1 110 mail.a.test"),
    ("_pop3s._tcp.a.test", "0 1 995 mail.a.test"),
    ("_submission._tcp.a.test", "0 1 587 mail.a.test"),
    ("_submissions._tcp.a.test", "0 1 465 mail.a.test"),
]
FULL: Answers = {
    Question("a.test", "MX"): ("5 other.test", "90 mail.a.test"),
    **{Question(name, "SRV"): (value,) for name, value in SRV},
}


def test_a_zone_is_complete_once_it_holds_all_of_them() -> None:
    assert zones.complete(RECORDS, (), FULL)["status"] == "True"
    for question in FULL:
        lacking = zones.complete(RECORDS, (), {**FULL, question: ()})
        assert (
            lacking["reason"] == "RecordsMissing"
            and f"{question.name}. {question.type}" in lacking["message"]
        )
        unknown = zones.complete(RECORDS, (), {q: a for q, a in FULL.items() if q != question})
        assert (unknown["status"], unknown["reason"]) == ("Unknown", NOT_ASKED)


@pytest.mark.parametrize(
    ("type_", "value", "answer", "there"),
    [
        ("TXT", '"v=DKIM1; k=rsa; p=AB" "CD"', "v=DKIM1; k=rsa; p=ABCD", True),
        ("TXT", '"v=DKIM1; k=rsa; p=ABCD"', "v=DKIM1;k=rsa;p=ABCD", True),
        ("TXT", '"v=DKIM1; k=rsa; p=ABCD"', "v=DKIM1; k=rsa; p=abcd", False),
        ("A", "192.0.2.1", "192.0.2.1", True),
        ("A", "192.0.2.1", "192.0.2.2", False),
        ("SRV", "0 1 993 mail.a.test.", "0 1 994 mail.a.test", False),
        ("MX", "10 mail.a.test.", "10 mail.a.test.evil.test", False),
        ("MX", "10 mail.a.test.", "0 .", False),
        ("SRV", "0 1 993 mail.a.test.", "0 0 0 .", False),
    ],
)
def test_what_counts_as_the_same_record(type_: str, value: str, answer: str, there: bool) -> None:
    record = {"name": "x.a.test.", "type": type_, "value": value}
    found = zones.complete([record], (), {Question("x.a.test", type_): (answer,)})
    assert found["status"] == str(there)


def test_a_message_names_some_and_counts_the_rest() -> None:
    message = zones.complete(RECORDS, (), dict.fromkeys(FULL, ()))["message"]
    assert message.count("_tcp") == 4 and "and 2 more" in message


@pytest.mark.parametrize(
    ("hop", "answer", "ready", "order"),
    [
        ("", (), "False", "True"),
        ("", ("10 mail.a.test",), "True", "False"),
        ("", ("10 mail.a.test", "20 primary.test"), "True", "False"),
        ("", ("10 mail.a.test", "10 primary.test"), "True", "False"),
        ("", ("20 mail.a.test", "10 primary.test"), "True", "True"),
        ("", ("10 primary.test",), "True", "True"),
        ("primary.test", ("10 mail.a.test",), "True", "True"),  # what is set needs no order
        ("primary.test", (), "False", "True"),
        ("", ("0 .",), "True", "True"),  # it takes no mail at all
    ],
)
def test_relayed_domains(hop: str, answer: tuple[str, ...], ready: str, order: str) -> None:
    found = zones.relayed({"b.test": hop}, OWN, (), {Question("b.test", "MX"): answer})
    assert [(each["type"], each["status"]) for each in found] == [("DNSReady", ready), ("MXOrder", order)]


def test_whom_to_ask_is_part_of_the_question() -> None:
    assert all(
        question.resolvers == ("192.0.2.53",) for question in zones.questions(RECORDS, ("192.0.2.53",))
    )
    assert zones.complete(RECORDS, ("192.0.2.53",), FULL)["reason"] == NOT_ASKED


def test_the_records_in_a_status_keep_their_bound_however_many_keys_there_are() -> None:
    made = make_dkim_keys(NOW.date())
    keys = {f"k{n}.key": pem for n in range(30) for pem in made.values()}
    names = [f"n{n}.test" for n in range(100)]
    for these in (made, keys):
        found = Compiled(server(), domain(additionalNames=names), secrets={("default", "a-test-dkim"): these})
        told = DnsStatus.model_validate(found.plan.statuses[domain().ref]["dns"])
        assert len(told.records) >= 101 * 9


def test_a_key_is_seen_once_all_names_of_its_domain_publish_it() -> None:
    keys = [(DkimKey("s1", "rsa", ""), "v=DKIM1; k=rsa; p=AB")]
    names = ("a.test", "b.test")
    answers = {Question(f"s1._domainkey.{name}", "TXT"): ("v=DKIM1; k=rsa; p=AB",) for name in names}
    assert zones.seen(keys, names, (), answers) == ("s1",)
    for question in answers:
        assert zones.seen(keys, names, (), {**answers, question: ()}) == ()
        assert zones.seen(keys, names, (), {q: a for q, a in answers.items() if q != question}) == ()
