"""Faults of our own: told to the log, each once, and counted. A status names the id of its fault.

Those of compile() are in its plan. Those of what is done for one object besides are noted here, and stay with
that object until the same goes well.
"""

from collections.abc import Callable

from prometheus_client import Counter

from mail_operator.compiler.faults import Fault, fault_of, verdict_of
from mail_operator.compiler.plan import Plan
from mail_operator.kinds.meta import ObjectRef
from mail_operator.policies.verdict import Verdict

ERRORS = Counter(
    "mailpods_operator_internal_errors",
    "Faults of the operator itself while it made something for an object, which keeps its last plan.",
    ["kind"],
)


class FaultLog:
    """`log` gets a text of several lines for each fault that was not there before."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._known: set[str] = set()  # of the last plan
        self._noted: dict[ObjectRef, dict[str, Fault]] = {}  # object -> what was done for it -> how it failed

    def tell(self, plan: Plan) -> None:
        """Log what is new in a plan."""
        for fault in plan.faults:
            if fault.id not in self._known:
                self._say(fault, "")
        self._known = {fault.id for fault in plan.faults}

    def _say(self, fault: Fault, doing: str) -> None:
        ERRORS.labels(fault.ref.kind).inc()
        self._log(f"{fault.ref}: internal error {fault.id}{doing}\n{fault.traceback}")

    def note(self, ref: ObjectRef, doing: str, error: Exception) -> None:
        """It failed while something was done for an object, e.g. "making its certificate"."""
        fault, known = fault_of(ref, error), self._noted.setdefault(ref, {})
        if known.get(doing) != fault:
            known[doing] = fault
            self._say(fault, f" while {doing}")

    def over(self, ref: ObjectRef, doing: str) -> None:
        """It went well."""
        known = self._noted.get(ref)
        if known and known.pop(doing, None) and not known:
            del self._noted[ref]

    def verdict(self, ref: ObjectRef) -> Verdict | None:
        """What an object says of what was noted."""
        known = self._noted.get(ref)
        return verdict_of(next(iter(known.values()))) if known else None

    def noted(self) -> list[ObjectRef]:
        """Who has one."""
        return list(self._noted)
