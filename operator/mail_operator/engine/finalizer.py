"""The end of a MailDomain whose mail goes with it (deletionPolicy Delete). A finalizer holds it until then.

deleted ─▶ no mail is taken for it, its mailboxes are parked ─▶ its accounts, aliases and lists are deleted
           (where it is not taken for an accident: removal.py)
        ─▶ every store pod has wiped what was parked ─▶ the finalizer goes, and with it the object
"""

from collections.abc import Callable, Mapping

from mail_operator.compiler.snapshot import Snapshot
from mail_operator.compiler.topology import server_of
from mail_operator.engine.acknowledgement import Missing
from mail_operator.engine.faults import FaultLog
from mail_operator.engine.removal import number_of
from mail_operator.engine.runtime import ObservedResource, Runtime, Unavailable
from mail_operator.kinds.mailalias import MailAlias
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.kinds.maildomain import MailDomain
from mail_operator.kinds.mailinglist import MailingList
from mail_operator.kinds.mailserver import MailServer
from mail_operator.kinds.meta import ObjectRef
from mailpods.directory.shards import STORE_FILE

_DOING = "deleting it"
MissingOf = Callable[[ObjectRef], Missing]


class DomainFinalizer:
    """One for each engine."""

    def __init__(self, runtime: Runtime, faults: FaultLog, log: Callable[[str], None]) -> None:
        self._runtime, self._faults, self._log = runtime, faults, log

    async def proceed(
        self, domains: Mapping[ObjectRef, ObservedResource], snapshot: Snapshot, missing: MissingOf
    ) -> bool:
        """One step for each domain: hold it, let its own go, or let it go. Returns whether nothing failed.

        `snapshot`: what the files that the pods were given were made of; `missing` says what they lack.
        """
        ok = True
        for ref, observed in domains.items():
            if not isinstance(domain := observed.resource, MailDomain):
                continue
            try:
                await self._step(ref, observed, domain, snapshot, missing)
                self._faults.over(ref, _DOING)
            except Unavailable as error:
                self._log(f"{ref}: {error}")
                ok = False
            except Exception as error:  # the others go on
                self._faults.note(ref, _DOING, error)
                ok = False
        return ok

    async def _step(
        self,
        ref: ObjectRef,
        observed: ObservedResource,
        domain: MailDomain,
        snapshot: Snapshot,
        missing: MissingOf,
    ) -> None:
        wanted = domain.spec.deletion_policy == "Delete"
        if wanted and not observed.held and not observed.deleting:
            await self._runtime.hold(ref)
        elif observed.held and not wanted:
            await self._runtime.release(ref)
        elif observed.held and observed.deleting:
            if number_of(observed) in snapshot.wiped.get(server_of(domain), ()):
                await self._delete_members(ref, snapshot)
            if not self.waits_for(observed, domain, snapshot, missing):
                await self._runtime.release(ref)
                self._log(f"{ref}: deleted with all its mail")

    @staticmethod
    def waits_for(
        observed: ObservedResource, domain: MailDomain, snapshot: Snapshot, missing: MissingOf
    ) -> str:
        """What is yet to happen; "" if all its mail is gone."""
        server, number = server_of(domain), number_of(observed)
        resource = snapshot.objects.get(server)
        if not isinstance(resource, MailServer) or number is None:
            return ""  # there is no store that could do it, or it never had mail
        if number not in snapshot.wiped.get(server, ()):
            return "it waits for its turn"
        lacks = missing(server)
        if down := set(range(resource.spec.store.shards)) - lacks.shards:
            return (
                f"it waits for the store pods of shards {', '.join(map(str, sorted(down)))}, which are down"
            )
        if STORE_FILE in lacks.files:
            return f"the store pods of {server} are wiping what number {number} has"
        return ""

    async def _delete_members(self, domain: ObjectRef, snapshot: Snapshot) -> None:
        for ref, resource in snapshot.objects.items():
            if (
                isinstance(resource, Mailbox | MailAlias | MailingList)
                and ref.namespace == domain.namespace
                and resource.spec.domain_ref.name == domain.name
            ):
                await self._runtime.delete(ref)
