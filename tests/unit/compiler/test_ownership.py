"""Whose a name is, where the MailServer asks tenants to prove it in DNS."""

from typing import Any

import pytest
from mail_operator.compiler import numbers
from mail_operator.compiler.compiling import compile
from mail_operator.compiler.snapshot import Answers, Question, SecretProblem
from mail_operator.kinds import Resource

from tests.support.compiling import SERVER, Compiled, domain, resource, server, snapshot

DNS = server(allowedNamespaces={"from": "All"}, domainVerification="DNS")
TRUSTING = server(allowedNamespaces={"from": "All"})
OLDER, YOUNGER = domain(namespace="one"), domain(namespace="two")


def records(of: Resource, *objects: Resource) -> dict[str, str]:
    """Name of the TXT record -> text that a domain's status asks for."""
    shown = Compiled(DNS, *(objects or (of,))).plan.statuses[of.ref]["dns"]["records"]
    found = {r["name"].rstrip("."): r["value"].strip('"') for r in shown if r["type"] == "TXT"}
    return {name: text for name, text in found.items() if name.startswith("_mailpods-challenge.")}


def proof(*of: Resource) -> Answers:
    """What DNS says where the zones hold the proofs of these."""
    texts: dict[Question, tuple[str, ...]] = {}
    for each in of:
        for name, text in records(each).items():
            texts[Question(name, "TXT")] = (*texts.get(Question(name, "TXT"), ()), text)
    return texts


NOTHING: Answers = dict.fromkeys(proof(OLDER), ())


def after(before: Compiled, *objects: Resource, **fields: Any) -> Compiled:
    """The next compile, of an operator that knows nothing but what is written down."""
    (ledger,) = [each for each in before.plan.objects if each.get("type") == numbers.TYPE]
    return Compiled(*objects, secrets={numbers.secret_name(SERVER): ledger["data"]}, **fields)


def names(found: Compiled) -> set[str]:
    """The domains of which mail is taken."""
    return {str(name) for plan in found.plan.memory.domain_plans.values() for name in plan.domains}  # type: ignore[attr-defined]


@pytest.mark.parametrize("answers", [{}, NOTHING, {q: ("mailpods-domain-verification=x",) for q in NOTHING}])
def test_a_tenants_domain_waits_for_its_proof(answers: Answers) -> None:
    found = Compiled(DNS, OLDER, answers=answers)
    status, reason, message = found.ready(OLDER)
    ((name, text),) = records(OLDER).items()
    assert (status, reason) == ("False", "VerificationPending")
    assert f'{name}. TXT "{text}"' in message and name == "_mailpods-challenge.a.test"
    accepting, stalled = found.condition(OLDER, "Accepting"), found.condition(OLDER, "Stalled")
    assert accepting and accepting["status"] == "False" and stalled is None
    assert not names(found)
    assert Question(name, "TXT") in found.plan.questions


def test_a_proof_lets_a_domain_act_and_stays_among_its_records() -> None:
    found = Compiled(DNS, OLDER, answers=proof(OLDER))
    assert found.ready(OLDER)[0] == "True" and names(found) == {"a.test"}
    assert set(proof(OLDER)) <= found.plan.questions
    assert {"_mailpods-challenge.a.test."} <= {
        each["name"] for each in found.plan.statuses[OLDER.ref]["dns"]["records"]
    }


def test_the_platforms_own_domains_and_servers_that_do_not_ask_need_none() -> None:
    own = domain()
    assert Compiled(DNS, own).ready(own)[0] == "True"
    found = Compiled(TRUSTING, OLDER)
    assert found.ready(OLDER)[0] == "True"
    shown = found.plan.statuses[OLDER.ref]["dns"]["records"]
    assert not [each for each in shown if each["name"].startswith("_mailpods")]


def test_what_is_not_proven_is_not_held_against_others() -> None:
    found = Compiled(DNS, OLDER, YOUNGER, answers=proof(YOUNGER))
    assert found.ready(YOUNGER)[0] == "True"
    assert found.ready(OLDER)[1] == "DomainNameTaken"
    assert next(iter(records(OLDER).values())) in found.ready(OLDER)[2]
    shown = found.plan.statuses[OLDER.ref]["dns"]["records"]
    assert [each["value"].strip('"') for each in shown] == list(records(OLDER).values())
    own = domain()
    assert Compiled(DNS, OLDER, own).ready(own)[0] == "True"


def test_nobodys_token_is_anothers() -> None:
    other_server = resource(
        "MailServer",
        "main",
        "other",
        hostname="mail.b.test",
        allowedNamespaces={"from": "All"},
        domainVerification="DNS",
    )
    elsewhere = resource(
        "MailDomain",
        "a-test",
        "one",
        domainName="a.test",
        serverRef={"name": "main", "namespace": "other"},
    )
    shown = Compiled(other_server, elsewhere).plan.statuses[elsewhere.ref]["dns"]["records"]
    twin = resource(
        "MailDomain", "twin", "one", domainName="a.test", serverRef={"name": "main", "namespace": "default"}
    )
    tokens = {*records(OLDER).values(), *records(YOUNGER).values(), *records(twin).values()}
    assert len({*tokens, shown[0]["value"].strip('"')}) == 4


