"""What users send is signed with their domain's keys, as the records in its status say; nothing else is."""

import itertools
from collections.abc import Iterator

import dkim  # type: ignore[import-untyped]
import pytest

from tests.support.installation import Installation, domain, mailbox, manifest, message, server, wait
from tests.support.world import World, world

SINK = 111


@pytest.fixture(scope="module")
def outside(module_installation: Installation) -> Iterator[World]:
    with world(
        module_installation.net,
        "mx-host=sink.test,mx.sink.test,10",
        f"host-record=mx.sink.test,{{net}}.{SINK}",
        sinks=[SINK],
    ) as there:
        yield there


@pytest.fixture(scope="module")
def installation(module_installation: Installation, outside: World) -> Installation:
    made = module_installation
    made.apply(
        "server",
        server(),
        domain("a.test", 7, additionalNames=["a2.test"]),
        domain("b.test", 8, dkim={"enabled": False}),
        mailbox("info"),
        mailbox("anna", "b-test"),
    )
    # Or else what bears a foreign From is refused before anybody could think of signing it.
    auth = {"senderMustMatch": False}
    made.govern({"serverRef": {"name": "main"}, "auth": auth, "inbound": {"resolvers": [outside.resolver]}})
    made.start()
    made.wait_for("Mailbox", "info")
    made.wait_for("Mailbox", "anna")
    return made


def zone(installation: Installation, name: str) -> dict[bytes, bytes]:
    """The TXT records that a domain should have, once they are there."""

    def records() -> dict[bytes, bytes]:
        dns = installation.status("MailDomain", name).get("dns", {})
        return {
            r["name"].encode(): r["value"].replace('" "', "").strip('"').encode()
            for r in dns.get("records", ())
            if r["type"] == "TXT"
        }

    return wait(records)


def sent(installation: Installation, outside: World, login: str, sender: str, to: str) -> bytes:
    """A message as the world gets it."""
    with installation.submission(login, f"pw-{login.partition('/')[2]}") as client:
        client.send_message(message(sender, to), sender, [to])
    (envelope,) = wait(lambda: outside.sinks[SINK].to(to), 40)
    assert isinstance(envelope.content, bytes)
    return envelope.content


@pytest.mark.parametrize(("sender", "name"), [("info@a.test", b"a.test"), ("info@a2.test", b"a2.test")])
def test_mail_is_signed_for_the_domain_of_its_sender(
    installation: Installation, outside: World, sender: str, name: bytes
) -> None:
    records = zone(installation, "a-test")
    assert {key.split(b"._domainkey.")[1] for key in records} == {b"a.test.", b"a2.test."}
    installation.wait_for("MailDomain", "a-test")
    numbers = itertools.count()

    def signed_twice() -> bytes | None:  # the keys reach the pods after the domain did
        whole = sent(installation, outside, "7/info", sender, f"{name.decode()}{next(numbers)}@sink.test")
        return whole if whole.count(b"DKIM-Signature:") == 2 else None

    whole = wait(signed_twice)
    assert whole.count(b"d=" + name + b";") == 2
    assert all(dkim.DKIM(whole).verify(n, dnsfunc=lambda q, **_: records.get(q)) for n in (0, 1))


def test_a_domain_that_does_not_want_it_and_a_foreign_sender_are_not_signed(
    installation: Installation, outside: World
) -> None:
    assert b"DKIM-Signature" not in sent(installation, outside, "8/anna", "anna@b.test", "plain@sink.test")
    forged = message("anna@b.test", "forged@sink.test")
    del forged["From"]
    forged["From"] = "info@a.test"  # in the text alone, by a user of another domain
    with installation.submission("8/anna", "pw-anna") as client:
        client.send_message(forged, "anna@b.test", ["forged@sink.test"])
    (envelope,) = wait(lambda: outside.sinks[SINK].to("forged@sink.test"), 40)
    assert isinstance(envelope.content, bytes) and b"DKIM-Signature" not in envelope.content


def test_mail_from_outside_is_not_signed(installation: Installation, outside: World) -> None:
    installation.deliver("info@a.test", "info@a.test", "spoofed")
    (text,) = installation.wait_for_mail("7/info", "pw-info", 1)
    assert b"DKIM-Signature" not in text


def test_what_an_alias_sends_on_is_sealed_with_what_was_found(
    installation: Installation, outside: World
) -> None:
    spec = {"domainRef": {"name": "a-test"}, "localPart": "out", "targets": [{"address": "far@sink.test"}]}
    installation.apply("out", manifest("MailAlias", "out", spec))
    installation.wait_for("MailAlias", "out")
    installation.deliver("x@example.net", "out@a.test", "pass this on")
    (envelope,) = wait(lambda: outside.sinks[SINK].to("far@sink.test"), 40)
    whole, records = envelope.content, zone(installation, "a-test")
    assert isinstance(whole, bytes) and b"i=1; mail.a.test;" in whole and b"dkim=none" in whole
    state, results, _ = dkim.arc_verify(whole, dnsfunc=lambda q, **_: records.get(q))
    assert state == b"pass" and results[0]["as-domain"] == b"a.test"
    assert (envelope.mail_from or "").startswith("SRS0=") and (envelope.mail_from or "").endswith("@a.test")
    installation.deliver("x@example.net", "info@a.test", "stay here")
    (stays,) = (m for m in installation.wait_for_mail("7/info", "pw-info", 2, 20) if b"stay here" in m)
    assert b"ARC-Seal" not in stays
