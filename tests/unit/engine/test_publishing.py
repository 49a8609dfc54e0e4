"""What is written of a status, with which times, and when an Event says so."""

import asyncio
import json
from collections.abc import Collection, Mapping
from typing import Any, cast

import pytest
from mail_operator.engine.faults import FaultLog
from mail_operator.engine.publishing import Publisher
from mail_operator.engine.runtime import ObservedResource, Runtime, Status
from mail_operator.kinds.meta import ObjectRef

DOMAIN = ObjectRef("MailDomain", "t", "a-test")
BEFORE = "2026-01-01T00:00:00Z"


def condition(type_: str, status: str, reason: str, **more: str) -> dict[str, str]:
    return {"type": type_, "status": status, "reason": reason, "message": "It is so.", **more}


class FakeRuntime:
    """A runtime with one domain, of which it knows this status."""

    def __init__(self, *conditions: Mapping[str, str], **fields: Any) -> None:
        there = {**fields, "conditions": conditions} if conditions else {}
        self.status = json.dumps(there).encode()
        self.written: list[tuple[Status, set[str]]] = []
        self.events: list[tuple[str, str]] = []
        self.publisher = Publisher(cast(Runtime, self), FaultLog(print), print)

    def observed(self, ref: ObjectRef) -> ObservedResource:
        return ObservedResource(("uid", 1, ()), None, (), False, False, self.status)

    async def publish(self, ref: ObjectRef, status: Status, removed: Collection[str]) -> None:
        self.written.append((status, set(removed)))
        self.status = json.dumps(status).encode()

    async def event(self, ref: ObjectRef, uid: str, type_: str, reason: str, message: str) -> None:
        self.events.append((type_, reason))

    def say(self, *conditions: Mapping[str, str], busy: bool = False, **fields: Any) -> None:
        """Publish it."""
        wanted = {DOMAIN: {**fields, "conditions": list(conditions)}}
        assert asyncio.run(self.publisher.publish(wanted, busy=busy))


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        (("True", "Serving"), ("False", "NumberTaken"), "Warning"),
        (("False", "NumberTaken"), ("True", "Serving"), "Normal"),
        (None, ("False", "NumberTaken"), "Warning"),
        (None, ("True", "Serving"), None),
        (("False", "NumberTaken"), ("False", "DomainLimit"), None),
        (("False", "NumberTaken"), ("False", "DeletionHeld"), "Warning"),
        (("False", "Deleting"), ("False", "DeletionHeld"), "Warning"),
        (("True", "Serving"), ("Unknown", "Propagating"), None),
    ],
)
def test_an_event_is_told_when_ready_turns_and_at_no_other_write(
    was: tuple[str, str] | None, now: tuple[str, str], told: str | None
) -> None:
    runtime = FakeRuntime(*([condition("Ready", *was)] if was else []))
    runtime.say(condition("Ready", *now))
    assert runtime.events == ([(told, now[1])] if told else [])
    runtime.say(condition("Ready", *now), number=7)
    assert len(runtime.written) == 2 and len(runtime.events) == bool(told)


def test_a_condition_says_since_when_it_is_as_it_is() -> None:
    there = [condition(each, "True", "Serving", lastTransitionTime=BEFORE) for each in ("Ready", "Accepting")]
    runtime = FakeRuntime(*there)
    runtime.say(condition("Ready", "True", "Other"), condition("Accepting", "False", "Deleting"))
    ((status, _),) = runtime.written
    ready, accepting = (each["lastTransitionTime"] for each in status["conditions"])
    assert ready == BEFORE and accepting > BEFORE


def test_what_is_there_already_is_not_written_and_what_is_gone_is_taken_away() -> None:
    runtime = FakeRuntime(condition("Ready", "True", "Serving", lastTransitionTime=BEFORE), number=7, old="x")
    runtime.say(condition("Ready", "True", "Serving"), number=7, old="x")
    assert not runtime.written
    runtime.say(condition("Ready", "True", "Serving"), number=7)
    runtime.say(condition("Ready", "True", "Serving"), number=7)
    assert [removed for _, removed in runtime.written] == [{"old"}]


def test_what_dns_said_before_stays_until_it_is_asked_again() -> None:
    there = condition("DNSComplete", "True", "Complete", lastTransitionTime=BEFORE)
    runtime = FakeRuntime(there)
    runtime.say(condition("DNSComplete", "Unknown", "NotAsked"))
    assert not runtime.written
    runtime.say(condition("DNSComplete", "False", "RecordsMissing"))
    assert runtime.written[0][0]["conditions"][0]["reason"] == "RecordsMissing"


def test_numbers_that_change_again_at_once_wait_and_nothing_else_does() -> None:
    serving = condition("Ready", "True", "Serving")
    runtime = FakeRuntime()
    runtime.say(serving, mailboxes=1, busy=True)
    runtime.say(serving, mailboxes=2, busy=True)
    assert [status["mailboxes"] for status, _ in runtime.written] == [1]
    runtime.say(condition("Ready", "False", "NumberTaken"), mailboxes=3, busy=True)
    runtime.say(condition("Ready", "False", "NumberTaken"), mailboxes=4)
    assert [status["mailboxes"] for status, _ in runtime.written] == [1, 3, 4]
