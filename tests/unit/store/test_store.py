"""Mailbox folders are parked, guarded and purged."""

from pathlib import Path

import pytest

from mailpods.directory.records import AccountId
from mailpods.store import mailboxes

INFO = AccountId("7/info")


def make(mail: Path, *accounts: str) -> None:
    for account in accounts:
        (mail / account / "Maildir").mkdir(parents=True)


def test_a_parked_mailbox_comes_back_or_is_purged_after_its_retention(tmp_path: Path) -> None:
    said: list[str] = []
    make(tmp_path, "7/info", "7/a~b")
    mailboxes.park(tmp_path, [INFO, AccountId("7/a~b")], mailboxes.ORDINARY, now=1000)
    assert mailboxes.present(tmp_path) == []
    mailboxes.bring_back(tmp_path, {INFO}, said.append)
    assert mailboxes.present(tmp_path) == [INFO] and (tmp_path / "7/info/Maildir").is_dir()
    assert [each.account for each in mailboxes.parked(tmp_path)] == ["7/a~b"]
    mailboxes.purge(tmp_path, 100, None, 1099, said.append)
    assert len(mailboxes.parked(tmp_path)) == 1
    mailboxes.purge(tmp_path, 100, None, 1100, said.append)
    assert mailboxes.parked(tmp_path) == []
    assert "purged" in said[-1]


def test_the_newest_of_several_comes_back_and_never_over_a_mailbox_that_is_there(tmp_path: Path) -> None:
    for at in (1000, 2000):
        make(tmp_path, "7/info")
        (tmp_path / "7/info/mark").write_text(str(at))
        mailboxes.park(tmp_path, [INFO], mailboxes.ORDINARY, at)
    mailboxes.bring_back(tmp_path, {INFO}, print)
    assert (tmp_path / "7/info/mark").read_text() == "2000"
    mailboxes.bring_back(tmp_path, {INFO}, print)
    assert [each.at for each in mailboxes.parked(tmp_path)] == [1000]


@pytest.mark.parametrize(
    ("gone", "total", "sudden"), [(10, 10, False), (11, 11, True), (20, 100, False), (21, 100, True)]
)
def test_what_counts_as_sudden(gone: int, total: int, sudden: bool) -> None:
    assert mailboxes.is_sudden(gone, total) == sudden


def test_a_sudden_removal_is_not_purged_until_its_own_batch_is_confirmed(tmp_path: Path) -> None:
    make(tmp_path, "7/info")
    mailboxes.park(tmp_path, [INFO], "20260101-000000", now=1000)
    for confirmed in (None, "20260102-000000"):
        mailboxes.purge(tmp_path, 0, confirmed, 10**10, print)
        assert mailboxes.guarded(tmp_path, confirmed) == {"20260101-000000": 1}
    mailboxes.purge(tmp_path, 0, "20260101-000000", 10**10, print)
    assert mailboxes.parked(tmp_path) == []
