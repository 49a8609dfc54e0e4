"""Publishes the status of resources: where it differs from what is there, and nowhere else."""

import asyncio
import datetime
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mail_operator.compiler.status import COMPONENTS_READY
from mail_operator.compiler.zones import NOT_ASKED
from mail_operator.engine import metrics
from mail_operator.engine.faults import FaultLog
from mail_operator.engine.runtime import ObservedResource, Runtime, Status, Unavailable
from mail_operator.kinds.meta import ObjectRef

_AT_ONCE = 16
_COUNTS = ("mailboxes", "domains")
_ASK_DNS = ("MailDomain", "MailServer", "RelayPolicy")  # kinds with conditions of which DNS decides
_DOING = "writing its status"


class Publisher:
    """One for each engine."""

    def __init__(self, runtime: Runtime, faults: FaultLog, log: Callable[[str], None]) -> None:
        self._runtime, self._faults, self._log = runtime, faults, log
        self._written: dict[ObjectRef, tuple[str, Status]] = {}  # uid, what was written or found equal
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def publish(
        self, wanted: Mapping[ObjectRef, Status], later: Collection[ObjectRef] = (), busy: bool = False
    ) -> bool:
        """Returns whether all of it is written; what failed is tried at the next call.

        The status of `later` is not decided yet. While `busy`, numbers that will change again wait.
        """
        for ref in self._written.keys() - wanted.keys() - set(later):
            del self._written[ref]
        differing = self._differing(wanted, busy)
        return all(await asyncio.gather(*(self._one(ref, status) for ref, status in differing)))

    def _differing(self, wanted: Mapping[ObjectRef, Status], busy: bool) -> list[tuple[ObjectRef, Status]]:
        found = []
        for ref, status in wanted.items():
            observed = self._runtime.observed(ref)
            if observed is None:
                continue
            try:
                decided = self._decided(ref, observed, status)
                differs = self._differs(ref, observed, decided)
            except Exception as error:  # of a status that somebody else wrote: it is replaced
                self._faults.note(ref, "reading its status", error)
                decided, differs = status, True
            if differs and not (busy and self._differs_in_counts(ref, decided)):
                found.append((ref, decided))
        return found

    def _decided(self, ref: ObjectRef, observed: ObservedResource, status: Status) -> Status:
        """Where DNS has not answered yet, what it said before stays: a restart knows nothing of that."""
        if ref.kind not in _ASK_DNS or all(c["reason"] != NOT_ASKED for c in status["conditions"]):
            return status
        before = without_times(json.loads(observed.status))
        said = {c["type"]: c for c in before["conditions"]}
        conditions = [said.get(c["type"]) if c["reason"] == NOT_ASKED else c for c in status["conditions"]]
        return {**status, "conditions": [c for c in conditions if c]}

    def _differs(self, ref: ObjectRef, observed: ObservedResource, status: Status) -> bool:
        known = self._written.get(ref)
        if known and known[0] == observed.uid and (known[1] is status or known[1] == status):
            return False
        if known is None and without_times(json.loads(observed.status)) == status:
            self._written[ref] = (observed.uid, status)  # by an engine before this one
            return False
        return True

    def _differs_in_counts(self, ref: ObjectRef, status: Status) -> bool:
        """Whether it differs in nothing else: a thousand mailboxes need not write their domain as often."""
        known = self._written.get(ref)
        return known is not None and _without_counts(known[1]) == _without_counts(status)

    async def _one(self, ref: ObjectRef, status: Status) -> bool:
        async with self._slots:
            try:
                await self._write(ref, status)
                self._faults.over(ref, _DOING)
            except Unavailable as error:
                self._log(f"{ref}: status not written: {error}")
                return False
            except Exception as error:  # the others go on
                self._faults.note(ref, _DOING, error)
                return False
        return True

    async def _write(self, ref: ObjectRef, status: Status) -> None:
        observed = self._runtime.observed(ref)
        if observed is None:
            return
        there = json.loads(observed.status)
        known = self._written.get(ref)
        before = known[1] if known else there
        times = {c["type"]: c for c in there.get("conditions", ())}
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        conditions = [_timed(c, times.get(c["type"]), now) for c in status["conditions"]]
        await self._runtime.publish(ref, {**status, "conditions": conditions}, before.keys() - status.keys())
        self._written[ref] = (observed.uid, status)
        metrics.STATUSES.inc()
        for each in status["conditions"]:
            if each["type"] in ("Ready", COMPONENTS_READY):
                await self._record_event(ref, observed.uid, times.get(each["type"]), each)

    async def _record_event(
        self, ref: ObjectRef, uid: str, was: Mapping[str, Any] | None, now: Mapping[str, Any]
    ) -> None:
        """An Event when a condition turns False, or True again, or when a deletion begins or waits."""
        if now["status"] == "Unknown":
            return
        if was and was["status"] == now["status"] and (was["reason"] == now["reason"] or not _is_step(now)):
            return
        if was is None and (now["status"] == "True" or now["type"] == COMPONENTS_READY):
            return  # that it works from the start is no news, nor that pods have yet to start
        type_ = "Normal" if now["status"] == "True" else "Warning"
        try:
            await self._runtime.event(ref, uid, type_, now["reason"], now["message"])
        except Unavailable as error:
            self._log(f"{ref}: Event not written: {error}")  # nothing depends on it


def _is_step(now: Mapping[str, Any]) -> bool:
    """Whether the reason alone is news."""
    return now["type"] == COMPONENTS_READY or now["reason"] in ("Deleting", "DeletionHeld")


def _without_counts(status: Status) -> dict[str, Any]:
    return {key: value for key, value in status.items() if key not in _COUNTS}


def without_times(status: Status) -> dict[str, Any]:
    """A status as compile() says it."""
    conditions = [
        {k: v for k, v in c.items() if k != "lastTransitionTime"} for c in status.get("conditions", ())
    ]
    return {**status, "conditions": conditions}


def _timed(condition: Mapping[str, Any], was: Mapping[str, Any] | None, now: str) -> dict[str, Any]:
    same = was is not None and was["status"] == condition["status"]
    return {**condition, "lastTransitionTime": was.get("lastTransitionTime", now) if same and was else now}
