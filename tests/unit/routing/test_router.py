"""Where an address leads, and why."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest

from mailpods.directory.records import (
    Account,
    AccountId,
    Address,
    AddressEntry,
    Domain,
    DomainName,
    Server,
    Smarthost,
)
from mailpods.refusal import Refusal
from mailpods.routing.router import MAX_DEPTH, Routed, Router

INFO, ANNA = AccountId("7/info"), AccountId("7/anna")


@dataclass
class FakeDirectory:
    server: Server | None = field(default_factory=lambda: Server("mx.a.test"))
    domains: Mapping[str, Domain] = field(default_factory=lambda: {"a.test": Domain(7)})
    entries: Mapping[str, AddressEntry] = field(default_factory=dict)

    def domain(self, name: DomainName) -> Domain | None:
        return self.domains.get(name)

    known: Collection[AccountId] = ()
    first_number: int | None = 7

    def address(self, address: Address) -> AddressEntry | None:
        return self.entries.get(address)

    def account(self, account: AccountId) -> Account | None:
        return Account(Address("x@a.test"), 0) if account in self.known else None


def box(account: AccountId) -> AddressEntry:
    return AddressEntry(f"Mailbox a/{account}", account=account)


def alias(*targets: str) -> AddressEntry:
    return AddressEntry("MailAlias a/x", targets=tuple(Address(t) for t in targets))


BOXES = {"info@a.test": box(INFO), "anna@a.test": box(ANNA)}


def accounts(directory: FakeDirectory, address: str) -> tuple[AccountId, ...]:
    outcome = Router(directory).route(Address(address), may_relay=False)
    assert isinstance(outcome, Routed), outcome
    return outcome.accounts


def refusal(directory: FakeDirectory, address: str, may_relay: bool = False) -> Refusal:
    outcome = Router(directory).route(Address(address), may_relay)
    assert isinstance(outcome, Refusal), outcome
    return outcome


def test_a_mailbox_is_found_in_any_case_and_with_a_detail() -> None:
    directory = FakeDirectory(entries=BOXES)
    assert accounts(directory, "Info@A.test") == accounts(directory, "info+shop@a.test") == (INFO,)
    assert refusal(directory, "nobody@a.test").enhanced == "5.1.1"


@pytest.mark.req_part("R-002-08")
def test_an_alias_leads_to_each_mailbox_once() -> None:
    entries = {**BOXES, "sales@a.test": alias("team@a.test", "info@a.test"), "team@a.test": alias(*BOXES)}
    directory = FakeDirectory(entries=entries)
    assert accounts(directory, "sales@a.test") == (INFO, ANNA)
    assert Router(directory).explain("sales@a.test") == [
        "sales@a.test: MailAlias a/x -> team@a.test, info@a.test",
        "  team@a.test: MailAlias a/x -> info@a.test, anna@a.test",
        "    info@a.test: Mailbox a/7/info -> mailbox 7/info",
        "    anna@a.test: Mailbox a/7/anna -> mailbox 7/anna",
        "  info@a.test: was followed before",
    ]


def test_aliases_in_a_circle_end_and_say_so() -> None:
    directory = FakeDirectory(entries={"x@a.test": alias("y@a.test"), "y@a.test": alias("x@a.test")})
    assert refusal(directory, "x@a.test").enhanced == "5.1.1"
    assert Router(directory).explain("x@a.test")[-2:] == [
        "    x@a.test: was followed before",
        "refused: 550 5.1.1 <x@a.test> is unknown here",
    ]


def test_a_chain_longer_than_the_bound_ends() -> None:
    chain = {f"a{n}@a.test": alias(f"a{n + 1}@a.test") for n in range(MAX_DEPTH + 5)}
    assert refusal(FakeDirectory(entries=chain), "a0@a.test").reason == "unknown_recipient"


def test_the_catch_all_takes_what_nobody_else_takes() -> None:
    directory = FakeDirectory(domains={"a.test": Domain(7, catch_all=Address("info@a.test"))}, entries=BOXES)
    assert accounts(directory, "nobody@a.test") == (INFO,)
    assert accounts(directory, "anna@a.test") == (ANNA,)


@pytest.mark.req_part("R-000-02")
def test_names_that_share_users_lead_to_the_same_mailbox() -> None:
    domains = {"a.test": Domain(7), "b.test": Domain(7, users_of=DomainName("a.test"))}
    assert accounts(FakeDirectory(domains=domains, entries=BOXES), "info@b.test") == (INFO,)


def test_postmaster_mail_reaches_the_external_postmasters_unless_the_domain_has_its_own() -> None:
    server = Server("mx", postmasters=(Address("info@a.test"), Address("anna@a.test")))
    directory = FakeDirectory(server=server, entries=BOXES)
    assert (
        accounts(directory, "postmaster@a.test")
        == accounts(directory, "MAILER-DAEMON@a.test")
        == (INFO, ANNA)
    )
    own = FakeDirectory(server=server, entries={**BOXES, "postmaster@a.test": alias("anna@a.test")})
    assert accounts(own, "postmaster@a.test") == (ANNA,)


@pytest.mark.req_part("R-001-37")
def test_strangers_may_not_relay_and_are_told_so() -> None:
    refused = refusal(FakeDirectory(), "x@elsewhere.test")
    assert (refused.code, refused.text) == (550, "relay not permitted")
    helpful = FakeDirectory(server=Server("mx", help_url="https://a.test/help"))
    assert refusal(helpful, "x@elsewhere.test").text == "relay not permitted https://a.test/help"


def test_mail_for_others_needs_a_smarthost() -> None:
    assert "smarthost" in refusal(FakeDirectory(), "x@elsewhere.test", may_relay=True).text
    directory = FakeDirectory(
        server=Server("mx", smarthost=Smarthost("hub")),
        entries={**BOXES, "out@a.test": alias("x@elsewhere.test", "info@a.test")},
    )
    there = (Address("x@elsewhere.test"),)
    assert Router(directory).route(there[0], may_relay=True) == Routed((), there)
    assert Router(directory).route(Address("out@a.test"), may_relay=False) == Routed((INFO,), there)


@pytest.mark.req_part("R-003-04")
def test_a_sender_owns_its_address_and_the_aliases_that_lead_to_it() -> None:
    router = Router(FakeDirectory(entries={**BOXES, "sales@a.test": alias("info@a.test")}))
    assert router.owns(INFO, "info@a.test") and router.owns(INFO, "sales@a.test")
    assert (
        not router.owns(INFO, "anna@a.test")
        and not router.owns(INFO, "")
        and not router.owns(INFO, "x@y.test")
    )


@pytest.mark.parametrize(
    ("address", "number"), [("postmaster@a.test", 7), ("postmaster@b.test", 8), ("PostMaster@mx.a.test", 7)]
)
def test_postmaster_always_reaches_somebody(address: str, number: int) -> None:
    """RFC 5321 §4.5.1: the domain's administrator, or that of the first domain; before a catch-all."""
    domains = {"a.test": Domain(7), "b.test": Domain(8, catch_all=Address("info@a.test"))}
    known = (AccountId("7/maint"), AccountId("8/maint"))
    directory = FakeDirectory(domains=domains, entries=BOXES, known=known)
    assert accounts(directory, address) == (AccountId(f"{number}/maint"),)
    own = FakeDirectory(domains=domains, entries={**BOXES, address.lower(): box(ANNA)}, known=known)
    if address != "PostMaster@mx.a.test":
        assert accounts(own, address) == (ANNA,)
    external = Server("mx.a.test", postmasters=(Address("info@a.test"),))
    assert accounts(FakeDirectory(external, domains, BOXES, known), address) == (INFO,)


def test_mailer_daemon_is_nobody_where_there_are_no_external_postmasters() -> None:
    assert refusal(FakeDirectory(known=[AccountId("7/maint")]), "mailer-daemon@a.test").code == 550
