"""The end of a MailDomain whose mail goes with it (deletionPolicy Delete). A finalizer holds it until then.

deleted ─▶ no mail is taken for it, its mailboxes are parked ─▶ its accounts, aliases and lists are deleted
           (where it is not taken for an accident: ClusterState)
        ─▶ every store pod has wiped what was parked ─▶ the finalizer goes, and with it the object
"""

import json
from collections.abc import Callable, Iterable

import aiohttp

from mail_operator.cluster.cached import FINALIZER, CachedResource
from mail_operator.cluster.client import ApiClient, ApiError
from mail_operator.cluster.kinds import collection, path
from mail_operator.cluster.pods import Missing
from mail_operator.compiler.snapshot import Snapshot
from mail_operator.compiler.topology import server_of
from mail_operator.kinds.mailalias import MailAlias
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.mailinglist import MailingList
from mail_operator.kinds.meta import API_VERSION, ObjectRef
from mailpods.directory.shards import STORE_FILE


def number_of(cached: CachedResource) -> int | None:
    """The domain's number as the status has it, which the operator alone writes.

    One that was refused has none, whatever its spec says: it must not have another's mail wiped.
    """
    number = json.loads(cached.status).get("number")
    return number if isinstance(number, int) else None


class DomainFinalizer:
    """One for each operator."""

    def __init__(self, client: ApiClient, log: Callable[[str], None]) -> None:
        self._client, self._log = client, log

    async def proceed(
        self,
        domains: Iterable[tuple[ObjectRef, CachedResource]],
        snapshot: Snapshot,
        missing: Callable[[ObjectRef], Missing],
    ) -> bool:
        """One step for each domain: hold it, let its own go, or let it go. Returns whether no call failed.

        `snapshot`: what the files that the pods were given were made of; `missing` says what they lack.
        """
        ok = True
        for ref, cached in domains:
            domain = cached.resource
            if not isinstance(domain, MailDomain):
                continue
            wanted = domain.spec.deletion_policy == "Delete"
            try:
                if wanted and not cached.held and not cached.deleting:
                    await self._hold(ref)
                elif cached.held and not wanted:
                    await self._release(ref)
                elif cached.held and cached.deleting:
                    if number_of(cached) in snapshot.wiped.get(server_of(domain), ()):
                        await self._delete_members(ref, snapshot)
                    if self._is_wiped(domain, cached, snapshot, missing):
                        await self._release(ref)
                        self._log(f"{ref}: deleted with all its mail")
            except ApiError as error:
                if error.code != 404:
                    self._log(f"{ref}: {error}")
                    ok = False
            except (aiohttp.ClientError, TimeoutError) as error:
                self._log(f"{ref}: {error!r}")
                ok = False
        return ok

    def _is_wiped(
        self,
        domain: MailDomain,
        cached: CachedResource,
        snapshot: Snapshot,
        missing: Callable[[ObjectRef], Missing],
    ) -> bool:
        server, number = server_of(domain), number_of(cached)
        if server not in snapshot.objects or number is None:
            return True  # there is no store that could do it, or it never had mail
        lacks = missing(server)
        shards = snapshot.objects[server].spec.store.shards  # type: ignore[attr-defined]
        return (
            number in snapshot.wiped.get(server, ())
            and lacks.shards >= set(range(shards))
            and STORE_FILE not in lacks.files
        )

    async def _hold(self, ref: ObjectRef) -> None:
        meta = {"name": ref.name, "namespace": ref.namespace, "finalizers": [FINALIZER]}
        body = {"apiVersion": API_VERSION, "kind": ref.kind, "metadata": meta}
        await self._client.apply(path(ref), body, manager="mailpods-endings")

    async def _release(self, ref: ObjectRef) -> None:
        """Not by apply: who put back a backup owns the finalizer as well, for the manifest has it."""
        found = await self._client.get(
            collection(ref.kind, ref.namespace), fieldSelector=f"metadata.name={ref.name}"
        )
        for meta in (item["metadata"] for item in found["items"] or ()):
            others = [each for each in meta.get("finalizers", ()) if each != FINALIZER]
            change = {"finalizers": others, "resourceVersion": meta["resourceVersion"]}
            await self._client.merge(path(ref), {"metadata": change})

    async def _delete_members(self, domain: ObjectRef, snapshot: Snapshot) -> None:
        for ref, resource in snapshot.objects.items():
            if (
                isinstance(resource, Mailbox | MailAlias | MailingList)
                and ref.namespace == domain.namespace
                and resource.spec.domain_ref.name == domain.name
            ):
                await self._client.delete(path(ref))
