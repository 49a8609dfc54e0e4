"""Manifests that break their schema, each with the field and words of the refusal.

Every place that refuses manifests is held to this one table: load() here, the API server by crds/.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Broken(NamedTuple):
    """A manifest, the field that is wrong, and words that load() says of it."""

    document: dict[str, Any]
    field: str
    words: str


def manifest(kind: str, spec: Mapping[str, Any], name: str = "info") -> dict[str, Any]:
    """A manifest of any kind."""
    return {
        "apiVersion": "mailpods.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": dict(spec),
    }


def mailbox(name: str = "info", **spec: Any) -> dict[str, Any]:
    """A Mailbox."""
    return manifest("Mailbox", {"domainRef": {"name": "a"}, **spec}, name)


def domain(**spec: Any) -> dict[str, Any]:
    """A MailDomain."""
    return manifest("MailDomain", {"domainName": "a.test", "serverRef": {"name": "m"}, **spec})


def server(**spec: Any) -> dict[str, Any]:
    """A MailServer."""
    return manifest("MailServer", {"hostname": "mail.a.test", **spec})


def policy(**spec: Any) -> dict[str, Any]:
    """A RelayPolicy."""
    return manifest("RelayPolicy", {"serverRef": {"name": "m"}, **spec})


def alias(*targets: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """A MailAlias."""
    return manifest("MailAlias", {"domainRef": {"name": "a"}, "targets": list(targets), **spec})


BROKEN = [
    Broken(mailbox(qouta="2Gi"), "spec.qouta", "did you mean quota?"),
    Broken(mailbox(quota="2Gb"), "spec.quota", "e.g. 2Gi"),
    Broken(mailbox(quota=-5), "spec.quota", "e.g. 2Gi"),
    Broken(mailbox(quota=True), "spec.quota", "string"),
    Broken(
        server(smtp={"resources": {"limits": {"cpu": 0.5}}}), "spec.smtp.resources.limits.cpu", "fraction"
    ),
    Broken(mailbox(services={"pop3": 0}), "spec.services.pop3", "'everywhere', 'lan' or 'disabled'"),
    Broken(mailbox(services={"imap": "home"}), "spec.services.imap", "'everywhere', 'lan' or 'disabled'"),
    *(
        Broken(mailbox(services={"groupware": True, "imap": word}), "spec.services.groupware", "needs imap")
        for word in ("disabled", "off")
    ),  # R-004-14
    Broken(mailbox(localPart="jürgen"), "spec.localPart", "without accents"),
    Broken(mailbox(localPart="x" * 65), "spec.localPart", "at most 64"),
    Broken(mailbox(localPart="a..b"), "spec.localPart", "not allowed"),
    Broken(mailbox(localPart="maint"), "spec.localPart", "reserved"),  # R-000-26
    Broken(mailbox("maint"), "metadata.name", "reserved"),
    Broken(mailbox("x" * 65), "metadata.name", "64 characters"),
    Broken(mailbox(passwordHash="{PLAIN}x", passwordSecretRef={"name": "a"}), "spec.passwordHash", "keep"),
    Broken(mailbox(passwordHash="secret"), "spec.passwordHash", "one of Dovecot's schemes"),
    Broken(mailbox(formerAddress={"keepAsAlias": True}), "spec.formerAddress", "names nothing"),
    Broken(mailbox(loginName="abc"), "spec.loginName", "must match"),
    Broken(mailbox(shard=100), "spec.shard", "99"),
    Broken(mailbox(autoresponder={}), "spec.autoresponder.text", "is missing"),
    Broken(
        mailbox(autoresponder={"text": "x", "startDate": "2026-02-03", "endDate": "2026-02-02"}),
        "spec.autoresponder.endDate",
        "before startDate",
    ),
    Broken(mailbox(fetch=[{"host": "x.test", "user": "u"}]), "spec.fetch[0].secretRef", "is missing"),
    Broken(manifest("Mailbox", {}), "spec.domainRef", "is missing"),
    Broken(server(hostname="Mail.A"), "spec.hostname", "not allowed"),
    Broken(server(hostname="x" * 254), "spec.hostname", "at most 253"),
    Broken(server(hostnames=["a.test", "a.test"]), "spec.hostnames[1]", "twice"),
    Broken(server(loginForms=[]), "spec.loginForms", "at least 1"),
    Broken(server(loginForms=["address", "address"]), "spec.loginForms[1]", "twice"),
    *(
        Broken({**server(), "metadata": {"name": name}}, "metadata.name", "DNS-1035")
        for name in ("a.b", "9x", "x" * 46)
    ),
    Broken(
        server(service={"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}),
        "spec.service.ipFamilies",
        "choose PreferDualStack",
    ),
    Broken(server(scheduling={"tolerations": [{}]}), "spec.scheduling.tolerations[0].operator", "Exists"),
    Broken(
        server(scheduling={"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}),
        "spec.scheduling.tolerations[0].value",
        "Equal",
    ),
    Broken(
        server(scheduling={"tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}]}),
        "spec.scheduling.tolerations[0].tolerationSeconds",
        "NoExecute",
    ),
    Broken(
        server(bulk={"limits": {"warmUp": {"start": "2026-13-45"}}}), "spec.bulk.limits.warmUp.start", "month"
    ),
    Broken(
        server(bulk={"limits": {"warmUp": {"start": "2026-01-01", "perDay": [-5]}}}),
        "spec.bulk.limits.warmUp.perDay[0]",
        "greater than or equal to 0",
    ),
    Broken(
        server(bulk={"limits": {"tenantPerDay": 99999999999999}}),
        "spec.bulk.limits.tenantPerDay",
        "less than or equal to",
    ),
    Broken(server(smtp={"replicas": -1}), "spec.smtp.replicas", "greater than or equal to 0"),
    Broken(server(allowedNamespaces={"from": "Selector"}), "spec.allowedNamespaces.matchLabels", "both"),
    Broken(
        server(allowedNamespaces={"matchLabels": {"a": "b"}}), "spec.allowedNamespaces.matchLabels", "both"
    ),
    Broken(domain(domainName="münchen.test"), "spec.domainName", "A-labels"),
    Broken(domain(domainName="test"), "spec.domainName", "not allowed"),
    Broken(domain(number=0), "spec.number", "greater than or equal to 1"),
    Broken(domain(additionalNames=["a.test"]), "spec.additionalNames", "repeats domainName"),
    Broken(domain(additionalNames=["b.test", "b.test"]), "spec.additionalNames[1]", "twice"),
    Broken(domain(login={"forms": ["prefixed"]}), "spec.login.prefix", "e.g. xyz00"),
    Broken(domain(addressConflict="Both"), "spec.addressConflict", "'Refuse' or 'AliasWins'"),
    Broken(domain(catchAll="nobody"), "spec.catchAll", "info@a.test"),
    Broken(alias({}), "spec.targets[0]", "either mailboxRef or address"),
    Broken(
        alias({"mailboxRef": {"name": "a"}, "address": "b@a.test"}), "spec.targets[0]", "either mailboxRef"
    ),
    Broken(alias(), "spec.targets", "at least 1"),
    Broken(manifest("MailingList", {"domainRef": {"name": "a"}}), "spec.members", "is missing"),
    Broken(policy(limits={"messageSize": "129M"}), "spec.limits.messageSize", "128M or less"),
    Broken(policy(limits={"recipients": 0}), "spec.limits.recipients", "greater than or equal to 1"),
    Broken(
        policy(lanNetworks=[{"name": "x", "cidr": "10.0"}]),
        "spec.lanNetworks[0].cidr",
        "IPv4 or IPv6 network",
    ),
    Broken(
        policy(lanNetworks=[{"name": "x", "cidr": "10.0.0.0/8"}, {"name": "x", "cidr": "192.0.2.0/24"}]),
        "spec.lanNetworks[1]",
        "twice",
    ),
    Broken(
        policy(lanNetworks=[{"name": "x", "cidr": "192.0.2.1"}]),
        "spec.lanNetworks[0].cidr",
        "IPv4 or IPv6 network",
    ),
    Broken(server(addresses=["nonsense"]), "spec.addresses[0]", "IPv4 or IPv6 address"),
    Broken(server(addresses=["::ffff:192.0.2.1"]), "spec.addresses[0]", "others know"),
    Broken(server(addresses=["fe80::1%eth0"]), "spec.addresses[0]", "others know"),
    Broken(
        policy(inbound={"resolvers": ["192.0.2.300:5300"]}),
        "spec.inbound.resolvers[0]",
        "IPv4 or IPv6 address",
    ),
    Broken(policy(inbound={"resolvers": ["192.0.2.1:"]}), "spec.inbound.resolvers[0]", "no port"),
    Broken(policy(inbound={"resolvers": ["192.0.2.1:65536"]}), "spec.inbound.resolvers[0]", "no port"),
    Broken(policy(outbound={"mode": "smarthost"}), "spec.outbound.smarthost", "name its host"),
    Broken(
        policy(outbound={"rules": [{"name": "x", "smarthost": {"host": "h.test"}}]}),
        "spec.outbound.rules[0]",
        "matches nothing",
    ),
    Broken(
        policy(lists={"deny": [{"name": "", "criteria": {"helo": "x"}}]}),
        "spec.lists.deny[0].name",
        "at least 1",
    ),  # R-003-19
    Broken(
        policy(lists={"deny": [{"name": "x", "criteria": {}}]}), "spec.lists.deny[0].criteria", "are blank"
    ),
]
