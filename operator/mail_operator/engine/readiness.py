"""What each object may say now: Ready=True only once every pod that serves it has acknowledged its files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mail_operator.compiler.plan import Plan
from mail_operator.compiler.status import overruled, ready_of, withheld
from mail_operator.engine.acknowledgement import Missing
from mail_operator.engine.runtime import Status
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict


@dataclass(frozen=True)
class Decided:
    """The statuses to publish, and who waits for pods and since when; some of those have no status yet."""

    statuses: dict[ObjectRef, Status]
    waiting: dict[ObjectRef, float]


def decide(
    plan: Plan,
    missing: Mapping[ObjectRef, Missing],
    waiting_before: Mapping[ObjectRef, float],
    now: float,
    patience: float,
) -> Decided:
    """The compiled statuses, Ready held back where pods lack something.

    Within `patience` seconds such an object says nothing: for most this makes one write instead of two.
    """
    statuses: dict[ObjectRef, Status] = {}
    waiting: dict[ObjectRef, float] = {}
    for ref, status in plan.statuses.items():
        dependencies = plan.dependencies.get(ref)
        lacks = missing.get(dependencies.server) if dependencies else None
        # That nobody at all is served now is said of the server alone: its ten thousand mailboxes stay as
        # they are, and what they need comes again with the pods.
        if (
            dependencies
            and lacks
            and (lacks.lacks(dependencies) or (ref == dependencies.server and lacks.unserved))
        ):
            since = waiting[ref] = waiting_before.get(ref, now)
            if now - since < patience:
                continue
            status = withheld(status, lacks.why(dependencies))
        statuses[ref] = status
    return Decided(statuses, waiting)


def overrule(decided: Decided, plan: Plan, verdicts: Iterable[tuple[ObjectRef, Verdict]]) -> None:
    """What is known beside the plan, e.g. of a cluster that refused an object: Ready=False, and why."""
    for ref, verdict in verdicts:
        status = decided.statuses.get(ref) or plan.statuses.get(ref)
        if status is None:
            continue
        ready = ready_of(status)
        if ready and ready["status"] == "False" and ref in decided.statuses:
            continue  # what its owner can mend comes first
        decided.statuses[ref] = overruled(status, verdict)
        decided.waiting.pop(ref, None)
