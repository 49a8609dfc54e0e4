"""The suppression list: one for all processes of a pod, told to the other pods of the pool."""

import threading
from collections.abc import Callable
from pathlib import Path

from mailpods.admin.server import AdminServer
from mailpods.bulk import suppressions
from mailpods.bulk.suppression import Suppressed, Suppressions
from mailpods.bulk.suppressions import Routes
from tests.support.installation import wait

KEY = "installation-key"


def pod(folder: Path, peers: Callable[[], list[str]]) -> AdminServer:
    folder.mkdir()
    server = AdminServer("127.0.0.1", 0, Routes(folder, KEY, peers).all())
    server.start()
    return server


def test_the_first_reason_stays_and_case_does_not_matter(tmp_path: Path) -> None:
    there = Suppressions(tmp_path)
    there.add("A.test", "X@sink.test", "bounce")
    there.add("a.test", "x@sink.test", "unsubscribed")
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
