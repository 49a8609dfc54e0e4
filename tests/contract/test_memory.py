"""What the engine promises, where only a harness in memory can show it."""

import threading
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from mail_operator.compiler.snapshot import PasswordHash
from mail_operator.engine import provisioning, secret_reader
from mail_operator.engine.runtime import Program, Status
from mail_operator.engine.secrets import hash_password
from mail_operator.kinds.meta import ObjectRef

from tests.contract.harnesses import SERVER, MemoryHarness
from tests.contract.test_engine import bare, box, deletable, dom, ref
from tests.support.installation import domain, mailbox, secret, server, wait

HASH = "{PLAIN}before"


def test_a_former_runs_hash_is_used_if_it_is_of_the_version_that_there_is(
    memory: MemoryHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashing = threading.Event()

    def slow(password: str, origin: str) -> str:
        assert "newer" not in origin or hashing.wait(20)
        return hash_password(password, origin)

    monkeypatch.setattr(secret_reader, "hash_password", slow)
    memory.apply(server(), domain("a.test", 7), mailbox("same"), mailbox("newer"), mailbox("broken"))
    version = memory.runtime.secrets["t", "same-pw"].mark
    memory.runtime.hashes = {
        ("t", "same-pw"): PasswordHash(HASH, version),
        ("t", "newer-pw"): PasswordHash(HASH, "older"),
        ("t", "broken-pw"): PasswordHash(HASH, "older"),
        ("t", "nobodys"): PasswordHash(HASH, "older"),
    }
    memory.apply(secret("broken-pw", password=""))
    memory.start()
    memory.wait_for(box("newer"), "Hashing")
    assert memory.hashes.get("7/newer") is None, "it may have been changed because it is known to somebody"
    hashing.set()
    memory.wait_for(box("newer"))
    memory.wait_for(box("broken"), "Empty")
    assert memory.hashes["7/same"] == HASH
    assert (memory.hashes["7/newer"] or "").startswith("{ARGON2ID}")
    assert memory.hashes["7/broken"] == HASH, "what worked before stays while the new one is of no use"


def test_many_new_domains_hold_up_nobodys_password(
    memory: MemoryHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(now: object) -> dict[str, bytes]:
        time.sleep(0.5)
        return {"r202601.key": b"x"}

    memory.apply(server(), domain("a.test", 7), mailbox("quick"))
    memory.start()
    memory.wait_for(box("quick"))
    monkeypatch.setattr(provisioning, "make_dkim_keys", slow)
    memory.apply([domain(f"new{n}.test", 10 + n) for n in range(1000)])
    memory.wait_for(dom("new999-test"), "Serving", 30)
    before, began = memory.hashes["7/quick"], time.monotonic()
    memory.apply(secret("quick-pw", password="another"))
    wait(lambda: memory.hashes["7/quick"] != before)
    assert time.monotonic() - began < 5  # their keys take four minutes
    made = [name for name in memory.runtime.secrets if name[1].endswith("-dkim")]
    assert len(made) < 500


def test_where_nothing_can_be_applied_it_is_tried_again(memory: MemoryHarness) -> None:
    memory.apply(server(), domain("a.test", 7))
    memory.runtime.unavailable = True
    memory.start()
    wait(lambda: any("round failed" in line for line in memory.log))
    memory.runtime.unavailable = False
    memory.wait_for(SERVER)


def test_a_domain_that_goes_with_its_namespace_waits_and_an_event_says_so(memory: MemoryHarness) -> None:
    memory.apply(server(), domain("a.test", 7), deletable("swept.test", 8))
    memory.start()
    memory.wait_for(dom("swept-test"))
    wait(lambda: memory.runtime.resources[dom("swept-test")].held)
    memory.runtime.swept[dom("swept-test")] = "its namespace t"
    memory.remove(dom("swept-test"))
    assert "its namespace t" in memory.wait_for(dom("swept-test"), "DeletionHeld")["message"]
    wait(lambda: (dom("swept-test"), "DeletionHeld") in memory.runtime.events)
    memory.stop()  # an operator that comes back goes on
    memory.runtime.swept.clear()
    memory.start()
    memory.wait_for(SERVER)
    assert memory.ready(dom("swept-test"))["reason"] == "DeletionHeld"
    confirmed = deletable("swept.test", 8, annotations={"mailpods.io/confirm-removal": "mail"})
    memory.apply(confirmed)
    memory.wait_until_gone(dom("swept-test"))


WORDS = "what a Secret holds"


def fail(*_: object, **__: object) -> Any:
    """Any of our own functions, broken."""
    raise ZeroDivisionError(WORDS)


PROVISIONERS = {
    "make_dkim_keys": dom("broken-test"),
    "generate_password": box("bare"),
    "make_certificate": SERVER,
}


@pytest.mark.parametrize("broken", PROVISIONERS)
def test_an_exception_in_a_provisioner_stays_with_its_object(
    memory: MemoryHarness, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    memory.apply(server(), domain("a.test", 7), mailbox("well"))
    memory.start()
    memory.wait_for(box("well"))
    monkeypatch.setattr(provisioning, broken, fail)
    monkeypatch.setattr(provisioning, "_BROKEN_SECONDS", 0.1)
    if broken == "make_certificate":
        memory.remove_made("main-tls")
        memory.engine().look()
    memory.apply(domain("broken.test", 70), bare("bare"), mailbox("more"))
    message = memory.wait_for(PROVISIONERS[broken], "InternalError")["message"]
    memory.wait_for(box("more"))
    (told,) = [line for line in memory.log if "ZeroDivisionError" in line]
    id_ = told.partition("internal error ")[2][:8]
    assert f"({id_})" in message and WORDS not in told + message
    monkeypatch.undo()
    memory.wait_for(PROVISIONERS[broken])


def test_an_exception_while_a_status_is_written_stays_with_its_object(
    memory: MemoryHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = memory.runtime.publish

    async def sometimes(ref: ObjectRef, status: Status, removed: Collection[str]) -> None:
        if ref == box("broken"):
            fail()
        await publish(ref, status, removed)

    monkeypatch.setattr(memory.runtime, "publish", sometimes)
    memory.apply(server(), domain("a.test", 7), mailbox("broken"), mailbox("well"))
    memory.start()
    memory.wait_for(box("well"))
    wait(lambda: any("internal error" in line and "t/broken" in line for line in memory.log))
    monkeypatch.undo()
    memory.wait_for(box("broken"))


def test_an_exception_while_a_password_is_hashed_stays_with_its_account(
    memory: MemoryHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sometimes(password: str, origin: str) -> str:
        return fail() if "broken" in origin else hash_password(password, origin)

    monkeypatch.setattr(secret_reader, "hash_password", sometimes)
    monkeypatch.setattr(secret_reader, "_RETRY_SECONDS", 0.1)
    memory.apply(server(), domain("a.test", 7), mailbox("broken"), mailbox("well"))
    memory.start()
    memory.wait_for(box("well"))
    memory.wait_for(box("broken"), "InternalError")
    monkeypatch.undo()
    memory.wait_for(box("broken"))


def test_private_keys_that_nobody_names_any_more_are_dropped(memory: MemoryHarness) -> None:
    memory.apply(server(), domain("a.test", 7), domain("gone.test", 8))
    memory.start()
    memory.wait_for(dom("gone-test"))
    held = memory.engine()._reader._contents
    wait(lambda: ("t", "gone-test-dkim") in held)
    memory.remove(dom("gone-test"))
    wait(lambda: ("t", "gone-test-dkim") not in held)
    assert ("t", "a-test-dkim") in held


def test_what_pods_answer_ends_nothing(memory: MemoryHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(program: Program) -> Any:
        fail()

    monkeypatch.setattr(memory.runtime, "ask", broken)
    memory.runtime.timings = replace(memory.runtime.timings, retry=0.05)
    memory.apply(server(), domain("a.test", 7))
    memory.start()
    wait(lambda: any("asking the pods failed" in line for line in memory.log))
    monkeypatch.undo()
    memory.wait_for(SERVER)


def test_pods_are_hurried_to_a_certificate_that_somebody_renewed(
    memory: MemoryHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried: list[set[ObjectRef]] = []

    async def hurry(servers: Collection[ObjectRef]) -> None:
        hurried.append(set(servers))

    monkeypatch.setattr(memory.runtime, "hurry", hurry)
    memory.apply(server(tls={"secretName": "own"}), secret("own", **{"tls.crt": "1", "tls.key": "1"}))
    memory.start()
    wait(lambda: memory.engine().synced)
    memory.settle()
    before = len(hurried)
    memory.apply(secret("own", **{"tls.crt": "2", "tls.key": "2"}))
    wait(lambda: hurried[before:])
    assert hurried[before:] == [{SERVER}]


def test_of_a_paused_server_nothing_is_taken_away(memory: MemoryHarness) -> None:
    bulk = ref("StatefulSet", "main-bulk")
    memory.apply(server(bulk={"replicas": 1}))
    memory.start()
    wait(lambda: bulk in memory.runtime.objects)
    paused = server()
    paused["metadata"]["annotations"] = {"mailpods.io/paused": "true"}
    memory.apply(paused)
    memory.look_again()
    assert bulk in memory.runtime.objects
    memory.apply(server())
    wait(lambda: bulk not in memory.runtime.objects)
