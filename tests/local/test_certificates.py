"""Certificates on one machine."""

import ssl

from cryptography import x509

from tests.support.installation import EmbeddedInstallation, domain, mailbox, server


def test_the_own_authority_stands_in_for_cert_manager(module_installation: EmbeddedInstallation) -> None:
    installation = module_installation
    issuer = {"issuerRef": {"name": "letsencrypt", "kind": "ClusterIssuer"}}
    installation.apply(
        "server", server(hostnames=["imap.a.test"], tls=issuer), domain("a.test", 7), mailbox("info")
    )
    installation.start()
    installation.wait_for("MailServer", "main")
    installation.wait_for("Mailbox", "info")
    with installation.submission("7/info", "pw-info") as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        der = client.sock.getpeercert(binary_form=True)
    assert der
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert set(names.value.get_values_for_type(x509.DNSName)) == {"mail.a.test", "imap.a.test"}
