"""The suppression list: one for all processes of a pod, told to the other pods of the pool."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from mailpods.admin.server import AdminServer
from mailpods.bulk import suppressions
from mailpods.bulk.suppression import BOUNCED_SECONDS, Suppressed, Suppressions
from mailpods.bulk.suppressions import Routes
from tests.support.installation import wait

KEY = "installation-key"


def pod(folder: Path, peers: Callable[[], list[str]]) -> AdminServer:
    folder.mkdir()
    server = AdminServer("127.0.0.1", 0, Routes(folder, KEY, peers).all())
    server.start()
    return server


def test_a_bounce_ends_and_what_somebody_wants_does_not(tmp_path: Path) -> None:
    there, now = Suppressions(tmp_path), time.time()
    long_ago = now - BOUNCED_SECONDS - 1
    there.add("a.test", "back@sink.test", "bounce: 550 5.1.1 unknown", long_ago)
    there.add("a.test", "left@sink.test", "unsubscribed", long_ago)
    there.add("a.test", "gone@sink.test", "bounce: 550 5.1.1 unknown", now - 5)
    assert there.reason("a.test", "back@sink.test") is None
    shown = {each.address: each.until for each in there.entries()}
    assert shown == {"left@sink.test": None, "gone@sink.test": now - 5 + BOUNCED_SECONDS}
    there.add("a.test", "back@sink.test", "bounce: again")
    there.add("a.test", "gone@sink.test", "unsubscribed")  # holds longer than the bounce that is there
    assert there.reason("a.test", "back@sink.test") == "bounce: again"
    assert there.reason("a.test", "gone@sink.test") == "unsubscribed"
    there.add("a.test", "gone@sink.test", "bounce")
    assert there.reason("a.test", "gone@sink.test") == "unsubscribed"


def test_people_see_until_when_and_pods_tell_what_they_keep(tmp_path: Path) -> None:
    server = pod(tmp_path / "pod", list)
    try:
        Suppressions(tmp_path / "pod").add("a.test", "x@sink.test", "bounce", 5e9)
        for key, keys in ((None, {"until"}), (KEY, set[str]())):
            found = suppressions.ask(f"127.0.0.1:{server.port}", "GET", key, None)
            assert (
                isinstance(found, list) and set(found[0]) - {"domain", "address", "reason", "since"} == keys
            )
    finally:
        server.stop()


def test_the_first_reason_stays_and_case_does_not_matter(tmp_path: Path) -> None:
    there = Suppressions(tmp_path)
    there.add("A.test", "X@sink.test", "bounce")
    there.add("a.test", "x@sink.test", "bounce: another")
    assert Suppressions(tmp_path).reason("a.test", "x@SINK.test") == "bounce"
    assert there.reason("b.test", "x@sink.test") is None
    assert there.remove("a.test", "x@sink.test") and not there.remove("a.test", "x@sink.test")


def test_pods_tell_each_other_and_a_new_one_learns_all(tmp_path: Path) -> None:
    addresses: list[str] = []
    first = pod(tmp_path / "first", lambda: addresses[1:])
    second = pod(tmp_path / "second", lambda: addresses[:1])
    addresses += [f"127.0.0.1:{server.port}" for server in (first, second)]
    Suppressions(tmp_path / "first").add("a.test", "old@sink.test", "bounce")
    stopping = threading.Event()
    threads = [
        threading.Thread(target=suppressions.share, args=(tmp_path / name, KEY, peers, stopping))
        for name, peers in (("first", lambda: addresses[1:]), ("second", lambda: addresses[:1]))
    ]
    for thread in threads:
        thread.start()
    try:
        there = Suppressions(tmp_path / "second")
        wait(lambda: there.reason("a.test", "old@sink.test"), 15)
        Suppressions(tmp_path / "second").add("a.test", "new@sink.test", "unsubscribed")
        wait(lambda: Suppressions(tmp_path / "first").reason("a.test", "new@sink.test"), 15)
        # What a person takes off one pod's list is taken off all of them.
        suppressions.ask(addresses[0], "DELETE", None, None, "?domain=a.test&address=new@sink.test")
        wait(lambda: there.reason("a.test", "new@sink.test") is None, 15)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
        for server in (first, second):
            server.stop()


def test_many_may_open_it_at_once(tmp_path: Path) -> None:
    failed: list[Exception] = []

    def use(folder: Path, ready: threading.Barrier) -> None:
        ready.wait()
        try:
            Suppressions(folder).add("a.test", "x@sink.test", "bounce")
        except Exception as error:
            failed.append(error)

    for n in range(100):
        (folder := tmp_path / str(n)).mkdir()
        ready = threading.Barrier(8)
        threads = [threading.Thread(target=use, args=(folder, ready)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Suppressions(folder).reason("a.test", "x@sink.test") == "bounce"
    assert failed == []


def test_strangers_do_not_pass_for_pods(tmp_path: Path) -> None:
    server = pod(tmp_path / "pod", list)
    try:
        entry = Suppressed("a.test", "x@sink.test", "bounce", 1.0)
        answer = suppressions.ask(f"127.0.0.1:{server.port}", "POST", "wrong", [entry])
        assert answer is None and Suppressions(tmp_path / "pod").entries() == []
    finally:
        server.stop()
