"""Wrong tries of others make nobody wait, and a burst of logins forks no crowd."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.processes import family
from mailpods.directory.records import Credential
from tests.support.storepod import StoreProgram, credential

INFO = {"7/info": credential("7/info", password="pw")}


@pytest.mark.parametrize("role", ["store", "auth"])
def test_the_rightful_user_does_not_wait_for_wrong_tries_from_his_address(
    programs: Callable[[str], StoreProgram], role: str
) -> None:
    program = programs(role)
    program.start()
    program.tell(INFO)

    def seconds(password: str, right: bool) -> float:
        began = time.monotonic()
        if role == "store":
            assert program.can_log_in("7/info", password) == right
        else:
            assert program.authenticate("7/info", password).startswith("OK" if right else "FAIL")
        return time.monotonic() - began

    with ThreadPoolExecutor(8) as pool:
        wrong = list(pool.map(lambda n: seconds(f"wrong-{n}", False), range(8)))
    assert min(wrong) > 1.5  # a guess costs time
    assert seconds("pw", True) < 1.5  # it took 4 s, and after more of them 15


def workers(store: StoreProgram) -> int:
    assert store.process
    found = 0
    for pid in family(store.process.pid):
        command = Path(f"/proc/{pid}/cmdline")
        found += command.exists() and command.read_bytes().startswith(b"dovecot/auth\0-w")
    return found


def test_a_burst_of_logins_shares_a_few_workers(store: StoreProgram) -> None:
    slow = "{SHA512-CRYPT}$6$rounds=20000$saltsalt$"  # wrong, whatever is tried
    accounts = {**INFO, "7/slow": Credential(("7/slow",), slow + "x" * 86, {"imap": "everywhere"})}
    store.start()
    store.tell(accounts)
    with ThreadPoolExecutor(80) as pool:
        tries = [pool.submit(store.can_log_in, "7/slow", f"wrong-{n}") for n in range(60)]
        right = [pool.submit(store.can_log_in, "7/info", "pw") for _ in range(20)]
        most = 0
        while not all(each.done() for each in tries):
            most = max(most, workers(store))
        assert not any(each.result() for each in tries) and all(each.result() for each in right)
    assert 1 < most <= 16
