"""Tells the log of faults of our own, each once, and counts them: a status names the id of its fault."""

from collections.abc import Callable

from prometheus_client import Counter

from mail_operator.compiler.plan import Plan

ERRORS = Counter(
    "mailpods_operator_internal_errors",
    "Faults of the operator itself while it made something for an object, which keeps its last plan.",
    ["kind"],
)


class FaultLog:
    """`log` gets a text of several lines for each fault that the plan before did not have."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._known: set[str] = set()

    def tell(self, plan: Plan) -> None:
        """Log what is new."""
        for fault in plan.faults:
            if fault.id not in self._known:
                ERRORS.labels(fault.ref.kind).inc()
                self._log(f"{fault.ref}: internal error {fault.id}\n{fault.traceback}")
        self._known = {fault.id for fault in plan.faults}
