"""With what else a domain is being deleted: its namespace, or the kind itself. By name alone it is meant."""

import asyncio
from collections.abc import Callable, Mapping

from mail_operator.cluster.client import ApiClient, ApiError
from mail_operator.cluster.kinds import collection
from mail_operator.engine.runtime import Changed, Unavailable
from mail_operator.kinds import KINDS
from mail_operator.kinds.meta import GROUP, ObjectRef

_CRD = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{KINDS['MailDomain'].plural}.{GROUP}"
_RETRY_SECONDS = 5.0


class Sweeps:
    """Asks once for each object that is being deleted: the server has marked the larger thing before it."""

    def __init__(self, client: ApiClient, changed: Changed, log: Callable[[str], None]) -> None:
        self._client, self._changed, self._log = client, changed, log
        self._known: dict[str, str] = {}  # uid -> with what, "" by name
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def of(self, ending: Mapping[ObjectRef, str]) -> tuple[dict[ObjectRef, str], set[ObjectRef]]:
        """Of those that are being deleted (and their uids): with what, and of which that is not known yet."""
        uids = set(ending.values())
        self._known = {uid: sweep for uid, sweep in self._known.items() if uid in uids}
        unclear = {ref for ref, uid in ending.items() if uid not in self._known}
        for ref in unclear:
            uid = ending[ref]
            if uid not in self._tasks:
                self._tasks[uid] = asyncio.create_task(self._ask(ref, uid))
        return {ref: s for ref, uid in ending.items() if (s := self._known.get(uid))}, unclear

    async def _ask(self, ref: ObjectRef, uid: str) -> None:
        try:
            while True:
                try:
                    self._known[uid] = await self._sweep(ref)
                    return
                except Unavailable as error:  # until it is known, nothing is wiped
                    self._log(f"{ref}: whether it was deleted by name is not known: {error}")
                    await asyncio.sleep(_RETRY_SECONDS)
        finally:
            del self._tasks[uid]
            self._changed(ref)

    async def _sweep(self, ref: ObjectRef) -> str:
        namespace = await self._client.find(collection("Namespace"), ref.namespace, metadata_only=True)
        if namespace is None or "deletionTimestamp" in namespace["metadata"]:
            return f"its namespace {ref.namespace}"
        try:
            kind = await self._client.metadata(_CRD)
        except ApiError as error:
            if error.code != 404:
                raise
            return f"its kind, {ref.kind}"
        return f"its kind, {ref.kind}" if "deletionTimestamp" in kind else ""
