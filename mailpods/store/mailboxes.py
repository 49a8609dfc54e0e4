"""The life of mailbox folders: parked when their account is gone, brought back with it, purged in the end.

    MAIL/7/info                         a mailbox
    MAIL/.parked/7/info~TIME~BATCH      a parked one: when, and in which sudden removal ("-": an ordinary one)

A sudden large removal is taken for an accident: it parks, but nothing of it is purged until its batch is
confirmed.
"""

import shutil
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailpods.directory.records import AccountId

PARKED = ".parked"
GUARD_COUNT, GUARD_SHARE = 10, 0.2  # more mailboxes at once than either are a sudden large removal
ORDINARY = "-"


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked mailbox; `at` in epoch seconds."""

    path: Path
    account: AccountId
    at: int
    batch: str


def present(mail: Path) -> list[AccountId]:
    """The accounts that have a folder."""
    return sorted(
        AccountId(f"{number.name}/{folder.name}")
        for number in mail.iterdir()
        if number.name.isdecimal() and number.is_dir()
        for folder in number.iterdir()
        if folder.is_dir()
    )


def parked(mail: Path) -> list[Parked]:
    """What is parked, the oldest first."""
    found = []
    for path in (mail / PARKED).glob("*/*"):
        name, _, rest = path.name.rpartition("~")
        local, _, at = name.rpartition("~")
        if local and at.isdecimal():
            found.append(Parked(path, AccountId(f"{path.parent.name}/{local}"), int(at), rest))
    return sorted(found, key=lambda each: (each.at, each.path))


def is_sudden(gone: int, total: int) -> bool:
    """Whether so many removals at once look like an accident."""
    return gone > max(GUARD_COUNT, int(total * GUARD_SHARE))


def park(mail: Path, gone: Collection[AccountId], batch: str, now: float) -> None:
    """Put the folders aside. One rename each: nothing is copied, and nothing is lost half-way."""
    for account in gone:
        number, _, local = account.partition("/")
        target = mail / PARKED / number / f"{local}~{int(now)}~{batch}"
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (mail / account).rename(target)


def bring_back(mail: Path, accounts: Collection[AccountId], log: Callable[[str], None]) -> None:
    """Give accounts that exist again their newest parked folder, unless they have one already."""
    for each in reversed(parked(mail)):
        home = mail / each.account
        if each.account in accounts and not home.exists():
            home.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            each.path.rename(home)
            log(f"mailbox {each.account} is back, as it was parked at {each.at}")


def purge(
    mail: Path, retention: float, confirmed: str | None, now: float, log: Callable[[str], None]
) -> None:
    """Remove for good what was parked longer ago than `retention` seconds, but for guarded batches."""
    for each in parked(mail):
        if now - each.at >= retention and each.batch in (ORDINARY, confirmed):
            shutil.rmtree(each.path)
            log(f"mailbox {each.account}, parked at {each.at}, is purged")


def wipe(mail: Path, numbers: Collection[int], log: Callable[[str], None]) -> None:
    """Remove for good what is parked of these domains: they were deleted, and all mail in them was meant."""
    for number in numbers:
        folder = mail / PARKED / str(number)
        if folder.exists():
            count = len(list(folder.iterdir()))
            shutil.rmtree(folder)
            log(f"domain {number} was deleted with all its mail: {count} mailboxes are wiped")
        with suppress(OSError):
            (mail / str(number)).rmdir()  # if it is empty


def guarded(mail: Path, confirmed: str | None) -> dict[str, int]:
    """Batch -> mailboxes of sudden removals that wait for a confirmation."""
    found: dict[str, int] = {}
    for each in parked(mail):
        if each.batch not in (ORDINARY, confirmed):
            found[each.batch] = found.get(each.batch, 0) + 1
    return found


def new_batch(now: float | None = None) -> str:
    """The name of a sudden removal, which an administrator writes down to confirm it."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
