"""What the operator counts. The help text of each is its documentation."""

import time
from collections import Counter as Tally
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from mail_operator.kinds import KINDS
from mail_operator.kinds.meta import ObjectRef

ROUND = Histogram(
    "mailpods_operator_round_seconds",
    "Time from a change that was noticed, the quiet moment not counted, to all objects applied.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
COMPILE = Histogram(
    "mailpods_operator_compile_seconds",
    "Time of one compile of all resources into a Plan.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
APPLIED = Counter("mailpods_operator_applied", "Objects written by server-side apply.")
FAILED = Counter(
    "mailpods_operator_failed_rounds", "Rounds in which something failed or was refused; they are repeated."
)
STATUSES = Counter("mailpods_operator_statuses", "Statuses written.")
WAITING = Gauge(
    "mailpods_operator_waiting", "Resources that are valid and wait for pods to load their files."
)
WAITING_SINCE = Gauge(
    "mailpods_operator_waiting_since_timestamp_seconds",
    "Since when the resource that has waited longest waits for pods, in epoch seconds; 0 if none does.",
)
ACKNOWLEDGED = Histogram(
    "mailpods_operator_acknowledgement_seconds",
    "Time that a resource waited for the last pod that serves it to load its files.",
    buckets=(0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 10, 30, 60),
)
OBJECTS = Gauge(
    "mailpods_objects",
    "Resources by kind and by their condition Ready: True, False, Unknown.",
    ["kind", "ready"],
)
PODS = Gauge(
    "mailpods_operator_pods",
    "Pods of each component of an installation: how many it should have (wanted) and has (ready).",
    ["namespace", "server", "component", "state"],
)


def record_pods(pods: Iterable[tuple[ObjectRef, str, int, int]]) -> None:
    """Set the gauge of all: (MailServer, component, wanted, ready)."""
    PODS.clear()
    for server, component, wanted, ready in pods:
        for state, count in (("wanted", wanted), ("ready", ready)):
            PODS.labels(server.namespace, server.name, component, state).set(count)


def record_waiting(since: Collection[float], now: float) -> None:
    """Set the gauges of what waits for pods; `since` and `now` are of the monotonic clock, in seconds."""
    WAITING.set(len(since))
    WAITING_SINCE.set(time.time() - (now - min(since)) if since else 0)


def record_objects(statuses: Mapping[ObjectRef, Mapping[str, Any]], undecided: Collection[ObjectRef]) -> None:
    """Set the gauge of all kinds; what is undecided counts as Unknown."""
    tally: Tally[tuple[str, str]] = Tally((ref.kind, "Unknown") for ref in undecided if ref not in statuses)
    for ref, status in statuses.items():
        ready = (c["status"] for c in status.get("conditions", ()) if c["type"] == "Ready")
        tally[ref.kind, next(ready, "Unknown")] += 1
    for kind in KINDS:
        for ready_is in ("True", "False", "Unknown"):
            OBJECTS.labels(kind, ready_is).set(tally[kind, ready_is])
