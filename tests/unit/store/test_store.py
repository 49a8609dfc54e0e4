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
    mailboxes.bring_back(tmp_path, {INFO}, {}, said.append)
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
    mailboxes.bring_back(tmp_path, {INFO}, {}, print)
    assert (tmp_path / "7/info/mark").read_text() == "2000"
    mailboxes.bring_back(tmp_path, {INFO}, {}, print)
    assert [each.at for each in mailboxes.parked(tmp_path)] == [1000]


def test_a_number_that_another_domain_gets_keeps_its_mail_for_the_domain_that_had_it(tmp_path: Path) -> None:
    said: list[str] = []
    assert mailboxes.claim(tmp_path, {"7": "a.test"}, 1000, said.append) == []
    make(tmp_path, "7/info", "7/anna")
    (tmp_path / "7/info/mark").write_text("of a")
    mailboxes.park(tmp_path, [AccountId("7/anna")], mailboxes.ORDINARY, 1000)

    assert mailboxes.claim(tmp_path, {"7": "b.test"}, 2000, said.append) == [INFO]
    mailboxes.bring_back(tmp_path, {INFO, AccountId("7/anna")}, {"7": "b.test"}, said.append)
    assert mailboxes.present(tmp_path) == []
    make(tmp_path, "7/info")

    # The same name gets it back, under another number, too.
    mailboxes.claim(tmp_path, {"7": "b.test", "9": "a.test"}, 3000, said.append)
    there = {AccountId("9/info"), AccountId("9/anna"), INFO}
    mailboxes.bring_back(tmp_path, there, {"7": "b.test", "9": "a.test"}, said.append)
    assert mailboxes.present(tmp_path) == [INFO, "9/anna", "9/info"]
    assert (tmp_path / "9/info/mark").read_text() == "of a" and not (tmp_path / "7/info/mark").exists()
    assert mailboxes.claim(tmp_path, {"7": "b.test", "9": "a.test"}, 4000, said.append) == []


def test_a_claim_that_was_cut_short_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mailboxes.claim(tmp_path, {"7": "a.test"}, 1000, print)
    make(tmp_path, "7/info")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            mailboxes.claim(tmp_path, {"7": "b.test"}, 2000, print)
    assert mailboxes.owner(tmp_path, "7") == "a.test" and mailboxes.present(tmp_path) == []
    mailboxes.claim(tmp_path, {"7": "b.test"}, 3000, print)
    mailboxes.bring_back(tmp_path, {INFO}, {"7": "b.test"}, print)
    assert mailboxes.present(tmp_path) == [] and mailboxes.owner(tmp_path, "7") == "b.test"


def test_folders_of_before_belong_to_the_domain_that_is_there(tmp_path: Path) -> None:
    make(tmp_path, "7/info", "7/anna")
    mailboxes.park(tmp_path, [AccountId("7/anna")], mailboxes.ORDINARY, 1000)
    mailboxes.claim(tmp_path, {"7": "a.test"}, 2000, print)
    mailboxes.bring_back(tmp_path, {AccountId("7/anna")}, {"7": "a.test"}, print)
    assert mailboxes.present(tmp_path) == ["7/anna", INFO]
    assert not mailboxes.parked(tmp_path)


def test_nobody_gets_what_is_parked_of_before_under_a_number_without_mail(tmp_path: Path) -> None:
    make(tmp_path, "7/info")
    mailboxes.park(tmp_path, [INFO], mailboxes.ORDINARY, 1000)
    mailboxes.claim(tmp_path, {"7": "b.test"}, 2000, print)
    mailboxes.bring_back(tmp_path, {INFO}, {"7": "b.test"}, print)
    assert mailboxes.present(tmp_path) == []


def test_a_domain_that_is_wiped_takes_nothing_of_those_that_had_its_number(tmp_path: Path) -> None:
    mailboxes.claim(tmp_path, {"7": "a.test"}, 1000, print)
    make(tmp_path, "7/info")
    mailboxes.claim(tmp_path, {"7": "b.test"}, 2000, print)
    make(tmp_path, "7/info")
    mailboxes.park(tmp_path, [INFO], mailboxes.ORDINARY, 3000)
    mailboxes.wipe(tmp_path, [7], print)
    assert [each.domain for each in mailboxes.parked(tmp_path)] == ["a.test"]
    assert not (tmp_path / "7").exists()


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
