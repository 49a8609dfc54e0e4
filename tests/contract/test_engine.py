"""What the engine promises on every runtime."""

from collections.abc import Iterator
from typing import Any

import pytest
from mail_operator.engine import provisioning
from mail_operator.kinds.meta import ObjectRef

from tests.contract.harnesses import SERVER, RuntimeHarness
from tests.support.installation import domain, mailbox, manifest, secret, server, wait

CONFIRM = {"mailpods.io/confirm-removal": "mail"}


def ref(kind: str, name: str) -> ObjectRef:
    """An object of the tests' namespace."""
    return ObjectRef(kind, "t", name)


def box(name: str) -> ObjectRef:
    return ref("Mailbox", name)


def dom(name: str) -> ObjectRef:
    return ref("MailDomain", name)


def deletable(name: str, number: int | None = None, **meta: Any) -> dict[str, Any]:
    """A domain whose mail goes with it."""
    made = domain(name, number, deletionPolicy="Delete")
    made["metadata"].update(meta)
    return made


def bare(name: str, of: str = "a-test") -> dict[str, Any]:
    """A mailbox whose password is made for it."""
    return manifest("Mailbox", name, {"domainRef": {"name": of}})


def test_an_account_is_ready_once_every_pod_acknowledged_it_and_not_before(harness: RuntimeHarness) -> None:
    with harness.frozen():
        harness.apply(mailbox("slow"))
        harness.wait_for(box("slow"), "Propagating")
        assert "7/slow" in harness.accounts
    harness.wait_for(box("slow"))
    harness.remove(box("slow"))
    wait(lambda: "7/slow" not in harness.accounts)
    assert not harness.status(box("slow"))


def test_a_component_that_is_only_declared_is_waited_for_like_the_others(harness: RuntimeHarness) -> None:
    with harness.frozen("toy"):
        harness.apply(mailbox("toyed"))
        harness.wait_for(box("toyed"), "Propagating")
        wait(lambda: "7/toyed" in harness.accounts)
        harness.settle()
        assert harness.ready(box("toyed"))["reason"] == "Propagating"
    harness.wait_for(box("toyed"))
    harness.remove(box("toyed"))
    wait(lambda: "7/toyed" not in harness.accounts)


def test_what_nobody_gave_is_made(harness: RuntimeHarness) -> None:
    harness.apply(bare("given"))
    harness.wait_for(box("given"))
    assert len(harness.secret("given-password")["password"]) == 24
    assert (harness.hashes["7/given"] or "").startswith("{ARGON2ID}")
    assert harness.secret("main-key")["key"]
    assert b"CERTIFICATE" in harness.secret("main-tls")["tls.crt"]
    assert {name[0] for name in harness.secret("a-test-dkim")} >= {"r", "e"}


def test_a_password_changes_and_what_cannot_be_used_keeps_the_one_of_before(harness: RuntimeHarness) -> None:
    harness.apply(mailbox("changes"))
    harness.wait_for(box("changes"))
    first = harness.hashes["7/changes"]
    harness.apply(secret("changes-pw", password="another"))
    wait(lambda: harness.hashes["7/changes"] != first)
    harness.wait_for(box("changes"))
    second = harness.hashes["7/changes"]
    harness.apply(secret("changes-pw", password=""))
    harness.wait_for(box("changes"), "Empty")
    assert harness.hashes["7/changes"] == second


def test_a_number_that_was_given_out_stays(harness: RuntimeHarness) -> None:
    harness.apply(domain("numbered.test"))
    harness.wait_for(dom("numbered-test"))
    number = harness.status(dom("numbered-test"))["number"]
    assert harness.spec(dom("numbered-test"))["number"] == number


def test_a_domain_deleted_by_name_goes_with_its_mail(harness: RuntimeHarness) -> None:
    harness.apply(deletable("ends.test", 60), bare("last", "ends-test"))
    harness.wait_for(box("last"))
    with harness.frozen():
        harness.remove(dom("ends-test"), box("last"))
        ready = harness.wait_for(dom("ends-test"), "Deleting")
        assert "wiping" in ready["message"] or "waits" in ready["message"]
        wait(lambda: harness.wiped == [60])
    harness.wait_until_gone(dom("ends-test"))
    wait(lambda: harness.wiped == [])


def test_very_many_domains_that_vanish_at_once_wait_and_say_so(harness: RuntimeHarness) -> None:
    names = [f"many{n}.test" for n in range(29)]
    refs = [dom(name.replace(".", "-")) for name in names]
    harness.apply(*(deletable(name, 100 + n) for n, name in enumerate(names)), bare("held", "many0-test"))
    for each in refs:
        harness.wait_for(each, seconds=60)
    harness.remove(*refs)
    for each in refs:
        assert "mailpods.io/confirm-removal=mail" in harness.wait_for(each, "DeletionHeld")["message"]
    assert harness.wait_for(box("held"), "DomainDeleting")["status"] == "False"
    assert harness.wiped == []
    # Some that are confirmed, so many that the rest are few, take no other along.
    for some in (range(25), range(25, 29)):
        harness.apply(*(deletable(names[n], 100 + n, annotations=CONFIRM) for n in some))
        if harness.needs_removal_again:
            for n in some:
                harness.wait_for(refs[n])
            harness.remove(*(refs[n] for n in some))
        harness.wait_until_gone(*(refs[n] for n in some))
        assert {harness.ready(each)["reason"] for each in refs[some.stop :]} <= {"DeletionHeld"}
    if harness.needs_removal_again:  # else it went with its domain
        harness.remove(box("held"))
    harness.wait_until_gone(box("held"))


