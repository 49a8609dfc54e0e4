"""An exception of ours in any builder stays with the object that it was building for."""

import datetime
import gc
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import mail_operator.compiler
import mail_operator.policies
import pytest
from mail_operator.compiler import faults
from mail_operator.compiler.compiling import compile
from mail_operator.compiler.plan import Plan
from mail_operator.compiler.snapshot import Question, Snapshot
from mail_operator.compiler.status import ready_of
from mail_operator.engine.secrets import make_dkim_keys
from mail_operator.kinds import Resource
from mail_operator.kinds.meta import ObjectRef

from tests.support.compiling import alias, domain, mailbox, resource, server, snapshot

ROOMS = tuple(str(Path(m.__file__ or "").parent) for m in (mail_operator.compiler, mail_operator.policies))
WHOLE = {
    "__init__",
    "compile",
    "build_topology",
    "merge",
    "outcome",
    "statuses",
    "age_key",
    "server_of",
    "domain_of",
    "place",
    "full",
}


NEEDED = {"ready", "condition", "condition_of", "status_of", "_observed", "_hold"}  # to tell, and to keep

ALWAYS = 0


def is_function(code: CodeType) -> bool:
    return not (code.co_name.startswith("<") or code.co_freevars)


def is_whole(code: CodeType) -> bool:
    """Whether it looks at everything at once, or says but what an object refers to."""
    return code.co_name in WHOLE or (code.co_qualname.startswith("_Run.") and code.co_name != "_alias_status")


