"""RelayPolicies: what they add up to, what of them contradicts itself, and how far a tenant's reaches."""

from dataclasses import replace
from typing import Any

import pytest
from mail_operator.kinds import Resource
from mail_operator.kinds.meta import Part
from mail_operator.kinds.relaypolicy import RelayPolicySpec

from mailpods.directory.records import ListRule, Route, Server, Smarthost
from mailpods.directory.shards import STORE_FILE, decode_server, decode_store
from tests.support.compiling import SERVER, Compiled, domain, mailbox, resource, server


def policy(name: str = "main", namespace: str = "default", **spec: Any) -> Resource:
    at = {"name": "main", "namespace": "default"}
    return resource("RelayPolicy", name, namespace, serverRef=at, **spec)


def record(compiled: Compiled) -> Server:
    return decode_server(compiled.plan.directory[SERVER]["server.json"])


OPEN = server(allowedNamespaces={"from": "All"})
DENY: dict[str, Any] = {"lists": {"deny": [{"name": "no spam", "criteria": {"sender": "spam.test"}}]}}
ALLOW: dict[str, Any] = {"lists": {"allow": [{"name": "friends", "criteria": {"client": "192.0.2.0/24"}}]}}


def test_allow_rules_come_first_and_policies_add_up() -> None:
    compiled = Compiled(server(), policy("one", **DENY), policy("two", **ALLOW))
    assert record(compiled).screening.lists == (
        ListRule("friends", "allow", client="192.0.2.0/24"),
        ListRule("no spam", "reject", sender="spam.test"),
    )


def test_of_several_policies_the_tightest_bound_holds() -> None:
    tight = policy(
        "tight",
        limits={"messageSize": "1M", "recipients": 2, "hops": 3},
        connectionPolicy={"maxConcurrent": 4, "ratePerMinute": 5},
        tls={"required": True},
    )
    wide = policy(
        "wide",
        limits={"messageSize": "2M", "recipients": 20, "hops": 30},
        connectionPolicy={"maxConcurrent": 40, "ratePerMinute": 50},
        tls={"required": False},
    )
    silent = policy("silent")  # no bound is no bound of nothing
    for order in ((tight, wide, silent), (silent, wide, tight)):
        made = record(Compiled(server(), *order))
        assert (made.max_message_bytes, made.max_recipients, made.max_hops) == (10**6, 2, 3)
        assert (made.max_connections_per_client, made.screening.rate_per_minute) == (4, 5)
        assert made.tls_required


def test_of_several_policies_one_that_forbids_forwards_is_enough() -> None:
    found = Compiled(server(), policy("one", autoForward=False), policy("two"))
    assert not decode_store(found.plan.credentials[SERVER][STORE_FILE]).redirects


def test_of_two_policies_with_one_domain_the_older_ones_next_hop_holds() -> None:
    def relays(name: str) -> Resource:
        return policy(
            name, inbound={"domains": [{"name": "r", "domain": "r.test", "nextHop": f"{name}.test"}]}
        )

    assert record(Compiled(server(), relays("old"), relays("young"))).relayed == {"r.test": "old.test"}


def test_a_smarthost_that_cannot_be_used_lets_no_mail_go_another_way() -> None:
    hub = {"host": "hub.test", "tls": "none", "authSecretRef": {"name": "hub"}}
    given = policy(outbound={"mode": "smarthost", "smarthost": hub})
    secrets: list[dict[str, bytes]] = [{}, {"username": b"u"}, {"password": b"p"}]
    for held in secrets:
        broken = Compiled(server(), given, policy("other"), secrets={("default", "hub"): held})
        assert (record(broken).smarthost, record(broken).direct) == (None, False)
        assert broken.ready(given)[0] == "False"
        assert "is refused until its smarthost is set" in broken.ready(server())[2]
    missing = Compiled(server(), policy("other"), given)
    assert (record(missing).smarthost, record(missing).direct) == (None, False)
    whole = Compiled(server(), given, secrets={("default", "hub"): {"username": b"u", "password": b"p"}})
    assert record(whole).smarthost == Smarthost("hub.test", 587, "none", "u", "p")
    assert not record(whole).direct


