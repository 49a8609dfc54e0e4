"""Which rule of the lists decides: the platform's first, and a tenant's for its own domains alone."""

from dataclasses import dataclass
from typing import Any

from mailpods.directory.records import DomainName, ListAction, ListRule
from mailpods.rules.lists import Lists


@dataclass
class Message:
    """One recipient's."""

    sender: str = "x@sender.test"
    recipient: str = "info@a.test"
    ip: str = "192.0.2.1"
    client_name: str = ""
    helo: str = "mx.sender.test"


def rule(name: str, action: ListAction, *scope: str, **criteria: Any) -> ListRule:
    return ListRule(name, action, **criteria, scope=tuple(map(DomainName, scope)))


def decides(message: Message, *rules: ListRule) -> str | None:
    found = Lists(rules).decides(message)
    return found.name if found else None


def test_the_first_match_wins() -> None:
    rules = (rule("one", "allow", sender="x@sender.test"), rule("two", "reject", sender="sender.test"))
    assert decides(Message(), *rules) == "one"
    assert decides(Message(sender="y@sender.test"), *rules) == "two"
    assert decides(Message(sender="y@other.test"), *rules) is None


def test_all_criteria_of_a_rule_must_match() -> None:
    both = rule("both", "reject", sender="sender.test", client="192.0.2.0/24")
    assert decides(Message(), both) == "both"
    assert decides(Message(ip="198.51.100.1"), both) is None
    assert decides(Message(client_name=""), rule("named", "reject", host_name="*")) is None


def test_a_tenant_governs_its_own_domains_alone() -> None:
    deny = rule("tenants", "reject", "a.test", sender="*")
    assert decides(Message(), deny) == "tenants"
    assert decides(Message(recipient="x@b.test"), deny) is None


def test_a_tenant_may_refuse_what_the_platform_admits_and_not_the_reverse() -> None:
    admits, refuses = rule("admits", "allow", sender="*"), rule("refuses", "reject", sender="*")
    assert decides(Message(), admits, rule("tenant", "reject", "a.test", helo="mx.*")) == "tenant"
    assert decides(Message(), refuses, rule("tenant", "allow", "a.test", sender="*")) == "refuses"
    # Nor does what a tenant admits pass the platform's other rules about strangers.
    assert decides(Message(), rule("tenant", "allow", "a.test", sender="*")) is None
