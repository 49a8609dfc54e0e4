"""An account that gets another address: what moves, what waits, and where the former address leads."""

from typing import Any

import pytest
from mail_operator.kinds import Resource

from mailpods.directory.records import AccountId, Address
from tests.support.compiling import Compiled, alias, domain, mailbox, resource, server

A = (server(), domain("a.test", number=7))
B = domain("b.test", number=9)
OLD = mailbox("old")
FORMER = {"localPart": "old"}
NEW = mailbox("new", formerAddress=FORMER)
THERE = mailbox("there", of="b-test", formerAddress={**FORMER, "domainRef": {"name": "a-test"}})


@pytest.mark.parametrize("new", [NEW, THERE], ids=["the local part", "the domain"])
def test_it_waits_while_the_former_mailbox_is_there(new: Resource) -> None:
    found = Compiled(*A, B, OLD, new)
    status, reason, message = found.ready(new)
    assert (status, reason) == ("False", "FormerAddressHeld")
    assert "old@a.test" in message and "Mailbox default/old" in message
    assert found.condition(new, "Stalled") is None
    assert found.ready(OLD)[0] == "True"
    assert found.addresses[Address("old@a.test")].account == "7/old"
    assert {id for id in found.credentials if "maint" not in id} == {"7/old"}


@pytest.mark.parametrize(
    ("new", "account", "address"),
    [(NEW, "7/new", "new@a.test"), (THERE, "9/there", "there@b.test")],
    ids=["the local part", "the domain"],
)
def test_the_former_mailbox_moves_and_its_address_leads_on(new: Resource, account: str, address: str) -> None:
    found = Compiled(*A, B, new)
    assert found.ready(new)[0] == "True"
    assert found.credentials[AccountId(account)].former == "old@a.test"
    entry = found.addresses[Address("old@a.test")]
    assert entry.account is None and entry.targets == (address,)


def test_the_former_address_may_be_given_up() -> None:
    gone = mailbox("new", formerAddress={**FORMER, "keepAsAlias": False})
    found = Compiled(*A, gone, OLD)  # somebody else, who is younger
    assert found.ready(gone)[0] == found.ready(OLD)[0] == "True"
    assert found.credentials[AccountId("7/new")].former == "old@a.test"
    assert found.addresses[Address("old@a.test")].account == "7/old"


@pytest.mark.parametrize("new", [NEW, THERE], ids=["the local part", "the domain"])
def test_nobody_younger_gets_an_address_that_leads_on(new: Resource) -> None:
    found = Compiled(*A, B, new, OLD)
    assert found.ready(OLD)[1] == "AddressTaken" and str(new.ref) in found.ready(OLD)[2]
    assert found.ready(new)[0] == "True"


def test_an_alias_of_the_name_conflicts_as_usual() -> None:
    older, younger = alias("first", "x@c.test", localPart="old"), alias("last", "x@c.test", localPart="old")
    found = Compiled(*A, older, NEW)
    assert found.ready(NEW)[1] == "AddressTaken" and found.ready(older)[0] == "True"
    assert found.credentials[AccountId("7/new")].former == "old@a.test"  # its mail moves all the same
    found = Compiled(*A, NEW, younger)
    assert found.ready(younger)[1] == "AddressTaken" and found.ready(NEW)[0] == "True"


def test_an_alias_that_wins_covers_whoever_gets_the_name() -> None:
    found = Compiled(server(), domain(number=7, addressConflict="AliasWins"), NEW, OLD)
    assert found.condition(OLD, "Shadowed") is not None
    assert found.addresses[Address("old@a.test")].targets == ("new@a.test",)


def test_it_does_not_cover_the_former_mailbox_while_that_is_there() -> None:
    wins = domain(number=7, addressConflict="AliasWins")
    for new in (NEW, THERE):
        found = Compiled(server(), wins, B, OLD, new)
        assert found.addresses[Address("old@a.test")].account == "7/old"
        assert found.condition(OLD, "Shadowed") is None


def test_the_former_address_counts_among_the_aliases() -> None:
    one = domain(number=7, limits={"aliasesPerAddress": 1})
    more = alias("more", "new")
    found = Compiled(server(), one, NEW, more)
    assert found.ready(more)[1] == "AliasLimit" and found.ready(NEW)[0] == "True"
    none = domain(number=7, limits={"aliasesPerAddress": 0})
    assert Compiled(server(), none, NEW).ready(NEW)[1] == "AliasLimit"


def test_of_two_that_name_the_same_former_address_the_older_gets_it() -> None:
    second = mailbox("second", formerAddress=FORMER)
    found = Compiled(*A, NEW, second)
    assert found.ready(NEW)[0] == "True" and found.ready(second)[1] == "FormerAddressHeld"


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ((), "DomainMissing"),
        ((domain("c.test", "other"),), "DomainMissing"),  # nobody else's namespace
        ((resource("MailServer", "second", hostname="m.c.test"), ("second",)), "DomainNotServed"),
    ],
    ids=["no domain", "another tenant's", "another server's"],
)
def test_what_cannot_move_says_so_and_the_account_works(others: Any, reason: str) -> None:
    new = mailbox("new", formerAddress={"domainRef": {"name": "c-test"}})
    if others and others[-1] == ("second",):
        at = {"name": "second", "namespace": "default"}
        others = (others[0], resource("MailDomain", "c-test", domainName="c.test", serverRef=at))
    found = Compiled(server(allowedNamespaces={"from": "All"}), A[1], *others, new)
    assert found.ready(new)[:2] == ("False", reason)
    assert found.credentials[AccountId("7/new")].former is None
    assert found.addresses[Address("new@a.test")].account == "7/new"


def test_with_several_shards_the_one_of_the_mail_is_named() -> None:
    two = (server(store={"shards": 2}), A[1])
    found = Compiled(*two, NEW)
    assert found.ready(NEW)[1] == "FormerShardUnnamed" and not found.plan.allocations
    named = mailbox("new", formerAddress=FORMER, shard=1)
    assert Compiled(*two, named).credentials[AccountId("7/new")].shard == 1
    # What it was when there was one shard stays.
    assert Compiled(*two, NEW, served=frozenset({NEW.ref})).ready(NEW)[0] == "True"


def test_its_own_address_is_no_former_one() -> None:
    same = mailbox("new", formerAddress={"localPart": "new"})
    found = Compiled(*A, same)
    assert found.ready(same)[0] == "True" and found.credentials[AccountId("7/new")].former is None
