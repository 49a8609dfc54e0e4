"""Every status that compile() can make is one that an API server takes."""

import datetime
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from mail_operator.compiler.compiling import compile
from mail_operator.compiler.snapshot import PasswordHash, SecretProblem, Snapshot
from mail_operator.compiler.status import invalid_status, overruled, withheld
from mail_operator.engine.secrets import make_dkim_keys
from mail_operator.kinds import Resource, load
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict

from tests.support import gotools
from tests.support.broken import manifest
from tests.support.schema import refusals

_MISSING, _WHY = gotools.missing("schema")
pytestmark = pytest.mark.skipif(_MISSING, reason=_WHY)

Document = dict[str, Any]
Spec = dict[str, Any]
MAIN = {"name": "main"}
FORMS = ["numbered", "address", "generated", "prefixed"]
HASH = "{BLF-CRYPT}$2y$10$abc"
RULE = {"name": "partner", "recipient": "*.partner.test", "smarthost": {"host": "hub.test", "port": 2525}}

# Fields of each kind, of which a random installation has some.
SERVER: Spec = {
    "hostnames": ["imap.example.org", "smtp.example.org"],
    "addresses": ["192.0.2.1", "2001:db8::1"],
    "service": {"annotations": {"a": "b"}, "proxies": ["192.0.2.0/24"], "ipFamilies": ["IPv6", "IPv4"]},
    "scheduling": {"nodeSelector": {"disk": "fast"}, "tolerations": [{"operator": "Exists"}]},
    "storage": {"size": 21474836480, "spoolSize": "1.5Gi", "className": "fast"},
    "smtp": {"replicas": 3, "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": 1073741824}}},
    "bulk": {
        "replicas": 2,
        "sourceAddress": "2001:db8::2",
        "unsubscribeUrl": "https://bulk.example.org",
        "limits": {"tenantPerDay": 1000, "warmUp": {"start": "2026-02-28", "perDay": [50, 50, 100]}},
    },
    "portal": {"replicas": 1, "url": "https://help.example.org"},
    "store": {"shards": 3, "retentionDays": 0},
    "loginForms": FORMS,
    "tls": {"issuerRef": {"name": "acme", "kind": "ClusterIssuer"}},
    "limits": {"domains": 3},
    "groupware": {"enabled": True},
}
POLICY: Spec = {
    "lanNetworks": [{"name": "office", "cidr": "192.0.2.0/24"}, {"name": "home", "cidr": "2001:db8::/32"}],
    "auth": {"required": True, "skipLan": True, "senderMustMatch": False},
    "limits": {"messageSize": 128_000_000, "recipients": 5},
    "profile": {"hostname": "mx.example.org", "helpUrl": "https://help.example.org"},
    "externalPostmasters": ["admin@other.test"],
    "autoForward": False,
    "outbound": {"mode": "smarthost", "smarthost": {"host": "hub.test", "authSecretRef": {"name": "hub"}}},
    "inbound": {
        "domains": [
            {"name": "x", "domain": "x.test", "nextHop": "mx.x.test"},
            {"name": "y", "domain": "y.test"},
        ],
        "resolvers": ["192.0.2.53:5300", "2001:db8::53"],
    },
    "lists": {"deny": [{"name": "spam", "criteria": {"sender": "*@spam.test"}, "action": "discard"}]},
}
DOMAIN: Spec = {
    "additionalNames": ["b.test", "c.test"],
    "number": 7,
    "login": {"forms": FORMS, "prefix": "xyz00"},
    "admin": {"passwordSecretRef": {"name": "admin"}},
    "limits": {"mailboxes": 2, "aliasesPerAddress": 0, "forwardersPerAddress": 1},
    "addressConflict": "AliasWins",
    "catchAll": "info@a.test",
    "deletionPolicy": "Delete",
    "bulk": {"enabled": False},
    "dkim": {"rotateDays": 31},
    "autoconfig": True,
    "hostnames": ["imap.a.test", "smtp.a.test"],
}
MAILBOX: Spec = {
    "localPart": "anna.b",
    "formerAddress": {"localPart": "otto"},
    "displayName": "Anna",
    "passwordHash": HASH,
    "quota": 1073741824,
    "services": {"imap": "lan", "pop3": "disabled", "sieve": "off", "fetch": True},
    "autoresponder": {"text": "Away", "startDate": "2026-01-01", "endDate": "2026-01-02"},
    "spam": {"preset": "disabled", "allow": ["a.test"]},
    "sieve": "keep;",
    "fetch": [{"host": "x.test", "user": "u", "secretRef": {"name": "s"}}] * 2,
    "smarthostAuth": {"passwordSecretRef": {"name": "hub"}},
    "shard": 2,
    "loginName": "abc123",
}
TARGETS = [{"mailboxRef": {"name": "info"}}, {"mailboxRef": {"name": "none"}}, {"address": "out@other.test"}]


def some(of: Spec, rng: random.Random) -> Spec:
    """Some of the fields."""
    return {field: value for field, value in of.items() if rng.random() < 0.6}


