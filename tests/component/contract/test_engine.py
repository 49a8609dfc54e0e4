"""What the engine promises on every ground."""

from collections.abc import Iterator
from typing import Any

import pytest
from mail_operator.engine import provisioning
from mail_operator.kinds.meta import ObjectRef

from tests.component.contract.grounds import SERVER, Ground
from tests.support.installation import domain, mailbox, manifest, secret, server, wait

CONFIRM = {"mailpods.io/confirm-removal": "mail"}


def ref(kind: str, name: str) -> ObjectRef:
    """An object of the tests' namespace."""
    return ObjectRef(kind, "t", name)


def box(name: str) -> ObjectRef:
    return ref("Mailbox", name)


def dom(name: str) -> ObjectRef:
    return ref("MailDomain", name)


def mortal(name: str, number: int | None = None, **meta: Any) -> dict[str, Any]:
    """A domain whose mail goes with it."""
    made = domain(name, number, deletionPolicy="Delete")
    made["metadata"].update(meta)
    return made


def bare(name: str, of: str = "a-test") -> dict[str, Any]:
    """A mailbox whose password is made for it."""
    return manifest("Mailbox", name, {"domainRef": {"name": of}})


def test_an_account_is_ready_once_every_pod_acknowledged_it_and_not_before(ground: Ground) -> None:
    with ground.frozen():
        ground.apply(mailbox("slow"))
        ground.wait_for(box("slow"), "Propagating")
        assert "7/slow" in ground.accounts
    ground.wait_for(box("slow"))
    ground.remove(box("slow"))
    wait(lambda: "7/slow" not in ground.accounts)
    assert not ground.status(box("slow"))


def test_a_component_that_is_only_declared_is_waited_for_like_the_others(ground: Ground) -> None:
    with ground.frozen("toy"):
        ground.apply(mailbox("toyed"))
        ground.wait_for(box("toyed"), "Propagating")
        wait(lambda: "7/toyed" in ground.accounts)
        ground.settle()
        assert ground.ready(box("toyed"))["reason"] == "Propagating"
    ground.wait_for(box("toyed"))
    ground.remove(box("toyed"))
    wait(lambda: "7/toyed" not in ground.accounts)


def test_what_nobody_gave_is_made(ground: Ground) -> None:
    ground.apply(bare("given"))
    ground.wait_for(box("given"))
    assert len(ground.secret("given-password")["password"]) == 24
    assert (ground.hashes["7/given"] or "").startswith("{ARGON2ID}")
    assert ground.secret("main-key")["key"]
    assert b"CERTIFICATE" in ground.secret("main-tls")["tls.crt"]
    assert {name[0] for name in ground.secret("a-test-dkim")} >= {"r", "e"}


def test_a_password_changes_and_what_cannot_be_used_keeps_the_one_of_before(ground: Ground) -> None:
    ground.apply(mailbox("changes"))
    ground.wait_for(box("changes"))
    first = ground.hashes["7/changes"]
    ground.apply(secret("changes-pw", password="another"))
    wait(lambda: ground.hashes["7/changes"] != first)
    ground.wait_for(box("changes"))
    second = ground.hashes["7/changes"]
    ground.apply(secret("changes-pw", password=""))
    ground.wait_for(box("changes"), "Empty")
    assert ground.hashes["7/changes"] == second


def test_a_number_that_was_given_out_stays(ground: Ground) -> None:
    ground.apply(domain("numbered.test"))
    ground.wait_for(dom("numbered-test"))
    number = ground.status(dom("numbered-test"))["number"]
    assert ground.spec(dom("numbered-test"))["number"] == number


def test_a_domain_deleted_by_name_goes_with_its_mail(ground: Ground) -> None:
    ground.apply(mortal("ends.test", 60), bare("last", "ends-test"))
    ground.wait_for(box("last"))
    with ground.frozen():
        ground.remove(dom("ends-test"), box("last"))
        ready = ground.wait_for(dom("ends-test"), "Deleting")
        assert "wiping" in ready["message"] or "waits" in ready["message"]
        wait(lambda: ground.wiped == [60])
    ground.wait_until_gone(dom("ends-test"))
    wait(lambda: ground.wiped == [])


def test_very_many_domains_that_vanish_at_once_wait_and_say_so(ground: Ground) -> None:
    names = [f"many{n}.test" for n in range(29)]
    refs = [dom(name.replace(".", "-")) for name in names]
    ground.apply(*(mortal(name, 100 + n) for n, name in enumerate(names)), bare("held", "many0-test"))
    for each in refs:
        ground.wait_for(each, seconds=60)
    ground.remove(*refs)
    for each in refs:
        assert "mailpods.io/confirm-removal=mail" in ground.wait_for(each, "DeletionHeld")["message"]
    assert ground.wait_for(box("held"), "DomainDeleting")["status"] == "False"
    assert ground.wiped == []
    # Some that are confirmed, so many that the rest are few, take no other along.
    for some in (range(25), range(25, 29)):
        ground.apply(*(mortal(names[n], 100 + n, annotations=CONFIRM) for n in some))
        if ground.needs_removal_again:
            for n in some:
                ground.wait_for(refs[n])
            ground.remove(*(refs[n] for n in some))
        ground.wait_until_gone(*(refs[n] for n in some))
        assert {ground.ready(each)["reason"] for each in refs[some.stop :]} <= {"DeletionHeld"}
    if ground.needs_removal_again:  # else it went with its domain
        ground.remove(box("held"))
    ground.wait_until_gone(box("held"))


