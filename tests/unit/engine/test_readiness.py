"""Who says Ready when: not before its pods are, not for ever silent, and what its owner can mend first."""

from mail_operator.compiler.plan import Plan
from mail_operator.compiler.status import ready_of
from mail_operator.engine.acknowledgement import Missing
from mail_operator.engine.readiness import Decided, decide, overrule
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict

from tests.support.compiling import SERVER, Compiled, domain, mailbox, server

INFO, LOST = mailbox("info"), mailbox("lost", shard=9)
PLAN = Compiled(server(), domain("a.test", number=7), INFO, LOST).plan
ALL_THERE = Missing(frozenset(), frozenset({0}))
FILES = PLAN.dependencies[INFO.ref].files
LACKING = Missing(FILES, frozenset({0}), pending=FILES)
BROKEN = Verdict("InternalError", "Ours.")


def said(decided: Decided, ref: ObjectRef) -> tuple[str, str] | None:
    """Status and reason of Ready, if it says anything."""
    ready = ready_of(decided.statuses[ref]) if ref in decided.statuses else None
    return (ready["status"], ready["reason"]) if ready else None


def decided(missing: Missing, since: float | None = None, now: float = 100.0) -> Decided:
    before = {} if since is None else {INFO.ref: since}
    return decide(PLAN, {SERVER: missing}, before, now, patience=5.0)


def test_who_lacks_nothing_says_so_and_waits_no_more() -> None:
    found = decided(ALL_THERE, since=99.0)
    assert said(found, INFO.ref) == ("True", "Serving") and not found.waiting


def test_who_waits_is_silent_at_first_and_then_says_for_what() -> None:
    for since, status in ((None, None), (95.1, None), (95.0, ("Unknown", "Propagating"))):
        found = decided(LACKING, since)
        assert said(found, INFO.ref) == status
        assert found.waiting[INFO.ref] == (since or 100.0), "the time goes on"
        assert said(found, LOST.ref) == ("False", "ShardMissing"), "that needs no pod"


def test_what_is_known_beside_the_plan_comes_before_ready_and_after_what_its_owner_can_mend() -> None:
    for missing in (ALL_THERE, LACKING):
        found = decided(missing)
        stranger = ObjectRef("Mailbox", "default", "stranger")
        overrule(found, PLAN, [(INFO.ref, BROKEN), (LOST.ref, BROKEN), (stranger, BROKEN)])
        assert said(found, INFO.ref) == ("False", "InternalError")
        assert said(found, LOST.ref) == ("False", "ShardMissing")
        assert INFO.ref not in found.waiting and stranger not in found.statuses


def test_a_plan_without_objects_says_nothing() -> None:
    assert decide(Plan(), {}, {}, 0.0, 5.0) == Decided({}, {})