def test_a_paused_server_is_left_as_it_is(harness: RuntimeHarness) -> None:
    paused = server()
    paused["metadata"]["annotations"] = {"mailpods.io/paused": "true"}
    harness.apply(mailbox("before"))
    harness.wait_for(box("before"))
    harness.apply(paused, mailbox("after"))
    harness.wait_for(box("after"), "Propagating")
    assert "7/before" in harness.accounts and "7/after" not in harness.accounts
    harness.apply(server())
    harness.wait_for(box("after"))


@pytest.fixture
def broken_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No keys for DKIM can be made."""

    def fail(now: object) -> dict[str, bytes]:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(provisioning, "make_dkim_keys", fail)
    monkeypatch.setattr(provisioning, "_BROKEN_SECONDS", 0.1)
    yield monkeypatch


def test_an_exception_for_one_object_stays_with_it(
    harness: RuntimeHarness, broken_keys: pytest.MonkeyPatch
) -> None:
    harness.apply(domain("broken.test", 70), mailbox("well"))
    ready = harness.wait_for(dom("broken-test"), "InternalError")
    assert "a secret" not in ready["message"]
    harness.wait_for(box("well"))
    assert harness.ready(dom("a-test"))["reason"] == "Serving"
    broken_keys.undo()
    harness.apply(domain("broken.test", 70, limits={"mailboxes": 5}))
    harness.wait_for(dom("broken-test"))


def test_a_secret_of_somebody_else_is_told_and_left_alone(harness: RuntimeHarness) -> None:
    harness.remove_made("main-tls")
    harness.apply(secret("main-tls", **{"tls.crt": "mine", "tls.key": "mine"}))
    harness.wait_for(SERVER, "SecretForeign")
    assert harness.secret("main-tls")["tls.crt"] == b"mine"
    harness.remove(ref("Secret", "main-tls"))
    harness.wait_for(SERVER)
    assert b"CERTIFICATE" in harness.secret("main-tls")["tls.crt"]


def test_a_steady_state_writes_nothing(harness: RuntimeHarness) -> None:
    harness.apply(mailbox("steady"))
    harness.wait_for(box("steady"))
    harness.settle()
    before = harness.writes()
    harness.look_again()
    assert harness.writes() == before


def test_a_restart_changes_nothing(harness: RuntimeHarness) -> None:
    harness.apply(bare("stays"))
    harness.wait_for(box("stays"))
    hashes = harness.hashes
    harness.stop()
    harness.start()
    harness.wait_for(SERVER, seconds=60)
    harness.wait_for(box("stays"))
    assert harness.hashes == hashes


COMPONENTS = "ComponentsReady"


def test_what_is_down_now_the_server_says_and_mailboxes_stay_as_they_were(harness: RuntimeHarness) -> None:
    harness.apply(mailbox("quiet"))  # in another file than the one that comes meanwhile
    harness.wait_for(box("quiet"))
    wait(lambda: harness.condition(SERVER, COMPONENTS)["reason"] == "PodsReady", 20)
    before = harness.status(box("quiet"))
    with harness.down("store"):
        told = wait(lambda: _told(harness, "ShardDown", "out of memory"), 20)
        assert "store: 0 of 1 pods are ready; shard 0 is down; main-store-0: " in told["message"]
        components = {each["name"]: each for each in harness.status(SERVER)["components"]}
        assert components["store"] == {"name": "store", "wanted": 1, "ready": 0, "shardsDown": [0]}
        assert components["smtp"] == {"name": "smtp", "wanted": 1, "ready": 1}
        harness.wait_for(SERVER, "Propagating")
        harness.look_again()
        assert harness.status(box("quiet")) == before
        harness.apply(mailbox("meanwhile"))
        assert "store pod is ready" in harness.wait_for(box("meanwhile"), "Propagating")["message"]
    with harness.frozen("store"):
        harness.look_again()
        assert harness.status(box("quiet")) == before, "it comes again with the same files"
    harness.wait_for(SERVER)
    harness.wait_for(box("meanwhile"))
    wait(lambda: harness.condition(SERVER, COMPONENTS)["status"] == "True", 20)
    harness.wait_for(box("quiet"))
    events = harness.events(SERVER)
    if events is not None:
        assert [e for e in events if e in ("ShardDown", "PodsReady")][-2:] == ["ShardDown", "PodsReady"]


def test_a_component_without_which_mail_goes_on_is_told_as_missing_pods(harness: RuntimeHarness) -> None:
    wait(lambda: harness.condition(SERVER, COMPONENTS)["status"] == "True", 20)
    with harness.down("toy"):
        # They go one by one, and their last words are known a moment later.
        for words in ("toy: 0 of ", "out of memory"):
            wait(lambda words=words: _told(harness, "PodsMissing", words), 20)  # type: ignore[misc]
        assert harness.ready(SERVER)["reason"] == "Serving"
    wait(lambda: harness.condition(SERVER, COMPONENTS)["status"] == "True", 20)


def _told(harness: RuntimeHarness, reason: str, words: str) -> Any:
    """The condition, once it says this."""
    told = harness.condition(SERVER, COMPONENTS)
    return told if told["reason"] == reason and words in told["message"] else None
