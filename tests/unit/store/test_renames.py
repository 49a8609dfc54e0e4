"""A mailbox follows its account to another address, once, and is never somebody else's."""

from pathlib import Path

import pytest

from mailpods.directory.records import AccountId, Address, Credential
from mailpods.store import housekeeping, mailboxes, renames
from mailpods.store.housekeeping import Housekeeping

OLD, NEW = Address("old@a.test"), AccountId("7/new")
MINE = {NEW: Credential((), address=Address("new@a.test"), former=OLD)}
SOMEBODY = {AccountId("7/old"): Credential((), address=OLD)}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renames, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(renames, "LEAVE_SECONDS", 0)
    monkeypatch.setattr(housekeeping, "TIDY_SECONDS", 0)


class Store:
    """The folders of a store pod."""

    def __init__(self, mail: Path) -> None:
        self.mail = mail
        self.said: list[str] = []
        self.kicked: list[AccountId] = []
        self.restart()

    def restart(self) -> None:
        """All that it remembers is on disk."""
        self.housekeeping = Housekeeping(self.mail, self.kicked.extend, self.said.append)

    def told(self, mine: dict[AccountId, Credential]) -> set[AccountId]:
        return self.housekeeping.bring_back(mine)

    def deliver(self, account: str, text: str) -> None:
        folder = self.mail / account / "Maildir" / "new"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / text).touch()

    def mails(self, account: str) -> list[str]:
        return sorted(each.name for each in (self.mail / account).glob("Maildir/new/*"))

    def park(self, account: str) -> None:
        mailboxes.park(self.mail, [AccountId(account)], mailboxes.ORDINARY, 1000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.told(SOMEBODY)
    made.deliver("7/old", "mine")
    return made


@pytest.mark.parametrize("parked", [True, False], ids=["parked", "in use"])
def test_the_mailbox_moves_once(store: Store, parked: bool) -> None:
    if parked:
        store.park("7/old")
    for _ in range(2):
        assert store.told(MINE) == set()
        assert store.mails("7/new") == ["mine"]
        assert mailboxes.present(store.mail) == [NEW] and not mailboxes.parked(store.mail)
        store.restart()


@pytest.mark.parametrize("mail", [True, False], ids=["mail was moved", "there was none"])
def test_who_gets_the_former_address_has_a_mailbox_of_his_own(store: Store, mail: bool) -> None:
    if not mail:
        store.park("7/old")
        store.told({})
        (parked,) = mailboxes.parked(store.mail)
        parked.path.rename(store.mail.parent / "elsewhere")
    store.told(MINE)
    assert store.mails("7/new") == ["mine"][:mail]
    store.told(MINE | SOMEBODY)
    assert store.mails("7/old") == []
    store.deliver("7/old", "of somebody else")
    for restarted in (False, True):  # the mailbox is parked, and comes back with its own
        if restarted:
            store.restart()
        store.told(SOMEBODY)
        store.park("7/new")
        store.told(MINE | SOMEBODY)
        assert store.mails("7/new") == ["mine"][:mail]
        assert store.mails("7/old") == ["of somebody else"]


def test_somebody_new_at_once_gets_nothing(store: Store) -> None:
    store.park("7/old")
    store.told(MINE | SOMEBODY)
    assert store.mails("7/new") == ["mine"] and store.mails("7/old") == []


def test_both_are_held_while_somebody_may_use_the_former(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renames, "LEAVE_SECONDS", 1000)
    both = {NEW, AccountId("7/old")}
    assert store.told(MINE | SOMEBODY) == both
    assert store.mails("7/old") == ["mine"]
    store.housekeeping.end_sessions(both)
    assert set(store.kicked) == both
    assert store.told(MINE) == set()  # it is gone from the directory, and nobody uses it any more
    assert store.mails("7/new") == ["mine"]
    monkeypatch.setattr(renames, "SETTLE_SECONDS", 1000)
    assert store.told(MINE | SOMEBODY) == set()


def test_a_renaming_that_was_cut_short_is_not_done_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.mail / "7/old/Maildir/new/mine").unlink()  # a mailbox without mail would give way

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
        patched.setattr(mailboxes, "bring_back", fail)
        store.told(MINE)
    store.restart()
    store.deliver("7/old", "of somebody else")
    store.told(MINE | SOMEBODY)
    assert store.mails("7/new") == [] and store.mails("7/old") == ["of somebody else"]


def test_mail_of_the_account_itself_is_never_replaced(store: Store) -> None:
    store.deliver("7/new", "before")
    store.told(MINE)
    assert store.mails("7/new") == ["before"] and store.mails("7/old") == ["mine"]
    assert any("has mail of its own" in line and "old@a.test" in line for line in store.said)


def test_an_empty_mailbox_gives_way_and_is_kept(store: Store) -> None:
    (store.mail / "7/new/sieve").mkdir(parents=True)
    store.told(MINE)
    assert store.mails("7/new") == ["mine"]
    (kept,) = mailboxes.parked(store.mail)
    assert kept.account == NEW and (kept.path / "sieve").is_dir()


def test_a_mailbox_moves_to_another_domain_and_back(store: Store) -> None:
    there = AccountId("9/old")
    moved = {there: Credential((), address=Address("old@b.test"), former=OLD)}
    store.told(moved)
    assert store.mails("9/old") == ["mine"]
    back = {AccountId("7/old"): Credential((), address=OLD, former=Address("old@b.test"))}
    store.told(back)
    assert store.mails("7/old") == ["mine"]
    store.told(moved)  # and once more, in the same run
    assert store.mails("9/old") == ["mine"]
