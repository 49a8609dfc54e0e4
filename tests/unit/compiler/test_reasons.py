"""Each reason that compile() gives for an object stands in its condition, with a message that names it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from mail_operator.compiler.snapshot import Question
from mail_operator.kinds import Resource

from tests.support.compiling import Compiled, alias, domain, mailbox, resource, server

A = (server(), domain("a.test", number=7))
RELAYED = resource(
    "RelayPolicy",
    "main",
    serverRef={"name": "main"},
    inbound={"domains": [{"name": "r", "domain": "r.test"}]},
)
GENERATED = {"forms": ["generated"]}
PREFIX: dict[str, Any] = {"login": {"forms": ["prefixed"], "prefix": "xyz00"}}


class Case(NamedTuple):
    """The last object has the reason."""

    reason: str
    objects: tuple[Resource, ...]
    fields: Mapping[str, Any] = MappingProxyType({})
    condition: str = "Ready"
    status: str = "False"


def dkim(**values: bytes) -> dict[str, Any]:
    keys = {name.replace("_", "."): value for name, value in values.items()}
    return {"secrets": {("default", "a-test-dkim"): keys}}


def mx(*hosts: str) -> dict[str, Any]:
    return {"answers": {Question("r.test", "MX"): hosts}}


CASES = [
    Case("Serving", (*A, mailbox("info")), status="True"),
    Case("NotYet", (*A, resource("MailingList", "team", domainRef={"name": "a-test"}, members=["x@b.test"]))),
    Case("PasswordPending", (*A, mailbox("info", passwordHash=None)), status="Unknown"),
    Case("ServerMissing", (domain(),)),
    Case("AdditionalNameTaken", (*A, domain("b.test", additionalNames=["a.test"]))),
    Case("DkimKeyInvalid", A, dkim(x_key=b"no key")),
    Case("DkimKeyMissing", A, dkim(other=b"x")),
    Case("NotAsked", A, condition="DNSComplete", status="Unknown"),
    Case("NoMX", (server(), RELAYED), mx(), "DNSReady"),
    Case("Complete", (server(), RELAYED), mx("10 mx.r.test", "20 mail.a.test"), "DNSReady", "True"),
    Case("WrongOrder", (server(), RELAYED), mx("10 mail.a.test"), "MXOrder"),
    Case("LoginPrefixMissing", (server(loginForms=["prefixed"]), domain())),
    Case("LoginPrefixTaken", (server(), domain(**PREFIX), domain("b.test", **PREFIX))),
    Case(
        "DomainNotServed",
        (
            server(),
            domain("a.test", "other"),
            resource("Mailbox", "info", "other", domainRef={"name": "a-test"}, passwordHash="{PLAIN}x"),
        ),
    ),
    Case(
        "MailboxLimit",
        (server(), domain(limits={"mailboxes": 1}), mailbox("one"), mailbox("two")),
    ),
    Case("ShardMissing", (*A, mailbox("info", shard=1))),
    Case(
        "LoginNameTaken",
        (
            server(),
            domain(login=GENERATED),
            mailbox("one", loginName="abcdef"),
            mailbox("two", loginName="abcdef"),
        ),
    ),
    Case("LeadsNowhere", (*A, alias("sales", "nobody@a.test"))),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.reason)
def test_the_reason_is_told(case: Case) -> None:
    found = Compiled(*case.objects, **case.fields)
    condition = found.condition(case.objects[-1], case.condition)
    assert condition is not None
    assert (condition["status"], condition["reason"]) == (case.status, case.reason)
    assert condition["message"].endswith(".")
