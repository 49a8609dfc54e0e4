"""Mailboxes whose accounts are gone are parked, and purged when they are over their time."""

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from prometheus_client import Gauge

from mailpods.directory.records import AccountId, Credential, StoreSettings
from mailpods.store import mailboxes
from mailpods.store.renames import Renames

TIDY_SECONDS = 60.0  # between looks for mailboxes to purge
SETTLE_SECONDS = 1.0  # that a login or a delivery may be under way for an account that is gone

PARKED = Gauge("mail_store_parked", "Mailboxes that are parked: gone from the directory, not purged yet.")
GUARDED = Gauge("mail_store_guarded", "Parked mailboxes of sudden removals that wait for a confirmation.")


class Housekeeping:
    """The mailboxes in `mail`; `kick` ends the sessions of accounts."""

    def __init__(
        self, mail: Path, kick: Callable[[Collection[AccountId]], None], log: Callable[[str], None]
    ) -> None:
        self._mail, self._kick, self._log = mail, kick, log
        self._removed: set[AccountId] = set()  # whose sessions are to end
        self._replaced: set[AccountId] = set()  # likewise: another domain has their names
        self._owners: Mapping[str, str] = {}  # number -> domain
        self._due = 0.0  # monotonic
        self._renames = Renames(mail, log)
        self.wiped: tuple[int, ...] = ()  # domains whose mail is gone for good

    def bring_back(self, mine: Mapping[AccountId, Credential]) -> set[AccountId]:
        """Before Dovecot is told of accounts: those that were parked have their own mail again, and those
        that had another address have that of then.

        Returns those that nobody may use for a moment, until a mailbox is renamed.
        """
        addresses = {id.partition("/")[0]: c.address for id, c in mine.items() if c.address}
        owners = {number: address.rpartition("@")[2] for number, address in addresses.items()}
        new = dict(owners.items() - self._owners.items())
        self._replaced |= set(mailboxes.claim(self._mail, new, time.time(), self._log))
        self._owners = owners
        pending = self._renames.pending(mine)
        held = self._renames.carry_out(pending, mine)
        mailboxes.bring_back(self._mail, mine.keys() - held, owners, self._log)
        self._renames.settle([rename for rename in pending if rename[0] not in held])
        return held

    def end_sessions(self, held: Collection[AccountId]) -> None:
        """Dovecot has just been told nothing more of these."""
        self._kick(held)

    def accounts_changed(self, removed: Collection[AccountId]) -> None:
        """Dovecot has just been told, and these were among its accounts before: look soon."""
        self._removed |= set(removed)
        self._due = time.monotonic() + SETTLE_SECONDS

    def keep(self, settings: StoreSettings, mine: Collection[AccountId]) -> None:
        """Park, wipe and purge, if that is due. `mine`: the accounts that have a mailbox here."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + TIDY_SECONDS
        now = time.time()
        there = mailboxes.present(self._mail)
        gone = [id for id in there if id not in mine]
        if kicked := ({*gone, *self._removed} - {*mine}) | self._replaced:
            self._kick(kicked)
        self._removed.clear()
        self._replaced.clear()
        if gone:
            sudden = mailboxes.is_sudden(len(gone), len(there))
            batch = mailboxes.new_batch(now) if sudden else mailboxes.ORDINARY
            mailboxes.park(self._mail, gone, batch, now)
            self._log(f"parked {len(gone)} of {len(there)} mailboxes: {', '.join(gone[:20])}")
        mailboxes.wipe(self._mail, settings.wiped, self._log)
        self.wiped = settings.wiped
        mailboxes.purge(self._mail, settings.retention_seconds, settings.confirmed_shrink, now, self._log)
        waiting = mailboxes.guarded(self._mail, settings.confirmed_shrink)
        for batch, count in waiting.items():
            self._log(
                f"{count} mailboxes were removed at once ({batch}): they are kept until the MailServer "
                f"is annotated mailpods.io/confirm-removal={batch}"
            )
        PARKED.set(len(mailboxes.parked(self._mail)))
        GUARDED.set(sum(waiting.values()))
