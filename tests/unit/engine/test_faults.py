"""The log explains each id once, and a fault that comes back is told again."""

from mail_operator.compiler.faults import Fault
from mail_operator.compiler.plan import Plan
from mail_operator.engine.faults import ERRORS, FaultLog
from mail_operator.kinds.meta import ObjectRef

INFO = ObjectRef("Mailbox", "a-test", "info")


def test_a_fault_is_told_once_and_counted_until_it_is_gone() -> None:
    said: list[str] = []
    log = FaultLog(said.append)
    before = ERRORS.labels("Mailbox")._value.get()
    faulty = Plan(faults=(Fault(INFO, "12345678", "line 1"),))
    for plan in (faulty, faulty, Plan(), faulty):
        log.tell(plan)
    assert said == ["Mailbox a-test/info: internal error 12345678\nline 1"] * 2
    assert ERRORS.labels("Mailbox")._value.get() == before + 2
