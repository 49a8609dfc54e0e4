"""The evaluator of NetworkPolicies that the stories of a cluster are held against."""

from typing import Any

import pytest

from tests.support.netpol import End, Pod, allowing

SPACES = {"mail": {"team": "mail"}, "other": {"team": "other"}}
STORE = Pod("mail", "store-0", {"app": "store"}, {"lmtp": 2024})
SMTP = Pod("mail", "smtp-0", {"app": "smtp"})
STRANGER = Pod("other", "smtp-0", {"app": "smtp"})


def policy(app: str, **spec: Any) -> dict[str, Any]:
    """For the pods of an app."""
    selector = {"podSelector": {"matchLabels": {"app": app}}}
    return {"metadata": {"namespace": "mail", "name": app}, "spec": {**selector, **spec}}


def ingress(*peers: Any, ports: Any = ({"port": 2024},)) -> dict[str, Any]:
    """A policy of the store with one rule."""
    return policy("store", policyTypes=["Ingress"], ingress=[{"from": list(peers), "ports": list(ports)}])


def expression(operator: str, values: Any = ()) -> dict[str, Any]:
    """A selector about the label app."""
    return {"matchExpressions": [{"key": "app", "operator": operator, "values": list(values)}]}


def passes(policies: list[dict[str, Any]], other: Pod | str, port: int = 2024, protocol: str = "TCP") -> bool:
    """Whether the store takes a flow."""
    end = End(other) if isinstance(other, str) else End("10.0.0.9", other)
    found = allowing(policies, "ingress", STORE, end, port, protocol, SPACES)
    return found is None or bool(found)


def test_without_a_policy_all_passes_and_with_one_only_what_it_opens() -> None:
    assert passes([], STRANGER)
    assert passes([policy("smtp", policyTypes=["Ingress"])], STRANGER)
    assert not passes([policy("store", policyTypes=["Ingress"])], SMTP)
    assert passes([policy("store", policyTypes=["Egress"])], SMTP)
    assert passes([policy("store", policyTypes=["Ingress"]), ingress()], STRANGER)


@pytest.mark.parametrize(
    ("peer", "smtp", "stranger"),
    [
        ({"podSelector": {"matchLabels": {"app": "smtp"}}}, True, False),
        ({"podSelector": {"matchLabels": {"app": "else"}}}, False, False),
        ({"namespaceSelector": {}}, True, True),
        ({"namespaceSelector": {"matchLabels": {"team": "other"}}}, False, True),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "else"}}}, False, False),
        ({"podSelector": expression("NotIn", ["smtp"])}, False, False),
        ({"podSelector": expression("In", ["smtp"])}, True, False),
        ({"podSelector": expression("Exists")}, True, False),
        ({"podSelector": expression("DoesNotExist")}, False, False),
        ({"ipBlock": {"cidr": "10.0.0.0/8"}}, True, True),
        ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.8/31"]}}, False, False),
    ],
)  # fmt: skip
def test_peers(peer: dict[str, Any], smtp: bool, stranger: bool) -> None:
    assert (passes([ingress(peer)], SMTP), passes([ingress(peer)], STRANGER)) == (smtp, stranger)


def test_an_address_without_a_pod_is_only_in_blocks() -> None:
    assert passes([ingress()], "192.0.2.1")
    assert passes([ingress({"ipBlock": {"cidr": "192.0.2.0/24"}})], "192.0.2.1")
    assert not passes([ingress({"namespaceSelector": {}})], "192.0.2.1")


@pytest.mark.parametrize(
    ("port", "good"),
    [
        ({"port": 2024}, True),
        ({"port": 2025}, False),
        ({"port": 2024, "protocol": "UDP"}, False),
        ({"port": 2000, "endPort": 2100}, True),
        ({"port": 2000, "endPort": 2010}, False),
        ({"port": "lmtp"}, True),
        ({"port": "imap"}, False),
        ({"protocol": "TCP"}, True),
    ],
)
def test_ports(port: dict[str, Any], good: bool) -> None:
    assert passes([ingress(ports=[port])], SMTP) is good


def test_the_way_out_is_judged_on_its_own() -> None:
    out = policy("smtp", policyTypes=["Egress"], egress=[{"ports": [{"port": "lmtp"}]}])
    found = allowing([out], "egress", SMTP, End("10.0.0.2", STORE), 2024, "TCP", SPACES)
    assert found and [each.port for each in found] == ["TCP/lmtp"]
    assert allowing([out], "egress", SMTP, End("192.0.2.1"), 25, "TCP", SPACES) == []
    assert allowing([out], "ingress", SMTP, End("192.0.2.1"), 25, "TCP", SPACES) is None
