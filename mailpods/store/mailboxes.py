"""The life of mailbox folders: parked when their account is gone, brought back with it, purged in the end.

    MAIL/7/info                             a mailbox
    MAIL/7/.domain                          whose number that is: another that gets it never sees this mail
    MAIL/.parked/7@a.test/info~TIME~BATCH   a parked one: when, in which sudden removal ("-": an ordinary one)

A sudden large removal is taken for an accident: it parks, but nothing of it is purged until its batch is
confirmed.
"""

import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailpods.directory.records import AccountId

PARKED, OWNER = ".parked", ".domain"
GUARD_COUNT, GUARD_SHARE = 10, 0.2  # more mailboxes at once than either are a sudden large removal
ORDINARY = "-"


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked mailbox; `at` in epoch seconds. `account`: as it was then; `domain`: "" if nobody knows."""

    path: Path
    account: AccountId
    domain: str
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
        number, _, domain = path.parent.name.partition("@")
        if local and at.isdecimal():
            found.append(Parked(path, AccountId(f"{number}/{local}"), domain, int(at), rest))
    return sorted(found, key=lambda each: (each.at, each.path))


def owner(mail: Path, number: str) -> str:
    """The domain whose mail lies under a number; "" if nobody wrote it down."""
    try:
        return (mail / number / OWNER).read_text().strip()
    except FileNotFoundError:
        return ""


def claim(mail: Path, owners: Mapping[str, str], now: float, log: Callable[[str], None]) -> list[AccountId]:
    """Write down whose the numbers are (number -> domain), before anybody is served from their folders.

    Mail of another domain, which had the number before, is parked as that one's. Returns the accounts whose
    mail that is: somebody may be logged in to it.
    """
    moved: list[AccountId] = []
    for number, domain in owners.items():
        before = owner(mail, number)
        if before == domain:
            continue
        there = [id for id in present(mail) if id.partition("/")[0] == number]
        if before:
            sudden = is_sudden(len(there), len(present(mail)))
            park(mail, there, new_batch(now) if sudden else ORDINARY, now)
            moved += there
            log(f"number {number} belongs to {domain} now: {len(there)} mailboxes of {before} are parked")
        elif there and (older := mail / PARKED / number).exists():  # of before owners were written down
            older.rename(mail / PARKED / f"{number}@{domain}")
        (mail / number).mkdir(exist_ok=True, mode=0o700)
        with open(mail / number / f"{OWNER}.new", "w") as file:
            file.write(domain)
            file.flush()
            os.fsync(file.fileno())  # an empty one would give the mail to whoever comes next
        os.rename(file.name, mail / number / OWNER)
    return moved


def is_sudden(gone: int, total: int) -> bool:
    """Whether so many removals at once look like an accident."""
    return gone > max(GUARD_COUNT, int(total * GUARD_SHARE))


def park(mail: Path, gone: Collection[AccountId], batch: str, now: float) -> None:
    """Put the folders aside. One rename each: nothing is copied, and nothing is lost half-way."""
    for account in gone:
        number, _, local = account.partition("/")
        domain = owner(mail, number)
        target = mail / PARKED / (f"{number}@{domain}" if domain else number) / f"{local}~{int(now)}~{batch}"
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (mail / account).rename(target)


def bring_back(
    mail: Path, accounts: Collection[AccountId], owners: Mapping[str, str], log: Callable[[str], None]
) -> None:
    """Give accounts that exist again their newest parked folder, unless they have one already.

    `owners`: number -> domain. A domain gets its own mail back, under whatever number it is now.
    """
    there = parked(mail)
    wanted = {_place(id, owners.get(id.partition("/")[0], "")): id for id in accounts} if there else {}
    for each in reversed(there):
        account = wanted.get(_place(each.account, each.domain))
        if account and not (home := mail / account).exists():
            home.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            each.path.rename(home)
            log(f"mailbox {account} is back, as it was parked at {each.at}")


def _place(account: AccountId, domain: str) -> tuple[str, str]:
    """Where an account belongs, whatever number its domain has."""
    number, _, local = account.partition("/")
    return domain or number, local


def purge(
    mail: Path, retention: float, confirmed: str | None, now: float, log: Callable[[str], None]
) -> None:
    """Remove for good what was parked longer ago than `retention` seconds, but for guarded batches."""
    for each in parked(mail):
        if now - each.at >= retention and each.batch in (ORDINARY, confirmed):
            shutil.rmtree(each.path)
            log(f"mailbox {each.account}, parked at {each.at}, is purged")


def wipe(mail: Path, numbers: Collection[int], log: Callable[[str], None]) -> None:
    """Remove for good what is parked of these domains: they were deleted, and all mail in them was meant.

    Not what is parked of others that had the number before.
    """
    for number in map(str, numbers):
        domain = owner(mail, number)
        folder = mail / PARKED / (f"{number}@{domain}" if domain else number)
        if folder.exists():
            count = len(list(folder.iterdir()))
            shutil.rmtree(folder)
            log(f"domain {number} was deleted with all its mail: {count} mailboxes are wiped")
        if not any(id.partition("/")[0] == number for id in present(mail)):
            (mail / number / OWNER).unlink(missing_ok=True)
            with suppress(OSError):
                (mail / number).rmdir()


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
