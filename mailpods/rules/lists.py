"""The allow and deny lists: which of their rules decides about a recipient (R-003-18, R-003-20)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from mailpods.directory.records import ListRule
from mailpods.routing.patterns import in_domain, in_network, matches_address, matches_name


class Described(Protocol):
    """What the rules look at."""

    ip: str
    client_name: str
    helo: str
    sender: str
    recipient: str


# Field of a rule -> whether a message has what it says. A new criterion is one line here.
CRITERIA: dict[str, Callable[[str, Described], bool]] = {
    "sender": lambda pattern, it: matches_address(pattern, it.sender),
    "recipient": lambda pattern, it: matches_address(pattern, it.recipient),
    "domain": lambda domain, it: in_domain(domain, it.sender) or in_domain(domain, it.recipient),
    "client": lambda cidr, it: in_network(cidr, it.ip),
    "host_name": lambda pattern, it: bool(it.client_name) and matches_name(pattern, it.client_name),
    "helo": lambda pattern, it: bool(it.helo) and matches_name(pattern, it.helo),
}


class Lists:
    """The rules of one version of the directory, in the order in which they are tried."""

    def __init__(self, rules: Sequence[ListRule]) -> None:
        self._platform = [(rule, _tests(rule)) for rule in rules if not rule.scope]
        self._tenants = [(rule, _tests(rule)) for rule in rules if rule.scope]

    def __bool__(self) -> bool:
        return bool(self._platform or self._tenants)

    def decides(self, it: Described) -> ListRule | None:
        """The rule that decides, if any does.

        The platform's come first. What they admit, a tenant may still refuse for its own domains; what
        they refuse, no tenant admits.
        """
        of_platform = _first(self._platform, it)
        if of_platform and of_platform.action != "allow":
            return of_platform
        domain = it.recipient.rpartition("@")[2]
        of_tenant = _first([each for each in self._tenants if domain in each[0].scope], it)
        return of_tenant if of_tenant and of_tenant.action != "allow" else of_platform


_Prepared = tuple[ListRule, Sequence[Callable[[Described], bool]]]


def _tests(rule: ListRule) -> Sequence[Callable[[Described], bool]]:
    return [partial(test, value) for name, test in CRITERIA.items() if (value := getattr(rule, name))]


def _first(rules: Sequence[_Prepared], it: Described) -> ListRule | None:
    return next((rule for rule, tests in rules if tests and all(test(it) for test in tests)), None)
