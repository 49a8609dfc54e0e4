"""Where a MailServer's certificate comes from: cert-manager, a Secret, or else an own authority."""

import datetime
from dataclasses import replace
from typing import Any

import pytest
from mail_operator.compiler.compiling import compile
from mail_operator.compiler.snapshot import Question

from tests.support.compiling import SERVER, Compiled, domain, server, snapshot
from tests.support.pairs import NOW, bad, good

GIVEN = good("mail.a.test")
BAD = bad("mail.a.test")


def made(found: Compiled) -> list[tuple[str, tuple[str, ...]]]:
    """The certificates that are asked of the own authority."""
    return [(secret.name, secret.hosts) for secret in found.plan.secrets if secret.kind == "tls"]


def asked(found: Compiled) -> list[Any]:
    """Those that are asked of cert-manager."""
    return [each for each in found.plan.objects if each["kind"] == "Certificate"]


def mounted(found: Compiled) -> set[str]:
    """The Secrets that the pods' certificates are read from."""
    pods = [each["spec"]["template"]["spec"] for each in found.plan.objects if each["kind"] == "StatefulSet"]
    return {v["secret"]["secretName"] for pod in pods for v in pod["volumes"] if v["name"] == "tls"}


def test_an_own_authority_is_the_default() -> None:
    found = Compiled(server(hostnames=["imap.a.test"]))
    assert made(found) == [("main-tls", ("mail.a.test", "imap.a.test"))]
    assert not asked(found) and mounted(found) == {"main-tls"}


def test_cert_manager_is_asked_and_waited_for() -> None:
    one = server(hostnames=["imap.a.test", "mail.a.test"], tls={"issuerRef": {"name": "letsencrypt"}})
    found = Compiled(one)
    assert not made(found) and mounted(found) == {"main-certificate"}
    (certificate,) = asked(found)
    assert (certificate["metadata"]["namespace"], certificate["metadata"]["name"]) == ("default", "main")
    assert certificate["spec"]["dnsNames"] == ["mail.a.test", "imap.a.test"]
    assert certificate["spec"]["secretName"] == "main-certificate"
    expected = {"name": "letsencrypt", "kind": "Issuer", "group": "cert-manager.io"}
    assert certificate["spec"]["issuerRef"] == expected
    assert found.ready(one)[:2] == ("False", "CertificatePending")

    there = Compiled(one, secrets={("default", "main-certificate"): GIVEN})
    assert there.ready(one)[0] == "True"


def test_its_secret_may_have_a_name_of_ones_own() -> None:
    one = server(tls={"issuerRef": {"name": "corp", "kind": "ClusterIssuer"}, "secretName": "mail-cert"})
    found = Compiled(one, secrets={("default", "mail-cert"): GIVEN})
    assert mounted(found) == {"mail-cert"}
    assert asked(found)[0]["spec"]["secretName"] == "mail-cert"
    assert found.plan.statuses[SERVER]["conditions"][0]["status"] == "True"


def test_a_given_secret_is_waited_for() -> None:
    one = server(tls={"secretName": "mail-cert"})
    found = Compiled(one)
    assert not made(found) and not asked(found)
    assert found.ready(one)[:2] == ("False", "SecretMissing")


def test_names_of_domains_join_it_and_those_of_others_do_not() -> None:
    own = domain(hostnames=["imap.a.test", "smtp.a.test"])
    found = Compiled(server(), own)
    assert made(found) == [("main-tls", ("mail.a.test", "imap.a.test", "smtp.a.test"))]
    assert found.ready(own)[0] == "True"
    foreign = domain(hostnames=["imap.a.test", "imap.b.test"])
    found = Compiled(server(), foreign, domain("b.test"))
    assert made(found) == [("main-tls", ("mail.a.test",))]
    status, reason, why = found.ready(foreign)
    assert (status, reason) == ("False", "HostnameForeign")
    assert "spec.hostnames[1]: imap.b.test is not below a.test" in why
    assert (found.condition(foreign, "Accepting") or {})["status"] == "True"
    # Nor by calling somebody else's domain one of one's own.
    greedy = domain("c.test", additionalNames=["a.test"], hostnames=["imap.a.test"])
    assert made(Compiled(server(), domain(), greedy)) == [("main-tls", ("mail.a.test",))]


def test_an_issuer_is_asked_for_names_that_dns_leads_here_alone() -> None:
    own = domain(hostnames=["imap.a.test", "smtp.a.test", "pop3.a.test"])
    answers = {
        Question("imap.a.test", "CNAME"): ("mail.a.test",),
        Question("smtp.a.test", "CNAME"): ("elsewhere.test",),
    }
    found = Compiled(server(tls={"issuerRef": {"name": "letsencrypt"}}), own, answers=answers)
    assert asked(found)[0]["spec"]["dnsNames"] == ["mail.a.test", "imap.a.test"]
    assert Question("pop3.a.test", "CNAME") in found.plan.questions


@pytest.mark.parametrize(("room", "state"), [(98, "True"), (99, "False")])
def test_a_certificate_has_room_for_a_hundred_names(room: int, state: str) -> None:
    # The server's own, then ten of each domain.
    older = [domain(f"d{n}.test", hostnames=[f"h{m}.d{n}.test" for m in range(10)]) for n in range(9)]
    older.append(domain("d9.test", hostnames=[f"h{m}.d9.test" for m in range(room - 91)]))
    last = domain(hostnames=["imap.a.test", "smtp.a.test"])
    found = Compiled(server(), *older, last)
    status, reason, _ = found.ready(last)
    assert (status, reason) == (state, "Serving" if state == "True" else "HostnamesFull")
    assert len(made(found)[0][1]) == (100 if state == "True" else 99)


@pytest.mark.parametrize("what", BAD)
def test_a_pair_that_clients_would_not_take_is_told(what: str) -> None:
    reason, pair = BAD[what]
    one = server(tls={"secretName": "mail-cert"})
    found = Compiled(one, domain(), secrets={("default", "mail-cert"): pair}, now=NOW)
    status, why, message = found.ready(one)
    assert (status, why) == ("False", reason) and "Secret default/mail-cert" in message
    assert found.condition(one, "Accepting") and found.ready(domain())[0] == "True"


def test_a_certificate_ends_without_any_edit() -> None:
    one = server(tls={"secretName": "mail-cert"})
    given = {("default", "mail-cert"): GIVEN}
    before = snapshot(one, secrets=given, now=NOW)
    plan = compile(before)
    assert plan.statuses[one.ref]["conditions"][0]["status"] == "True"
    later = compile(replace(before, now=NOW + datetime.timedelta(days=90)), plan)
    assert later.statuses[one.ref]["conditions"][0]["reason"] == "CertificateExpired"