def test_of_two_that_prove_a_name_the_older_has_it_and_keeps_it() -> None:
    both = Compiled(DNS, OLDER, YOUNGER, answers=proof(OLDER, YOUNGER))
    assert both.ready(OLDER)[0] == "True" and both.ready(YOUNGER)[1] == "DomainNameTaken"
    first = Compiled(DNS, OLDER, YOUNGER, answers=proof(YOUNGER))
    held = after(first, DNS, OLDER, YOUNGER, answers=proof(OLDER, YOUNGER))
    assert held.ready(YOUNGER)[0] == "True" and held.ready(OLDER)[1] == "DomainNameTaken"


@pytest.mark.parametrize("answers", [{}, NOTHING])
def test_what_is_proven_once_stays_whatever_dns_says_later(answers: Answers) -> None:
    first = Compiled(DNS, OLDER, YOUNGER, answers=proof(YOUNGER))
    later = after(first, DNS, OLDER, YOUNGER, answers=answers)
    assert later.ready(YOUNGER)[0] == "True" and later.ready(OLDER)[0] == "False"


def test_only_the_proof_of_another_moves_a_name_and_its_number_stays_taken() -> None:
    first = Compiled(DNS, OLDER, answers=proof(OLDER))
    moved = after(first, DNS, OLDER, YOUNGER, answers=proof(YOUNGER))
    assert moved.ready(YOUNGER)[0] == "True" and moved.ready(OLDER)[1] == "DomainNameTaken"
    # Mail of the one who had it is parked under his number.
    seven, other = domain(namespace="one", number=7), domain(namespace="two", number=8)
    second = after(Compiled(DNS, seven, answers=proof(seven)), DNS, other, answers=proof(other))
    third = after(second, DNS, other, *(domain(f"n{n}.test") for n in range(8)), answers=proof(other))
    given = {each.get("number") for each in third.plan.statuses.values()}
    assert 8 in given and 6 in given and 7 not in given


def test_what_was_served_before_somebody_asked_stays_until_another_proves_it() -> None:
    first = Compiled(TRUSTING, OLDER)
    asked = after(first, DNS, OLDER, YOUNGER)
    assert asked.ready(OLDER)[0] == "True" and asked.ready(YOUNGER)[0] == "False"
    assert after(asked, DNS, OLDER, YOUNGER, answers=proof(YOUNGER)).ready(YOUNGER)[0] == "True"


def test_additional_names_are_proven_one_by_one() -> None:
    both = domain(namespace="one", additionalNames=["b.test"], hostnames=["imap.b.test"])
    own = {q: a for q, a in proof(both).items() if q.name.endswith(".a.test")}
    found = Compiled(DNS, both, answers=own)
    status, reason, message = found.ready(both)
    assert (status, reason) == ("False", "VerificationPending") and "_mailpods-challenge.b.test." in message
    accepting = found.condition(both, "Accepting")
    assert names(found) == {"a.test"} and accepting and accepting["status"] == "True"
    assert not found.plan.memory.topology.domains[both.ref].hostnames  # type: ignore[attr-defined]
    assert names(Compiled(DNS, both, answers=proof(both))) == {"a.test", "b.test"}


def test_a_namespace_that_is_not_admitted_has_no_claim() -> None:
    picky = server(
        allowedNamespaces={"from": "Selector", "matchLabels": {"mail": "yes"}}, domainVerification="DNS"
    )
    found = Compiled(
        picky, OLDER, YOUNGER, answers=proof(OLDER, YOUNGER), namespaces={"two": {"mail": "yes"}}
    )
    assert found.ready(YOUNGER)[0] == "True" and found.ready(OLDER)[1] == "NamespaceNotAllowed"


def test_an_answer_decides_in_the_next_compile_as_it_would_in_the_first() -> None:
    objects = (DNS, OLDER, YOUNGER)
    plan = compile(snapshot(*objects))
    for answers in (proof(YOUNGER), NOTHING, proof(OLDER), {}):
        plan = compile(snapshot(*objects, answers=answers), plan)
        assert plan == compile(snapshot(*objects, answers=answers))


def test_while_the_names_cannot_be_read_nobody_loses_one() -> None:
    first = compile(snapshot(DNS, OLDER, answers=proof(OLDER)))
    problem = {numbers.secret_name(SERVER): SecretProblem("SecretUnreadable", "no")}
    later = compile(snapshot(DNS, OLDER, secrets=problem), first)
    assert later.statuses[OLDER.ref]["conditions"][0]["status"] == "True"