def test_a_tenants_lists_are_about_its_own_domains() -> None:
    theirs = policy("theirs", "tenant", **DENY)
    compiled = Compiled(OPEN, domain(), domain("b.test", "tenant"), theirs)
    (rule,) = record(compiled).screening.lists
    assert (rule.name, rule.scope) == ("no spam", ("b.test",))
    assert compiled.ready(theirs)[0] == "True"


def test_a_tenant_cannot_widen_what_the_platform_allows() -> None:
    wide = {"outbound": {"trusted": [{"name": "all", "cidr": "0.0.0.0/0"}]}, "auth": {"skipLan": True}}
    theirs = policy("theirs", "tenant", **DENY, **wide)
    compiled = Compiled(OPEN, domain("b.test", "tenant"), theirs)
    made = record(compiled)
    assert made.trusted == () and not made.skip_lan and len(made.screening.lists) == 1
    status, reason, text = compiled.ready(theirs)
    assert (status, reason) == ("False", "PlatformOnly") and "spec.auth" in text


def test_a_tenant_without_a_domain_is_told_so() -> None:
    theirs = policy("theirs", "tenant", **DENY)
    compiled = Compiled(server(), theirs)
    assert compiled.ready(theirs)[1] == "NoDomain"
    assert record(compiled).screening.lists == ()


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        (
            {
                "lists": {
                    "allow": [{"name": "a", "criteria": {"helo": "x"}}],
                    "deny": [{"name": "b", "criteria": {"helo": "x"}}],
                }
            },
            "Contradiction",
            "'a' and spec.lists.deny 'b'",
        ),
        (
            {"outbound": {"rules": [{"name": "a", "sender": "x"}, {"name": "b", "sender": "x"}]}},
            "Contradiction",
            "'b' matches the mail of 'a'",
        ),
        ({"outbound": {"mode": "smarthost", "smarthost": {"host": "mail.a.test"}}}, "Loop", "come back"),
        ({"auth": {"skipLan": True}}, "NoLan", "lanNetworks"),
    ],
)
def test_what_contradicts_itself_is_said_and_the_rest_is_in_force(
    spec: dict[str, Any], reason: str, words: str
) -> None:
    faulty = policy(**spec, limits={"recipients": 7})
    compiled = Compiled(server(), faulty)
    status, found, text = compiled.ready(faulty)
    assert (status, found) == ("False", reason) and words in text
    assert record(compiled).max_recipients == 7


def test_delivery_rules_keep_their_order_and_wait_for_their_credentials() -> None:
    hub = {"host": "hub.test", "tls": "none", "authSecretRef": {"name": "hub"}}
    rules = [
        {"name": "boss", "sender": "boss@a.test", "smarthost": hub},
        {"name": "near", "recipient": "near.test"},
    ]
    given = policy(outbound={"rules": rules})
    missing = Compiled(server(), given)
    assert missing.ready(given)[1] == "SecretMissing"
    first, second = record(missing).routes
    assert first.via and first.via.host.endswith(".invalid")  # mail waits; it does not go another way
    assert second == Route("main/near", recipient="near.test")
    there = Compiled(server(), given, secrets={("default", "hub"): {"username": b"u", "password": b"p\n"}})
    assert record(there).routes[0].via == Smarthost("hub.test", 587, "none", "u", "p")
    assert there.ready(given)[0] == "True"


def test_an_account_has_its_own_login_at_the_smarthost() -> None:
    own = {"passwordSecretRef": {"name": "own"}}
    info, named = mailbox("info", smarthostAuth=own), mailbox("anna", smarthostAuth={**own, "username": "u"})
    without = Compiled(server(), domain(number=7), info)
    assert without.ready(info)[1] == "SecretMissing"
    assert without.accounts["7/info"].smarthost is None  # type: ignore[index]
    there = Compiled(
        server(), domain(number=7), info, named, secrets={("default", "own"): {"password": b"p"}}
    )
    found = {id: account.smarthost for id, account in there.accounts.items()}
    assert found == {"7/maint": None, "7/info": ("info@a.test", "p"), "7/anna": ("u", "p")}


# --- every field, from both sides

