"""Dovecot follows the accounts at once, whatever changes, and keeps the old ones when new ones fail."""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailpods.directory.records import AccountId, Credential, Service, StoreSettings
from mailpods.store.accounts import AccountsDatabase, Endpoint, password_query, user_query
from tests.support.installation import wait
from tests.support.storepod import USER, StoreProgram, credential


def test_changes_of_one_size_in_one_second_all_count(store: StoreProgram) -> None:
    """Whole-second times and sizes tell nobody anything."""
    store.start()
    store.tell({"7/info": credential("7/info", password="pw00")})
    began = time.monotonic()
    for n in range(1, 20):
        assert store.can_log_in("7/info", f"pw{n - 1:02}")
        store.tell({"7/info": credential("7/info", password=f"pw{n:02}")})
        assert store.can_log_in("7/info", f"pw{n:02}")
    assert time.monotonic() - began < 15  # 19 changes; of files that are read once a second it would be 19
    assert not store.can_log_in("7/info", "pw18")


def test_each_login_form_reaches_the_account_and_services_and_networks_hold(store: StoreProgram) -> None:
    store.settings = StoreSettings("mail.a.test", lan=("127.0.0.2/32", "192.0.2.0/24"), tls_required=False)
    accounts = {
        "7/info": credential("7/info", "Info@A.test", "dom7-info", password="pw", quota=1 << 30),
        "7/lan": credential("7/lan", password="pw", imap="lan"),
        "7/off": credential("7/off", password="pw", pop3="everywhere"),
        "7/locked": credential("7/locked", password=None),
        "7/odd": credential("7/odd", password='it\'s: "50 %" \\ proxy=y'),
        "7/cut": credential("7/cut", password="\0x"),
    }
    store.start()
    store.tell(accounts)
    for login in ("7/info", "info@a.test", "INFO@A.TEST", "dom7-info"):
        with store.imap(login, "pw") as client:
            assert client.select()[0] == "OK"
            assert b"(STORAGE 0 1048576)" in client.getquotaroot("INBOX")[1][1][0]
    assert (store.folder / "m" / "7" / "info" / "Maildir").is_dir()
    assert store.can_log_in("7/lan", "pw", source="127.0.0.2")
    assert store.can_log_in("7/odd", 'it\'s: "50 %" \\ proxy=y')
    for login, password in (
        ("7/lan", "pw"),
        ("7/off", "pw"),
        ("7/locked", ""),
        ("7/cut", ""),
        ("7/info' OR '1'='1", "pw"),
    ):
        assert not store.can_log_in(login, password), login
    store.settings = StoreSettings("mail.a.test", tls_required=False)
    store.tell({**accounts, "7/info": credential("7/info", password="pw")})
    assert not store.can_log_in("7/lan", "pw", source="127.0.0.2")  # a LAN that is nowhere holds nobody
    assert store.can_log_in("7/info", "pw") and not store.can_log_in("info@a.test", "pw")
    store.tell({})
    assert not store.can_log_in("7/info", "pw")


def test_the_authenticator_names_the_account(programs: Callable[[str], StoreProgram]) -> None:
    auth = programs("auth")
    auth.start()
    accounts = {
        "7/info": credential("info@a.test", password="pw"),
        "7/off": credential("7/off", password="pw", imap="lan"),
    }
    auth.tell(accounts)
    assert "user=7/info" in auth.authenticate("Info@a.test", "pw").split("\t")
    assert auth.authenticate("7/info", "pw").startswith("FAIL")
    assert auth.authenticate("7/off", "pw").startswith("FAIL")
    auth.tell({"7/info": credential("info@a.test", password="new")})
    assert auth.authenticate("info@a.test", "new").startswith("OK")


def test_a_torn_database_is_made_anew(store: StoreProgram) -> None:
    store.start()
    accounts = {f"7/u{n}": credential(f"7/u{n}", password="pw") for n in range(500)}
    store.tell(accounts)
    store.stop()
    with open(store.database, "r+b") as file:  # in the middle, and at its end
        file.seek(8192)
        file.write(b"\xff" * 4096)
        file.truncate(file.seek(0, 2) - 5000)
    store.start()
    store.tell(accounts)
    assert store.can_log_in("7/u499", "pw")


