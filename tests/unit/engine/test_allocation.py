"""What was written into a spec is in force at once, and for that object alone."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
from mail_operator.engine.allocation import Allocations
from mail_operator.engine.runtime import ObservedResource, Runtime, Unavailable
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.meta import ObjectRef

from tests.support.compiling import domain

BLANK, WRITTEN = domain("a.test"), domain("a.test", number=7)
OBSERVED = ObservedResource(("uid", 1, ()), BLANK, (), False, False, b"{}")
NUMBER = {BLANK.ref: {"number": 7}}


class FakeRuntime:
    """A runtime with one domain."""

    takes = True
    away = False

    def observed(self, ref: ObjectRef) -> ObservedResource | None:
        return OBSERVED if ref == BLANK.ref else None

    async def allocate(self, ref: ObjectRef, patch: Mapping[str, Any]) -> bool:
        if self.away:
            raise Unavailable("away")
        return self.takes


def number(allocations: Allocations, observed: ObservedResource = OBSERVED) -> int | None:
    found = allocations.overlaid(BLANK.ref, observed, BLANK)
    assert isinstance(found, MailDomain)
    return found.spec.number


def test_what_was_written_holds_until_the_spec_shows_it_and_for_no_namesake() -> None:
    allocations = Allocations(cast(Runtime, FakeRuntime()), print)
    assert number(allocations) is None
    assert asyncio.run(allocations.write(NUMBER))
    assert number(allocations) == 7
    twice = [allocations.overlaid(BLANK.ref, OBSERVED, BLANK) for _ in range(2)]
    assert twice[0] is twice[1], "or all of its domain would be compiled once more"
    assert allocations.overlaid(BLANK.ref, OBSERVED, WRITTEN) is WRITTEN
    asyncio.run(allocations.write(NUMBER))
    assert number(allocations, replace(OBSERVED, made_of=("another", 1, ()))) is None
    assert number(allocations) is None, "that one is gone"


def test_what_was_not_written_is_not_put_to_use() -> None:
    runtime, log = FakeRuntime(), list[str]()
    runtime.takes = False
    allocations = Allocations(cast(Runtime, runtime), log.append)
    assert not asyncio.run(allocations.write(NUMBER))
    assert number(allocations) is None and "not written" in log[0]
    runtime.away = True
    with pytest.raises(Unavailable, match="number"):
        asyncio.run(allocations.write(NUMBER))
    assert number(allocations) is None