NET = [{"name": "n", "cidr": "198.51.100.0/24"}]
HUB = {"host": "hub.test"}
VALUES: dict[str, dict[str, Any]] = {
    "lanNetworks": {"lanNetworks": NET},
    "auth.required": {"auth": {"required": True}},
    "auth.skipLan": {"auth": {"skipLan": True}},
    "auth.senderMustMatch": {"auth": {"senderMustMatch": False}},
    "limits.messageSize": {"limits": {"messageSize": "1M"}},
    "limits.recipients": {"limits": {"recipients": 1}},
    "limits.hops": {"limits": {"hops": 1}},
    "tls.required": {"tls": {"required": False}},
    "profile.hostname": {"profile": {"hostname": "mx.else.test"}},
    "profile.banner": {"profile": {"banner": "hello"}},
    "profile.helpUrl": {"profile": {"helpUrl": "https://else.test"}},
    "externalPostmasters": {"externalPostmasters": ["x@else.test"]},
    "autoForward": {"autoForward": False},
    "outbound.mode": {"outbound": {"mode": "smarthost", "smarthost": HUB}},
    "outbound.smarthost": {"outbound": {"mode": "smarthost", "smarthost": {"host": "other.test"}}},
    "outbound.trusted": {"outbound": {"trusted": NET}},
    "outbound.rules": {"outbound": {"rules": [{"name": "r", "sender": "b.test", "smarthost": HUB}]}},
    "outbound.shaping": {"outbound": {"shaping": [{"name": "s", "mx": "*", "connections": 1}]}},
    "inbound.domains": {"inbound": {"domains": [{"name": "r", "domain": "relayed.test"}]}},
    "inbound.resolvers": {"inbound": {"resolvers": ["192.0.2.53"]}},
    "lists.allow": ALLOW,
    "lists.deny": DENY,
    "senderPolicy.rejectNonFqdn": {"senderPolicy": {"rejectNonFqdn": True}},
    "senderPolicy.rejectUnknownDomain": {"senderPolicy": {"rejectUnknownDomain": True}},
    "connectionPolicy.requirePtr": {"connectionPolicy": {"requirePtr": True}},
    "connectionPolicy.rejectEarlyTalkers": {"connectionPolicy": {"rejectEarlyTalkers": True}},
    "connectionPolicy.maxConcurrent": {"connectionPolicy": {"maxConcurrent": 1}},
    "connectionPolicy.ratePerMinute": {"connectionPolicy": {"ratePerMinute": 1}},
    "helo.required": {"helo": {"required": False}},
    "helo.fqdn": {"helo": {"fqdn": True}},
    "helo.known": {"helo": {"known": True}},
    "advanced.disableVrfy": {"advanced": {"disableVrfy": True}},
    "advanced.refuseEarlyPipelining": {"advanced": {"refuseEarlyPipelining": True}},
}


def test_no_field_of_a_policy_is_forgotten_here() -> None:
    fields = set()
    for name, info in RelayPolicySpec.model_fields.items():
        if name == "server_ref":
            continue
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Part):
            fields |= {f"{info.alias}.{part.alias}" for part in inner.model_fields.values()}
        else:
            fields.add(str(info.alias))
    assert fields == set(VALUES)


@pytest.mark.parametrize("field", VALUES)
def test_a_tenants_policy_moves_nothing_but_the_lists_of_its_own_domains(field: str) -> None:
    world = (OPEN, domain(), mailbox("info"), domain("b.test", "tenant"), policy("main"))
    theirs = policy("theirs", "tenant", **VALUES[field])
    before, after = Compiled(*world), Compiled(*world, theirs)
    if field.startswith("lists"):
        (rule,) = record(after).screening.lists
        assert rule.scope == ("b.test",)
        assert replace(record(after), screening=record(before).screening) == record(before)
    else:
        assert after.plan.objects == before.plan.objects
        assert after.ready(theirs)[1] == "PlatformOnly"
        assert f"spec.{field.partition('.')[0]} is for policies in" in after.ready(theirs)[2]
    assert after.plan.credentials == before.plan.credentials
    assert after.plan.questions == before.plan.questions
    others = {ref: status for ref, status in after.plan.statuses.items() if ref != theirs.ref}
    assert others == before.plan.statuses


@pytest.mark.parametrize("field", VALUES)
def test_the_platforms_policy_is_everybodys(field: str) -> None:
    world = (OPEN, domain("b.test", "tenant"))
    before = Compiled(*world, policy("main"))
    after = Compiled(*world, policy("main", **VALUES[field]))
    assert (after.plan.directory, after.plan.credentials) != (before.plan.directory, before.plan.credentials)