def installation(rng: random.Random) -> Iterator[Document]:
    """Most of everything, much of it in conflict with the rest."""
    at = {"name": "main", "namespace": "default"} if rng.random() < 0.9 else {"name": "none"}
    yield manifest("MailServer", {"hostname": "mail.example.org", **some(SERVER, rng)}, "main")
    for name in ("main", "more"):
        yield manifest("RelayPolicy", {"serverRef": MAIN, **some(POLICY, rng)}, name)
    for name in ("a", "d", "e"):
        spec = {"domainName": f"{name}.test", "serverRef": at, **some(DOMAIN, rng)}
        yield manifest("MailDomain", spec, name)
        of = {"domainRef": {"name": rng.choice([name, "none"])}}
        yield manifest("Mailbox", {"domainRef": {"name": name}}, "info" if name == "a" else f"info-{name}")
        for n in range(3):
            yield manifest("Mailbox", of | some(MAILBOX, rng), f"user{n}-{name}")
            targets = rng.sample(TARGETS, rng.randint(1, 3))
            yield manifest(
                "MailAlias", of | {"targets": targets}, rng.choice([f"user{n}-{name}", f"alias{n}-{name}"])
            )
        yield manifest("MailingList", of | {"members": ["a@other.test"], "pool": "bulk"}, f"list-{name}")


@pytest.fixture(scope="module")
def keys() -> dict[str, bytes]:
    """DKIM keys of a domain in the midst of a rotation."""
    old, new = (make_dkim_keys(datetime.date(2026, month, 1)) for month in (1, 2))
    return old | new


def look(resources: list[Resource], keys: Mapping[str, bytes], rng: random.Random) -> Snapshot:
    """What is known of these objects: not everything."""
    secrets: dict[tuple[str, str], Any] = {("default", f"{name}-dkim"): keys for name in ("a", "d", "max")}
    secrets["default", "hub"] = rng.choice(
        [
            {"username": b"u", "password": b"p"},
            {},
            SecretProblem("SecretUnreadable", "Secret default/hub: 403."),
        ]
    )
    empty = SecretProblem("Empty", "Secret default/admin holds an empty password: write one.")
    passwords: dict[tuple[str, str], PasswordHash | SecretProblem] = {
        ("default", "main-key"): PasswordHash("x"),
        ("default", "info-password"): PasswordHash(HASH, "uid/1"),
        ("default", "admin"): empty if rng.random() < 0.5 else PasswordHash(HASH),
    }
    age = {each.ref: n for n, each in enumerate(resources)}
    addresses = {ObjectRef("MailServer", "default", "main"): ("198.51.100.1", "2001:db8::3")}
    found = Snapshot(
        {each.ref: each for each in resources},
        age=age,
        passwords=passwords,
        secrets=secrets,
        addresses=addresses,
    )
    asked = sorted(compile(found).questions)
    answers = {question: rng.choice([(), ("192.0.2.1",), ("10 mail.example.org",)]) for question in asked}
    return Snapshot(**{**vars(found), "answers": {q: a for q, a in answers.items() if rng.random() < 0.7}})


def live(documents: list[Document], snapshot: Snapshot) -> Iterator[Document]:
    """The objects with each status that they may get, as the operator writes it."""
    statuses = compile(snapshot).statuses
    for document in documents:
        ref = ObjectRef(document["kind"], "default", document["metadata"]["name"])
        made = statuses[ref]
        invalid = invalid_status([("spec.new", "no such field: remove it")] * 3000, 3)
        for status in (
            made,
            withheld(made, "main-smtp-0"),
            overruled(made, Verdict("NotApplied", "x" * 40000)),
            invalid,
        ):
            conditions = [{**c, "lastTransitionTime": "2026-01-01T00:00:00Z"} for c in status["conditions"]]
            yield {**document, "status": {**status, "conditions": conditions}}


def loaded(documents: list[Document]) -> list[Resource]:
    """The resources, in their third generation."""
    for document in documents:
        document["metadata"]["generation"] = 3
    return [load(document) for document in documents]


def test_the_statuses_of_random_installations_are_valid(keys: dict[str, bytes]) -> None:
    found: list[Document] = []
    for seed in range(20):
        rng = random.Random(seed)
        unique = {(d["kind"], d["metadata"]["name"]): d for d in installation(rng)}
        documents = list(unique.values())
        found += live(documents, look(loaded(documents), keys, rng))
    wrong = [(d["kind"], why) for d, why in zip(found, refusals(*found), strict=True) if why]
    assert wrong == []
    reasons = {c["reason"] for d in found for c in d["status"]["conditions"]}
    assert len(reasons) > 25, reasons  # otherwise these installations are too tame


def long_name(n: int, most: int) -> str:
    """A domain name of so many characters."""
    return ".".join([f"{n:063}", "b" * 63, "c" * 63, "d" * (most - 3 * 64 - 5), "test"])


def test_the_statuses_of_the_largest_installation_are_valid(keys: dict[str, bytes]) -> None:
    addresses = [f"192.0.2.{n}" for n in range(8)] + [f"2001:db8::{n}" for n in range(8)]
    server = {
        "hostname": long_name(0, 253),
        "hostnames": [long_name(n, 253) for n in range(1, 51)],
        "addresses": addresses,
        "bulk": {"replicas": 1},
    }
    domain = {
        "domainName": long_name(100, 240),
        "additionalNames": [long_name(n, 240) for n in range(101, 201)],
        "serverRef": MAIN,
        "dkim": {"rotateDays": 31},
        "hostnames": [f"imap{n}.{long_name(100, 240)}" for n in range(10)],
    }
    relayed = [{"name": f"d{n}", "domain": long_name(n, 253)} for n in range(1000)]
    documents = [
        manifest("MailServer", server, "x" * 45),
        manifest("RelayPolicy", {"serverRef": {"name": "x" * 45}, "inbound": {"domains": relayed}}, "main"),
        manifest("MailDomain", {**domain, "serverRef": {"name": "x" * 45}}, "max"),
    ]
    found = list(live(documents, look(loaded(documents), keys, random.Random(0))))
    assert refusals(*found) == [[]] * len(found)
    assert max(len(d["status"].get("dns", {"records": []})["records"]) for d in found) > 1100
