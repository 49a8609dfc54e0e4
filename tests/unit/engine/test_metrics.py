"""What the operator tells of its objects."""

import time

from mail_operator.engine import metrics
from mail_operator.kinds.meta import ObjectRef
from prometheus_client import REGISTRY


def objects(kind: str, ready: str) -> float | None:
    """The gauge."""
    return REGISTRY.get_sample_value("mailpods_objects", {"kind": kind, "ready": ready})


def box(name: str) -> ObjectRef:
    """A mailbox."""
    return ObjectRef("Mailbox", "t", name)


def status(ready: str) -> dict[str, object]:
    """A status with one condition."""
    return {"conditions": [{"type": "Ready", "status": ready}]}


def test_objects_are_counted_by_ready_and_those_that_are_gone_count_no_more() -> None:
    metrics.record_objects({box("a"): status("True"), box("b"): status("False")}, {box("c"), box("a")})
    assert [objects("Mailbox", ready) for ready in ("True", "False", "Unknown")] == [1, 1, 1]
    assert objects("MailDomain", "False") == 0
    metrics.record_objects({box("a"): status("True")}, ())
    assert [objects("Mailbox", ready) for ready in ("True", "False", "Unknown")] == [1, 0, 0]


def test_the_longest_wait_is_told_as_a_time_of_day() -> None:
    metrics.record_waiting([100.0, 160.0], 200.0)
    since = REGISTRY.get_sample_value("mailpods_operator_waiting_since_timestamp_seconds")
    assert since is not None and abs(time.time() - 100 - since) < 5
    metrics.record_waiting([], 200.0)
    assert REGISTRY.get_sample_value("mailpods_operator_waiting_since_timestamp_seconds") == 0