def test_a_paused_server_is_left_as_it_is(ground: Ground) -> None:
    paused = server()
    paused["metadata"]["annotations"] = {"mailpods.io/paused": "true"}
    ground.apply(mailbox("before"))
    ground.wait_for(box("before"))
    ground.apply(paused, mailbox("after"))
    ground.wait_for(box("after"), "Propagating")
    assert "7/before" in ground.accounts and "7/after" not in ground.accounts
    ground.apply(server())
    ground.wait_for(box("after"))


@pytest.fixture
def broken_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No keys for DKIM can be made."""

    def fail(now: object) -> dict[str, bytes]:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(provisioning, "make_dkim_keys", fail)
    monkeypatch.setattr(provisioning, "_BROKEN_SECONDS", 0.1)
    yield monkeypatch


def test_an_exception_for_one_object_stays_with_it(ground: Ground, broken_keys: pytest.MonkeyPatch) -> None:
    ground.apply(domain("broken.test", 70), mailbox("well"))
    ready = ground.wait_for(dom("broken-test"), "InternalError")
    assert "a secret" not in ready["message"]
    ground.wait_for(box("well"))
    assert ground.ready(dom("a-test"))["reason"] == "Serving"
    broken_keys.undo()
    ground.apply(domain("broken.test", 70, limits={"mailboxes": 5}))
    ground.wait_for(dom("broken-test"))


def test_a_secret_of_somebody_else_is_told_and_left_alone(ground: Ground) -> None:
    ground.remove_made("main-tls")
    ground.apply(secret("main-tls", **{"tls.crt": "mine", "tls.key": "mine"}))
    ground.wait_for(SERVER, "SecretForeign")
    assert ground.secret("main-tls")["tls.crt"] == b"mine"
    ground.remove(ref("Secret", "main-tls"))
    ground.wait_for(SERVER)
    assert b"CERTIFICATE" in ground.secret("main-tls")["tls.crt"]


def test_a_steady_state_writes_nothing(ground: Ground) -> None:
    ground.apply(mailbox("steady"))
    ground.wait_for(box("steady"))
    ground.settle()
    before = ground.writes()
    ground.look_again()
    assert ground.writes() == before


def test_a_restart_changes_nothing(ground: Ground) -> None:
    ground.apply(bare("stays"))
    ground.wait_for(box("stays"))
    hashes = ground.hashes
    ground.stop()
    ground.start()
    ground.wait_for(SERVER, seconds=60)
    ground.wait_for(box("stays"))
    assert ground.hashes == hashes


COMPONENTS = "ComponentsReady"


def test_what_is_down_now_the_server_says_and_mailboxes_stay_as_they_were(ground: Ground) -> None:
    ground.apply(mailbox("steady"))
    ground.wait_for(box("steady"))
    wait(lambda: ground.condition(SERVER, COMPONENTS)["reason"] == "PodsReady", 20)
    before = ground.status(box("steady"))
    with ground.down("store"):
        told = wait(lambda: _told(ground, "ShardDown", "out of memory"), 20)
        assert "store: 0 of 1 pods are ready; shard 0 is down; main-store-0: " in told["message"]
        components = {each["name"]: each for each in ground.status(SERVER)["components"]}
        assert components["store"] == {"name": "store", "wanted": 1, "ready": 0, "shardsDown": [0]}
        assert components["smtp"] == {"name": "smtp", "wanted": 1, "ready": 1}
        ground.wait_for(SERVER, "Propagating")
        ground.look_again()
        assert ground.status(box("steady")) == before
        ground.apply(mailbox("meanwhile"))
        assert "store pod is ready" in ground.wait_for(box("meanwhile"), "Propagating")["message"]
    with ground.frozen("store"):
        ground.look_again()
        assert ground.status(box("steady")) == before, "it comes again with the same files"
    ground.wait_for(SERVER)
    ground.wait_for(box("meanwhile"))
    wait(lambda: ground.condition(SERVER, COMPONENTS)["status"] == "True", 20)
    ground.wait_for(box("steady"))
    events = ground.events(SERVER)
    if events is not None:
        assert [e for e in events if e in ("ShardDown", "PodsReady")][-2:] == ["ShardDown", "PodsReady"]


def test_a_component_without_which_mail_goes_on_is_told_as_missing_pods(ground: Ground) -> None:
    wait(lambda: ground.condition(SERVER, COMPONENTS)["status"] == "True", 20)
    with ground.down("toy"):
        told = wait(lambda: _told(ground, "PodsMissing", "out of memory"), 20)
        assert told["message"].startswith("toy: 0 of ")
        assert ground.ready(SERVER)["reason"] == "Serving"
    wait(lambda: ground.condition(SERVER, COMPONENTS)["status"] == "True", 20)


def _told(ground: Ground, reason: str, words: str) -> Any:
    """The condition, once it says this."""
    told = ground.condition(SERVER, COMPONENTS)
    return told if told["reason"] == reason and words in told["message"] else None