def test_a_database_torn_while_it_is_in_use_is_made_anew(store: StoreProgram) -> None:
    store.start()
    accounts = {f"7/u{n}": credential(f"7/u{n}", password="pw") for n in range(500)}
    store.tell(accounts)
    # Without its log nothing of it can be read any more.
    with sqlite3.connect(store.database) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(store.database, "r+b") as file:
        file.write(b"\0" * file.seek(0, 2))
    changed = {**accounts, "7/u499": credential("7/u499", password="new")}
    store.tell(changed)
    wait(lambda: store.can_log_in("7/u499", "new"))


def test_a_full_disk_leaves_the_old_accounts(store: StoreProgram) -> None:
    # Theirs alone: without space Dovecot 2.4 starts no process, for it writes down its configuration.
    folder = store.database.parent
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system needs the right to mount one")
    try:
        shutil.chown(folder, USER)
        store.start()
        before = {f"7/u{n}": credential(f"7/u{n}", password="old") for n in range(1000)}
        store.tell(before)
        (folder / "filler").write_bytes(b"x" * (free_bytes(folder) - 65536))
        after = {f"7/u{n}": credential(f"7/u{n}", password="new") for n in range(1000)}
        hashes = store.write(after)
        problem = wait(lambda: store.directory()["problems"].get("accounts"))
        assert "cannot be written" in problem
        assert store.directory()["hashes"] != hashes
        assert store.can_log_in("7/u0", "old") and store.can_log_in("7/u999", "old")
        assert not store.can_log_in("7/u0", "new")
        (folder / "filler").unlink()
        wait(lambda: store.directory() == {"hashes": hashes, "problems": {}})
        assert store.can_log_in("7/u999", "new") and not store.can_log_in("7/u0", "old")
    finally:
        store.stop()
        subprocess.run(["umount", str(folder)], check=True)


def free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as connection:
        return list(connection.execute(query))


def test_a_hash_of_another_shard_stays_away_and_moves_with_the_account(tmp_path: Path) -> None:
    there = Credential(("7/anna",), "{PLAIN}two", {"imap": "lan", "pop3": "off"}, shard=1)
    others: list[dict[Service, Endpoint]] = [{}, {"imap": ("10.0.0.2", 2143), "pop3": ("10.0.0.2", 2110)}]
    database = AccountsDatabase(tmp_path / "accounts.sqlite", 0)
    settings = StoreSettings("mx.a.test")
    anna = AccountId("7/anna")
    database.update({anna: there}, settings, others)
    assert rows(database.path, "SELECT hash, shard FROM account") == [(None, 1)]
    assert (1, "imap", "10.0.0.2", 2143) in rows(database.path, "SELECT * FROM endpoint")
    database.update({anna: Credential(("7/anna",), "{PLAIN}two", {"imap": "lan"})}, settings, others)
    assert rows(database.path, "SELECT hash, shard FROM account") == [("{PLAIN}two", None)]
    database.update({}, settings, [])
    for table in ("account", "login", "endpoint"):
        assert rows(database.path, f"SELECT * FROM {table}") == []


def test_only_differences_are_written(tmp_path: Path) -> None:
    """Ten thousand accounts, one edit: a few pages."""
    database = AccountsDatabase(tmp_path / "accounts.sqlite", None)
    settings = StoreSettings("mx.a.test")
    many = {AccountId(f"7/u{n}"): credential(f"7/u{n}", f"u{n}@a.test", password="x") for n in range(10_000)}
    database.update(many, settings)
    log = tmp_path / "accounts.sqlite-wal"
    with sqlite3.connect(database.path) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.update({**many, AccountId("7/u77"): credential("7/u77", password="y")}, settings)
    assert 0 < log.stat().st_size < 20 * 4200


def test_a_question_looks_at_its_own_rows_alone(tmp_path: Path) -> None:
    database = AccountsDatabase(tmp_path / "accounts.sqlite", 0)
    database.update({}, StoreSettings("mx.a.test"))
    for query in (password_query("x", "imap"), user_query("7/x", Path("/mail"), (2, 3))):
        plan = [str(row[3]) for row in rows(database.path, f"EXPLAIN QUERY PLAN {query}")]
        assert [step for step in plan if step.startswith("SCAN")] == ["SCAN setting"], plan
