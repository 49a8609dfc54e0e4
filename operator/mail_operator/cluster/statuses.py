"""Writes the status of resources: where it differs from what is there, and nowhere else."""

import asyncio
import datetime
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import aiohttp

from mail_operator.cluster import metrics
from mail_operator.cluster.cached import CachedResource
from mail_operator.cluster.client import ApiClient, ApiError, Json
from mail_operator.cluster.kinds import collection, path
from mail_operator.compiler.status import ready_of
from mail_operator.compiler.zones import NOT_ASKED
from mail_operator.kinds.meta import API_VERSION, ObjectRef

_AT_ONCE = 16
_COUNTS = ("mailboxes", "domains")
_ASK_DNS = ("MailDomain", "MailServer", "RelayPolicy")  # kinds with conditions of which DNS decides
Status = Mapping[str, Any]


class Statuses:
    """One for each operator."""

    def __init__(
        self,
        client: ApiClient,
        cached: Callable[[ObjectRef], CachedResource | None],
        log: Callable[[str], None],
    ) -> None:
        self._client, self._kept, self._log = client, cached, log
        self._written: dict[ObjectRef, tuple[str, Status]] = {}  # uid, what was written or found equal
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def write(
        self, wanted: Mapping[ObjectRef, Status], later: Collection[ObjectRef] = (), busy: bool = False
    ) -> bool:
        """Returns whether all of it is written; what failed is tried at the next call.

        The status of `later` is not decided yet. While `busy`, numbers that will change again wait.
        """
        for ref in self._written.keys() - wanted.keys() - set(later):
            del self._written[ref]
        differing = [
            (ref, status)
            for ref, status in ((ref, self._decided(ref, status)) for ref, status in wanted.items())
            if self._differs(ref, status) and not (busy and self._differs_in_counts(ref, status))
        ]
        return all(await asyncio.gather(*(self._write(ref, status) for ref, status in differing)))

    def _decided(self, ref: ObjectRef, status: Status) -> Status:
        """Where DNS has not answered yet, what it said before stays: a restart knows nothing of that."""
        if ref.kind not in _ASK_DNS or all(c["reason"] != NOT_ASKED for c in status["conditions"]):
            return status
        cached = self._kept(ref)
        before = without_times(json.loads(cached.status)) if cached else {"conditions": []}
        said = {c["type"]: c for c in before["conditions"]}
        conditions = [said.get(c["type"]) if c["reason"] == NOT_ASKED else c for c in status["conditions"]]
        return {**status, "conditions": [c for c in conditions if c]}

    def _differs(self, ref: ObjectRef, status: Status) -> bool:
        known, cached = self._written.get(ref), self._kept(ref)
        if cached is None or (known and known[0] == cached.made_of[0] and known[1] == status):
            return False
        if known is None and without_times(json.loads(cached.status)) == status:
            self._written[ref] = (cached.made_of[0], status)  # by an operator before this one
            return False
        return True

    def _differs_in_counts(self, ref: ObjectRef, status: Status) -> bool:
        """Whether it differs in nothing else: a thousand mailboxes need not write their domain as often."""
        known = self._written.get(ref)
        return known is not None and _without_counts(known[1]) == _without_counts(status)

    async def _write(self, ref: ObjectRef, status: Status) -> bool:
        async with self._slots:
            cached = self._kept(ref)
            if cached is None:
                return True
            known = self._written.get(ref)
            before: Json = dict(known[1]) if known else json.loads(cached.status)
            times = {c["type"]: c for c in json.loads(cached.status).get("conditions", ())}
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            conditions = [_timed(c, times.get(c["type"]), now) for c in status["conditions"]]
            gone = dict.fromkeys(before.keys() - status.keys())  # null takes a field away (RFC 7386)
            try:
                await self._merge(ref, {**gone, **status, "conditions": conditions})
            except ApiError as error:
                if error.code != 404:
                    self._log(f"{ref}: status not written: {error}")
                return error.code == 404
            except (aiohttp.ClientError, TimeoutError) as error:
                self._log(f"{ref}: status not written: {error!r}")
                return False
            self._written[ref] = (cached.made_of[0], status)
            metrics.STATUSES.inc()
        await self._tell(
            ref, cached.made_of[0], ready_of({"conditions": list(times.values())}), ready_of(status)
        )
        return True

    async def _merge(self, ref: ObjectRef, status: Json) -> None:
        """Write the status, without those of its parts that the API server refuses: conditions matter most.

        Raises ApiError where nothing is left, or where the conditions themselves are refused.
        """
        try:
            await self._client.merge(path(ref, "status"), {"status": status})
        except ApiError as error:
            refused = {name for name in status if any(_is_in(field, name) for field in error.fields)}
            if error.code != 422 or not refused or "conditions" in refused:
                raise
            parts = ", ".join(f"status.{name}" for name in sorted(refused))
            self._log(f"{ref}: {parts} not written, as the schema refuses it, the rest is: {error}")
            left = {name: value for name, value in status.items() if name not in refused}
            await self._client.merge(path(ref, "status"), {"status": left})

    async def _tell(self, ref: ObjectRef, uid: str, was: Json | None, now: Json | None) -> None:
        """An Event when Ready turns False, or True again."""
        if now is None or now["status"] == "Unknown" or (was and was["status"] == now["status"]):
            return
        if was is None and now["status"] == "True":
            return  # that it works from the start is no news
        stamp = datetime.datetime.now(datetime.UTC)
        time = stamp.isoformat(timespec="seconds").replace("+00:00", "Z")
        about = {"apiVersion": API_VERSION, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}
        event = {
            "metadata": {"generateName": f"{ref.name[:40]}.", "namespace": ref.namespace},
            "involvedObject": {**about, "uid": uid},
            "type": "Normal" if now["status"] == "True" else "Warning",
            "reason": now["reason"],
            "message": now["message"][:1000],
            "source": {"component": "mailpods"},
            "reportingComponent": "mailpods.io/operator",
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        }
        try:
            await self._client.create(collection("Event", ref.namespace), event)
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            self._log(f"{ref}: Event not written: {error}")  # nothing depends on it


def _is_in(field: str, name: str) -> bool:
    """Whether a field, as status.dns.records[3], is in that part of the status."""
    return field.removeprefix("status.").partition(".")[0].partition("[")[0] == name


def _without_counts(status: Status) -> Json:
    return {key: value for key, value in status.items() if key not in _COUNTS}


def without_times(status: Json) -> Json:
    """A status as compile() says it."""
    conditions = [
        {k: v for k, v in c.items() if k != "lastTransitionTime"} for c in status.get("conditions", ())
    ]
    return {**status, "conditions": conditions}


def _timed(condition: Mapping[str, Any], was: Mapping[str, Any] | None, now: str) -> Json:
    same = was is not None and was["status"] == condition["status"]
    return {**condition, "lastTransitionTime": was.get("lastTransitionTime", now) if same and was else now}
