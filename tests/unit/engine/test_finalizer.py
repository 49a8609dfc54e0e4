"""A domain that is deleted stays until every store pod has wiped its mail, and takes along just its own."""

import asyncio
from typing import Any, cast

import pytest
from mail_operator.engine.acknowledgement import Missing
from mail_operator.engine.faults import FaultLog
from mail_operator.engine.finalizer import DomainFinalizer
from mail_operator.engine.runtime import ObservedResource, Runtime
from mail_operator.kinds.meta import ObjectRef

from mailpods.directory.shards import STORE_FILE
from tests.support.compiling import SERVER, alias, domain, mailbox, server, snapshot

DONE = Missing(frozenset(), frozenset({0, 1}))


class Steps:
    """A runtime that writes down what it is told to do."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def hold(self, ref: ObjectRef) -> None:
        self.done.append(f"hold {ref.name}")

    async def release(self, ref: ObjectRef) -> None:
        self.done.append(f"release {ref.name}")

    async def delete(self, ref: ObjectRef) -> None:
        self.done.append(f"delete {ref.name}")


def steps(
    missing: Missing = DONE,
    wiped: frozenset[int] = frozenset({7}),
    deleting: bool = True,
    held: bool = True,
    policy: str = "Delete",
    **objects: Any,
) -> list[str]:
    """What is done about a domain with number 7."""
    of = domain("a.test", number=7, deletionPolicy=policy)
    there = (
        server(store={"shards": 2}),
        mailbox("info"),
        alias("sales", "x@c.test"),
        domain("b.test", number=8),
        mailbox("other", "b-test"),
    )
    observed = ObservedResource(("uid", 1, ()), of, (), deleting, held, b'{"number": 7}')
    runtime, log = Steps(), list[str]()
    finalizer = DomainFinalizer(cast(Runtime, runtime), FaultLog(log.append), log.append)
    seen = snapshot(*there, wiped={SERVER: wiped} if wiped else {})
    assert asyncio.run(finalizer.proceed({of.ref: observed}, seen, lambda of: missing))
    return runtime.done


def test_once_all_is_wiped_it_goes_with_its_own_accounts_and_no_others() -> None:
    assert steps() == ["delete info", "delete sales", "release a-test"]


@pytest.mark.parametrize(
    "missing", [Missing(frozenset(), frozenset({0})), Missing(frozenset({STORE_FILE}), frozenset({0, 1}))]
)
def test_while_a_store_pod_is_down_or_has_not_wiped_it_stays(missing: Missing) -> None:
    assert steps(missing) == ["delete info", "delete sales"]


def test_one_that_waits_loses_nothing() -> None:
    assert steps(wiped=frozenset()) == []
    assert steps(wiped=frozenset({8})) == []


def test_it_is_held_as_long_as_its_mail_goes_with_it() -> None:
    assert steps(deleting=False, held=False) == ["hold a-test"]
    assert steps(deleting=False) == []
    assert steps(deleting=True, held=False) == [], "it is on its way already"
    assert steps(deleting=False, policy="Retain") == ["release a-test"]
    assert steps(deleting=True, policy="Retain") == ["release a-test"], "its mail stays parked"
    assert steps(deleting=False, held=False, policy="Retain") == []
