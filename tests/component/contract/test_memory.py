"""What the engine promises, where only a ground in memory can show it."""

import time

import pytest
from mail_operator.compiler.snapshot import PasswordHash
from mail_operator.engine import provisioning

from tests.component.contract.grounds import SERVER, MemoryGround
from tests.component.contract.test_engine import box, dom, mortal
from tests.support.installation import domain, mailbox, secret, server, wait

HASH = "{PLAIN}before"


def test_a_former_runs_hash_is_used_if_it_is_of_the_version_that_there_is(memory: MemoryGround) -> None:
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
    memory.wait_for(box("newer"))
    memory.wait_for(box("broken"), "Empty")
    assert memory.hashes["7/same"] == HASH
    assert (memory.hashes["7/newer"] or "").startswith("{ARGON2ID}")
    assert memory.hashes["7/broken"] == HASH, "what worked before stays while the new one is of no use"


def test_many_new_domains_hold_up_nobodys_password(
    memory: MemoryGround, monkeypatch: pytest.MonkeyPatch
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


def test_where_nothing_can_be_applied_it_is_tried_again(memory: MemoryGround) -> None:
    memory.apply(server(), domain("a.test", 7))
    memory.runtime.unavailable = True
    memory.start()
    wait(lambda: any("round failed" in line for line in memory.log))
    memory.runtime.unavailable = False
    memory.wait_for(SERVER)


def test_a_domain_that_goes_with_its_namespace_waits_and_an_event_says_so(memory: MemoryGround) -> None:
    memory.apply(server(), domain("a.test", 7), mortal("swept.test", 8))
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
    confirmed = mortal("swept.test", 8, annotations={"mailpods.io/confirm-removal": "mail"})
    memory.apply(confirmed)
    memory.wait_until_gone(dom("swept-test"))
