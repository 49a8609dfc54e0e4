"""Mailboxes follow their account to another address: each once, by one rename within the volume.

    MAIL/7/info/.former     addresses whose mailbox this was, or would have been if there had been one

That file goes with the folder, in use or parked. It says that the renaming is done, so that whoever gets a
former address later has a mailbox of his own.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mailpods.directory.records import AccountId, Address, Credential
from mailpods.store import mailboxes

SETTLE_SECONDS = 1.0  # that a login or a delivery may be under way for an account that is held
LEAVE_SECONDS = 5.0  # after which an account under a former address is taken for that of somebody new
FORMER = ".former"

Place = tuple[str, str]  # domain, local part
Rename = tuple[AccountId, Address]  # from the address


@dataclass(frozen=True, slots=True)
class Folders:
    """Where folders are. `numbers`: domain -> number."""

    mail: Path
    numbers: Mapping[str, str]
    parked: Mapping[Place, list[Path]]  # the oldest first

    def served(self, address: Address) -> AccountId | None:
        """The account of which a folder in use is that of an address."""
        domain, local = _place(address)
        account = AccountId(f"{self.numbers.get(domain, '')}/{local}")
        return account if domain in self.numbers and (self.mail / account).is_dir() else None


class Renames:
    """The renames in the folder `mail`."""

    def __init__(self, mail: Path, log: Callable[[str], None]) -> None:
        self._mail, self._log = mail, log
        self._settled: set[Rename] = set()
        self._held: dict[AccountId, float] = {}  # accounts of former addresses -> since when nobody uses them

    def pending(self, mine: Mapping[AccountId, Credential]) -> list[Rename]:
        """Those that are not done, as far as is known."""
        asked = {(id, c.former) for id, c in mine.items() if c.former}
        self._settled &= asked
        return sorted(asked - self._settled)

    def carry_out(self, pending: Collection[Rename], mine: Mapping[AccountId, Credential]) -> set[AccountId]:
        """Rename what can be. Returns the accounts that nobody may use until that is so, both of each."""
        if not pending:
            return set()
        folders, held = look(self._mail), set[AccountId]()
        for account, former in pending:
            address = mine[account].address
            if address is None or is_settled(folders, account, address, former):
                continue
            there = folders.served(former)
            if there and self._is_in_use(there, there in mine):
                held |= {account, there}
            else:
                take_over(folders, account, former, self._log)
        self._held = {account: since for account, since in self._held.items() if account in held}
        return held

    def settle(self, renames: Collection[Rename]) -> None:
        """Write down that these are done, or that there was nothing to do."""
        for account, former in renames:
            settle(self._mail / account, former)
            self._settled.add((account, former))

    def _is_in_use(self, account: AccountId, served: bool) -> bool:
        now = time.monotonic()
        return now < self._held.setdefault(account, now) + (LEAVE_SECONDS if served else SETTLE_SECONDS)


def look(mail: Path) -> Folders:
    """What there is now."""
    numbers = {
        mailboxes.owner(mail, each.name): each.name for each in mail.iterdir() if each.name.isdecimal()
    }
    parked: dict[Place, list[Path]] = defaultdict(list)
    for each in mailboxes.parked(mail):
        parked[each.domain, each.account.partition("/")[2]].append(each.path)
    return Folders(mail, numbers, parked)


def is_settled(folders: Folders, account: AccountId, address: Address, former: Address) -> bool:
    """Whether an account's mailbox, in use or parked, has been that of its former address, or found none."""
    own = (folders.mail / account, *folders.parked.get(_place(address), ()))
    return any(former in _formers(folder) for folder in own)


def take_over(folders: Folders, account: AccountId, former: Address, log: Callable[[str], None]) -> None:
    """Make the mailbox of a former address, in use or else parked, this account's, if there is one.

    An account that has mail of its own keeps that, and the other mailbox stays where it is.
    """
    served, kept = folders.served(former), folders.parked.get(_place(former), ())
    source = folders.mail / served if served else kept[-1] if kept else None
    if source is None:
        return
    home = folders.mail / account
    if home.exists():
        if _has_mail(home):
            log(f"mailbox {account} has mail of its own: that of {former} stays {source}")
            return
        mailboxes.park(folders.mail, [account], mailboxes.ORDINARY, time.time())
    settle(source, former)
    home.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    source.rename(home)
    log(f"mailbox {account} is that of {former}, and was {source}")


def settle(home: Path, former: Address) -> None:
    """Write down that the mailbox of a former address is this one."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    before = _formers(home)
    if former not in before:
        with open(home / f"{FORMER}.new", "w") as file:
            file.writelines(f"{each}\n" for each in (*before, former))
            file.flush()
            os.fsync(file.fileno())
        os.rename(file.name, home / FORMER)


def _formers(folder: Path) -> list[str]:
    try:
        return (folder / FORMER).read_text().split()
    except FileNotFoundError:
        return []


def _has_mail(home: Path) -> bool:
    return any(path.parent.name in ("cur", "new") and path.is_file() for path in home.rglob("*"))


def _place(address: Address) -> Place:
    local, _, domain = address.rpartition("@")
    return domain, local
