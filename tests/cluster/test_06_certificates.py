"""Renewed certificates serve new connections, and the old ones stay open."""

import json
import smtplib
import socket
import ssl
from typing import Any

from cryptography import x509

from tests.cluster.house import NAMESPACE, ClusterHouse, kubectl
from tests.support.installation import wait


def certificate(house: ClusterHouse, service: str) -> x509.Certificate:
    """That of a new connection to a port with TLS from the first byte."""
    with (
        socket.create_connection(house.address(service), 10) as plain,
        house.tls().wrap_socket(plain) as secured,
    ):
        der = secured.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der)


def names(found: x509.Certificate) -> set[str]:
    """The hosts it names."""
    extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(extension.value.get_values_for_type(x509.DNSName))


def pods() -> dict[str, tuple[str, int]]:
    """Mail pod -> its uid, and how often its containers were started anew."""
    found: list[dict[str, Any]] = json.loads(kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            sum(c["restartCount"] for c in pod["status"]["containerStatuses"]),
        )
        for pod in found
    }


def test_a_new_certificate_is_used_without_a_restart_and_without_dropping_anybody(
    house: ClusterHouse,
) -> None:
    before = {service: certificate(house, service) for service in ("submissions", "imaps", "pop3s")}
    running = pods()
    with (
        house.imap("7/info", "pw-info") as reader,
        smtplib.SMTP_SSL(*house.address("submissions"), context=house.tls(), timeout=30) as sender,
    ):
        sender.login("7/info", "pw-info")
        more = '{"spec":{"hostnames":["imap.a.test"]}}'
        kubectl("patch", "mailserver", "main", "-n", NAMESPACE, "--type=merge", "-p", more)
        for service, old in before.items():
            wait(
                lambda service=service: "imap.a.test" in names(certificate(house, service)),  # type: ignore[misc]
                60,
                f"{service} serves the old certificate",
            )
            assert certificate(house, service).serial_number != old.serial_number
        assert reader.noop()[0] == "OK"
        assert sender.noop()[0] == 250
        sender.sendmail("info@a.test", ["info@a.test"], "Subject: over the old connection\r\n\r\nx\r\n")
    assert pods() == running
    with house.submission("7/info", "pw-info") as client:  # STARTTLS
        assert isinstance(client.sock, ssl.SSLSocket)
        der = client.sock.getpeercert(binary_form=True)
    assert der and "imap.a.test" in names(x509.load_der_x509_certificate(der))
