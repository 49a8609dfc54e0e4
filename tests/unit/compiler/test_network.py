"""What the NetworkPolicies of mail pods open."""

from typing import Any

import pytest
from mail_operator.kinds import Resource

from tests.support.compiling import Compiled, domain, resource, server


def outward(component: str, *policies: Resource) -> list[Any]:
    """The rules of a component's way out, but for DNS and for pods of the installation."""
    found = Compiled(server(), domain(), *policies)
    (policy,) = (
        o
        for o in found.plan.objects
        if o["kind"] == "NetworkPolicy" and o["metadata"]["name"] == f"main-{component}"
    )
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    rules = policy["spec"]["egress"]
    dns = {"ports": [{"port": n, "protocol": p} for n in (53, 5353) for p in ("UDP", "TCP")]}
    assert dns in rules
    pods = [rule for rule in rules if "podSelector" in rule.get("to", [{}])[0]]
    assert pods
    return [rule for rule in rules if rule != dns and rule not in pods]


def policy(**spec: Any) -> Resource:
    """A RelayPolicy of the server."""
    return resource("RelayPolicy", "main", serverRef={"name": "main"}, **spec)


def smarthost(host: str) -> Resource:
    return policy(outbound={"mode": "smarthost", "smarthost": {"host": host, "port": 2525}})


def tcp(*ports: int) -> list[Any]:
    return [{"port": port, "protocol": "TCP"} for port in ports]


def test_mail_for_others_leaves_to_port_25_of_anybody_and_their_policies_come_by_https() -> None:
    assert outward("smtp") == [{"ports": tcp(25, 443)}]


@pytest.mark.req_part("R-003-28")
def test_with_a_smarthost_nothing_else_is_reached() -> None:
    assert outward("smtp", smarthost("hub.test")) == [{"ports": tcp(2525)}]
    only = [{"to": [{"ipBlock": {"cidr": "192.0.2.25/32"}}], "ports": tcp(2525)}]
    assert outward("smtp", smarthost("192.0.2.25")) == only


def test_the_store_reaches_nobody_outside() -> None:
    assert outward("store") == []
    assert outward("store", smarthost("hub.test")) == []


def test_dns_servers_at_other_ports_are_reached() -> None:
    given = policy(inbound={"resolvers": ["192.0.2.53", "192.0.2.54:5300", "2001:db8::53"]})
    ports = [{"port": 5300, "protocol": p} for p in ("UDP", "TCP")]
    rule = {"to": [{"ipBlock": {"cidr": "192.0.2.54/32"}}], "ports": ports}
    assert outward("store", given) == [rule]
    assert outward("smtp", given) == [rule, {"ports": tcp(25, 443)}]


def inward(component: str, port: int) -> list[Any]:
    """Whom a component's policy lets reach a port."""
    found = Compiled(server(), domain())
    policies = {o["metadata"]["name"]: o for o in found.plan.objects if o["kind"] == "NetworkPolicy"}
    rules = policies[f"main-{component}"]["spec"]["ingress"]
    return [rule.get("from") for rule in rules if port in {p["port"] for p in rule["ports"]}]


def test_the_queue_is_for_the_installation_and_the_api_server() -> None:
    ((agents, pods, stores),) = inward("smtp", 9102)
    assert agents == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    assert "namespaceSelector" not in pods
    assert pods["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "smtp"
    assert stores["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "store"
    assert "namespaceSelector" not in stores


def test_lmtp_is_for_those_who_deliver_and_mail_for_everybody() -> None:
    (pods,) = inward("store", 2024)
    labels = [each["podSelector"]["matchLabels"] for each in pods]
    assert {each["app.kubernetes.io/component"] for each in labels} == {"smtp", "bulk"}
    assert {each["app.kubernetes.io/instance"] for each in labels} == {"main"}
    assert inward("smtp", 2525) == [None]
    assert inward("store", 2993) == [None]


@pytest.mark.parametrize(
    ("given", "policy", "families"),
    [
        ({}, "PreferDualStack", None),
        ({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}, "SingleStack", ["IPv6"]),
    ],
)
def test_the_public_services_take_both_families_unless_told_otherwise(
    given: dict[str, Any], policy: str, families: list[str] | None
) -> None:
    found = Compiled(server(service=given), domain())
    specs = {o["metadata"]["name"]: o["spec"] for o in found.plan.objects if o["kind"] == "Service"}
    for name in ("main-smtp", "main-store"):
        assert (specs[name]["ipFamilyPolicy"], specs[name].get("ipFamilies")) == (policy, families)


def test_a_port_that_is_nobodys_is_open_to_nobody() -> None:
    found = Compiled(server(), domain())
    assert inward("store", 2526) == [], "on loopback: who speaks to it sends as whom he likes"
    rules = [
        rule
        for each in found.plan.objects
        if each["kind"] == "NetworkPolicy"
        for rule in each["spec"]["ingress"]
    ]
    assert all(rule["ports"] for rule in rules) and all(rule.get("from", [{}]) for rule in rules)


def test_pods_that_are_not_ready_are_found_by_others() -> None:
    """A shard waits for its first login; a pod that leaves gives its queue away."""
    found = [o for o in Compiled(server(), domain()).plan.objects if o["kind"] == "Service"]
    headless = {o["metadata"]["name"]: o["spec"] for o in found if o["spec"].get("clusterIP") == "None"}
    assert headless.keys() == {"main-smtp-pods", "main-store-shards"}
    assert all(spec["publishNotReadyAddresses"] for spec in headless.values())
