"""Mailbox folders are parked, guarded and purged; Dovecot never misses a changed file of accounts."""

import time
from pathlib import Path

import pytest

from mailpods.directory.records import AccountId, Credential, Service, StoreSettings
from mailpods.store import mailboxes
from mailpods.store.accounts import Endpoint, passwd_files
from mailpods.store.files import noticed_at, write

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


def test_two_changes_in_one_second_differ_in_the_second_that_dovecot_compares(tmp_path: Path) -> None:
    file = tmp_path / "passdb.imap"
    stamps = []
    for password in ("aaaa", "bbbb", "cccc"):
        assert write(file, password.encode())
        stamps.append(int(file.stat().st_mtime))
    assert stamps[0] < stamps[1] < stamps[2]
    assert not write(file, b"cccc")
    assert noticed_at(time.time()) > int(time.time())


def test_a_login_of_another_shard_is_passed_on_and_its_hash_stays_away() -> None:
    settings = StoreSettings("mx.a.test")
    accounts = {
        INFO: Credential(("7/info", "info@a.test"), "{PLAIN}one", {"imap": "everywhere"}),
        AccountId("7/anna"): Credential(("7/anna",), "{PLAIN}two", {"imap": "lan", "pop3": "off"}, shard=1),
        AccountId("7/shut"): Credential(("7/shut",), None, {"imap": "everywhere"}, shard=1),
    }
    others: list[dict[Service, Endpoint]] = [{}, {"imap": ("10.0.0.2", 2143), "pop3": ("10.0.0.2", 2110)}]
    files = passwd_files(accounts, settings, Path("/mail"), (2, 3), shard=0, others=others)
    imap = files["passdb.imap"].decode().splitlines()
    assert imap[:2] == [f"{login}:{{PLAIN}}one::::::user=7/info" for login in ("7/info", "info@a.test")]
    assert imap[2:] == ["7/anna:::::::nopassword=y proxy=y host=10.0.0.2 port=2143 starttls=any-cert"]
    assert files["passdb.pop3"] == b""
    assert b"two" not in b"".join(files.values())
    assert files["userdb"] == b"7/info:::::/mail/7/info::\n"


def test_a_hash_cannot_become_fields_of_its_own() -> None:
    bad = {INFO: Credential(("7/info",), "{PLAIN}x proxy=y", {"imap": "everywhere"})}
    assert passwd_files(bad, StoreSettings("mx.a.test"), Path("/mail"), (2, 3))["passdb.imap"] == b""
