"""Renewed certificates serve new connections, and the old ones stay open, whoever made them."""

import base64
import json
import os
import shutil
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.cluster.installation import NAMESPACE, ClusterInstallation, fetched, kubectl
from tests.cluster.testcluster.binaries import CERT_MANAGER_KINDS
from tests.support.installation import manifest, wait


def certificate(installation: ClusterInstallation, service: str) -> x509.Certificate:
    """That of a new connection to a port with TLS from the first byte."""
    with (
        socket.create_connection(installation.address(service), 10) as plain,
        installation.tls().wrap_socket(plain) as secured,
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
    installation: ClusterInstallation,
) -> None:
    before = {service: certificate(installation, service) for service in ("submissions", "imaps", "pop3s")}
    running = pods()
    with (
        installation.imap("7/info", "pw-info") as reader,
        smtplib.SMTP_SSL(
            *installation.address("submissions"), context=installation.tls(), timeout=30
        ) as sender,
    ):
        sender.login("7/info", "pw-info")
        more = '{"spec":{"hostnames":["imap.a.test"]}}'
        kubectl("patch", "mailserver", "main", "-n", NAMESPACE, "--type=merge", "-p", more)
        for service, old in before.items():
            wait(
                lambda service=service: "imap.a.test" in names(certificate(installation, service)),  # type: ignore[misc]
                60,
                f"{service} serves the old certificate",
            )
            assert certificate(installation, service).serial_number != old.serial_number
        assert reader.noop()[0] == "OK"
        assert sender.noop()[0] == 250
        sender.sendmail("info@a.test", ["info@a.test"], "Subject: over the old connection\r\n\r\nx\r\n")
    assert pods() == running
    with installation.submission("7/info", "pw-info") as client:  # STARTTLS
        assert isinstance(client.sock, ssl.SSLSocket)
        der = client.sock.getpeercert(binary_form=True)
    assert der and "imap.a.test" in names(x509.load_der_x509_certificate(der))


@contextmanager
def cert_manager(folder: Path) -> Iterator[None]:
    """Its kinds and its controllers, which run beside the cluster; both are gone at the end."""
    program = shutil.which("certmanager")
    assert program
    files = sorted((Path(program).resolve().parent / CERT_MANAGER_KINDS).iterdir())
    # They are a chart's templates: what is between braces is of no importance here.
    kinds = "\n---\n".join(
        "\n".join(line for line in file.read_text().splitlines() if "{{" not in line) for file in files
    )
    kubectl("apply", "--server-side", "-f", "-", stdin=kinds)
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "-", stdin=kinds)
    with (folder / "cert-manager.log").open("wb") as log:
        process = subprocess.Popen(["certmanager"], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)
        kubectl("delete", "-f", "-", "--wait=false", stdin=kinds)


def secured(server: str, authority: str) -> tuple[ssl.SSLSocket, x509.Certificate]:
    """A connection to a server's port 465, whose certificate is verified, its name too."""
    address = fetched("Service", f"{server}-smtp")["spec"]["clusterIP"]
    context = ssl.create_default_context(cadata=authority)
    opened = context.wrap_socket(socket.create_connection((address, 465), 10), server_hostname="mx.b.test")
    der = opened.getpeercert(binary_form=True)
    assert der
    return opened, x509.load_der_x509_certificate(der)


@pytest.mark.skipif(
    "MAILPODS_NETNS" not in os.environ or not shutil.which("certmanager"),
    reason="cert-manager is run on the cluster of processes alone",
)
@pytest.mark.timeout(300)
def test_cert_manager_is_asked_waited_for_and_its_renewals_are_used(
    installation: ClusterInstallation, tmp_path: Path
) -> None:
    spec = {
        "hostname": "mx.b.test",
        "tls": {"issuerRef": {"name": "installation"}},
        "storage": {"size": "1Gi", "spoolSize": "1Gi"},
    }
    installation.apply("second", manifest("MailServer", "second", spec))
    ready = installation.wait_for("MailServer", "second", "False")
    assert ready["reason"] == "NotApplied" and "install cert-manager" in ready["message"]
    installation.wait_for("MailServer", "main")
    with cert_manager(tmp_path):
        wait(
            lambda: (
                installation.conditions("MailServer", "second")["Ready"]["reason"] == "CertificatePending"
            ),
            60,
        )
        authority = {
            "isCA": True,
            "commonName": "installation",
            "secretName": "installation-ca",
            "issuerRef": {"name": "self"},
        }
        for kind, name, made in (
            ("Issuer", "self", {"selfSigned": {}}),
            ("Certificate", "installation", authority),
            ("Issuer", "installation", {"ca": {"secretName": "installation-ca"}}),
        ):
            document = {**manifest(kind, name, made), "apiVersion": "cert-manager.io/v1"}
            kubectl("apply", "-f", "-", stdin=json.dumps(document))
        installation.wait_for("MailServer", "second", seconds=120)
        trusted = base64.b64decode(fetched("Secret", "second-certificate")["data"]["ca.crt"]).decode()
        opened, first = secured("second", trusted)
        with opened:
            running = pods()
            more = '{"spec":{"hostnames":["imap.b.test"]}}'
            kubectl("patch", "mailserver", "second", "-n", NAMESPACE, "--type=merge", "-p", more)

            def renewed(before: x509.Certificate) -> x509.Certificate | None:
                again, found = secured("second", trusted)
                again.close()
                return found if found.serial_number != before.serial_number else None

            second = wait(lambda: renewed(first), 60, "the new name is not in force")
            assert names(second) == {"mx.b.test", "imap.b.test"}
            kubectl("delete", "secret", "second-certificate", "-n", NAMESPACE)  # as one does to renew a key
            third = wait(lambda: renewed(second), 60, "the renewed certificate is not in force")
            assert third.public_key() != second.public_key()
            installation.wait_for("MailServer", "second", seconds=60)
            assert pods() == running
            assert opened.recv(100).startswith(b"220 mx.b.test")
            opened.sendall(b"NOOP\r\n")
            assert opened.recv(100).startswith(b"250")
        installation.apply("second", manifest("MailServer", "second", {**spec, "tls": None}))
        wait(lambda: not fetched("Certificate", "second"), 60, "the Certificate stays")
        installation.wait_for("MailServer", "second", seconds=120)  # by the own authority
    installation.remove("second")
    wait(lambda: not fetched("Pod", "second-smtp-0"), 60)
