"""Under which names the world reaches the server: one for all of it, and names of each domain's own."""

import socket
import ssl

import pytest

from tests.support.installation import Installation, domain, mailbox, server, wait

SERVICES = ("imap", "imaps", "pop3", "pop3s", "smtp", "submission", "submissions")
WITH_TLS = ("imaps", "pop3s", "submissions")


@pytest.fixture(scope="module")
def installation(module_installation: Installation) -> Installation:
    made = module_installation
    own = ["imap.a.test", "pop3.a.test", "smtp.a.test"]
    made.apply(
        "server",
        server(hostnames=["ssl.provider.test", "out.provider.test"]),
        domain("a.test", 7, hostnames=own),
        domain("b.test", 8),
        mailbox("info"),
        mailbox("anna", "b-test"),
    )
    made.start()
    for name in ("info", "anna"):
        made.wait_for("Mailbox", name)
    made.wait_for("MailDomain", "a-test")
    return made


def greets(installation: Installation, service: str, name: str) -> bool:
    """Whether a service of this name proves to have it, and greets."""
    context = installation.tls()
    context.check_hostname = True
    try:
        with (
            socket.create_connection(installation.address(service), 10) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            return bool(secure.recv(3))
    except ssl.SSLCertVerificationError:
        return False


@pytest.mark.req("R-002-19")
def test_one_host_name_leads_to_all_ports(installation: Installation) -> None:
    endpoints = installation.status("MailDomain", "a-test")["endpoints"]
    assert {endpoints[service].rpartition(":")[0] for service in SERVICES} == {"mail.a.test"}
    ports = [int(endpoints[service].rpartition(":")[2]) for service in SERVICES]
    assert ports == [143, 993, 110, 995, 25, 587, 465]
    for service in SERVICES:
        if service in WITH_TLS:
            assert greets(installation, service, "mail.a.test")
        else:
            with socket.create_connection(installation.address(service), 10) as client:
                assert client.recv(3)


@pytest.mark.req("R-001-32")
def test_a_domain_has_names_of_its_own_for_each_protocol(installation: Installation) -> None:
    for service, name in zip(WITH_TLS, ("imap.a.test", "pop3.a.test", "smtp.a.test"), strict=True):
        wait(lambda s=service, n=name: greets(installation, s, n), 60, f"{name} is not in the certificate")  # type: ignore[misc]
    records = installation.status("MailDomain", "a-test")["dns"]["records"]
    aliases = {each["name"]: each["value"] for each in records if each["type"] == "CNAME"}
    assert aliases == {f"{name}.a.test.": "mail.a.test." for name in ("imap", "pop3", "smtp")}
    assert not greets(installation, "imaps", "imap.b.test")


@pytest.mark.req("R-001-33", "R-001-34")
def test_there_is_one_name_for_encrypted_reading_and_one_for_sending_for_everybody(
    installation: Installation,
) -> None:
    for service in ("imaps", "pop3s"):
        assert greets(installation, service, "ssl.provider.test")
    assert greets(installation, "submissions", "out.provider.test")
    for login, name in (("7/info", "info"), ("8/anna", "anna")):
        with installation.imap(login, f"pw-{name}") as client:
            assert client.noop()[0] == "OK"
        with installation.submission(login, f"pw-{name}") as sender:
            assert sender.noop()[0] == 250