@contextmanager
def traced(calls: Counter[CodeType], at: tuple[CodeType, int] | None = None) -> Iterator[None]:
    """Count the calls of our functions, and raise in one of them."""

    def started(frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        if code.co_filename.startswith(ROOMS) and is_function(code):
            calls[code] += 1
            if at == (code, calls[code]):
                raise ValueError(f"hunter{2}")

    sys.settrace(started)  # an exception here is one of the function that is called
    try:
        yield
    finally:
        sys.settrace(None)


@contextmanager
def broken(code: CodeType, nth: int) -> Iterator[None]:
    """In that call of a function there is an exception, or in all of them."""
    if nth != ALWAYS:
        with traced(Counter(), (code, nth)):
            yield
        return

    def fail(*args: object, **kwargs: object) -> None:
        int(f"hunter{2}")

    failing = fail.__code__.replace(co_name=code.co_name)
    found = [f for f in gc.get_referrers(code) if isinstance(f, FunctionType)]
    for function in found:
        function.__code__ = failing
    try:
        yield
    finally:
        for function in found:
            function.__code__ = code


def policy(name: str, namespace: str = "default", **spec: Any) -> Resource:
    at = {"name": "main", "namespace": "default"}
    return resource("RelayPolicy", name, namespace, serverRef=at, **spec)


def world() -> Snapshot:
    """Something of everything."""
    smarthost = {"host": "hub.test", "authSecretRef": {"name": "hub"}}
    deny = {"deny": [{"name": "spam", "criteria": {"sender": "spam.test"}}]}
    objects = [
        server(
            allowedNamespaces={"from": "All"},
            store={"shards": 2},
            bulk={"replicas": 1},
            portal={"replicas": 1, "url": "https://mail.a.test"},
            tls={"issuerRef": {"name": "le", "kind": "ClusterIssuer"}},
            addresses=["192.0.2.1"],
            limits={"tenantObjects": 1},
        ),
        domain("a.test", number=7, login={"forms": ["generated", "address"]}, catchAll="info@a.test"),
        domain("b.test", "tenant", hostnames=["imap.b.test"], additionalNames=["c.test"]),
        domain("d.test", login={"forms": ["numbered"]}),
        mailbox("info", services={"imap": "lan"}, quota="1Gi"),
        mailbox("anna", passwordHash=None, passwordSecretRef={"name": "pw"}),
        mailbox("otto", passwordHash=None, smarthostAuth={"passwordSecretRef": {"name": "hub"}}),
        alias("sales", "info", "x@else.test"),
        alias("both", "sales@a.test", "anna@a.test"),
        resource("MailingList", "team", domainRef={"name": "a-test"}, members=["x@else.test"]),
        mailbox("lone", of="nowhere"),
        mailbox("dora", of="d-test", formerAddress={"domainRef": {"name": "a-test"}}, shard=0),
        resource(
            "MailAlias", "late", "tenant", domainRef={"name": "b-test"}, targets=[{"address": "x@e.test"}]
        ),
        policy(
            "main",
            outbound={
                "mode": "smarthost",
                "smarthost": smarthost,
                "rules": [{"name": "r", "sender": "a.test", "smarthost": smarthost}],
                "shaping": [{"name": "s", "mx": "*.x.test", "connections": 2}],
            },
            inbound={"domains": [{"name": "r", "domain": "relayed.test"}]},
        ),
        policy("second", lists=deny),
        policy("theirs", "tenant", lists=deny),
        resource("RelayPolicy", "orphan", serverRef={"name": "none"}),
    ]
    keys = make_dkim_keys(datetime.date(2026, 1, 1))
    return snapshot(
        *objects,
        secrets={
            ("default", "hub"): {"username": b"u", "password": b"p"},
            ("default", "a-test-dkim"): keys,
            ("default", "main-certificate"): {"tls.crt": b"x", "tls.key": b"y"},
        },
        answers={Question("relayed.test", "MX"): ("10 mail.a.test",), Question("a.test", "MX"): ()},
    )


def again(before: Snapshot) -> Snapshot:
    """Equal, and new in every part, so that nothing of it may be kept unseen."""
    objects = {ref: each.model_copy() for ref, each in before.objects.items()}
    return replace(before, objects=objects)


BEFORE = world()
WAS = compile(BEFORE)


def places() -> dict[CodeType, set[int]]:
    """All calls, the first, and the last one of each function."""
    calls = Counter[CodeType]()
    with traced(calls):
        compile(again(BEFORE), WAS)
    places = dict[CodeType, set[int]]()
    for code, last in calls.items():
        if not is_whole(code):
            # A generator is called anew for each thing that it gives.
            places[code] = set() if code.co_flags & inspect.CO_GENERATOR else {last}
            places[code] |= set() if code.co_name in NEEDED else {ALWAYS}
    return places


PLACES = places()


def files(plan: Plan) -> Any:
    return plan.directory, plan.credentials


def reason(plan: Plan, ref: ObjectRef) -> tuple[str, str]:
    found = ready_of(plan.statuses[ref])
    assert found is not None
    return found["reason"], found["message"]


@pytest.mark.parametrize("code", PLACES, ids=lambda code: f"{Path(code.co_filename).stem}.{code.co_qualname}")
def test_the_last_plan_stays_where_a_builder_fails_and_all_others_go_on(code: CodeType) -> None:
    for nth in PLACES[code]:
        with broken(code, nth):
            plan = compile(again(BEFORE), WAS)
        assert files(plan) == files(WAS), nth
        assert plan.objects == WAS.objects
        assert plan.statuses.keys() == WAS.statuses.keys()
        told = {fault.ref: fault for fault in plan.faults}
        for ref, status in plan.statuses.items():
            if ref in told:
                why, message = reason(plan, ref)
                assert why == "InternalError" and told[ref].id in message and "hunter2" not in message
                assert code.co_name in told[ref].traceback and "hunter2" not in told[ref].traceback
            elif reason(plan, ref)[0] != faults.REASON:  # as objects of a domain or server that has a fault
                assert status == WAS.statuses[ref]
        assert compile(BEFORE, plan) == WAS


@pytest.mark.parametrize("code", PLACES, ids=lambda code: f"{Path(code.co_filename).stem}.{code.co_qualname}")
def test_at_the_first_start_what_has_a_fault_is_out_alone(code: CodeType) -> None:
    for nth in PLACES[code] - {ALWAYS} or {ALWAYS}:
        with broken(code, nth):
            plan = compile(BEFORE)
        told = {fault.ref for fault in plan.faults}
        assert plan.statuses.keys() == WAS.statuses.keys()
        if not plan.directory:
            assert not any(reason(plan, ref)[0] == "Serving" for ref in plan.statuses)
        elif nth != ALWAYS and all(ref.kind in ("Mailbox", "MailAlias") for ref in told):
            changed = {ref for ref, status in plan.statuses.items() if status != WAS.statuses[ref]}
            # Aliases may have led there, and the others count mailboxes.
            assert all(ref.kind in ("MailAlias", "MailDomain", "MailServer") for ref in changed - told)
        assert compile(BEFORE, plan) == WAS
