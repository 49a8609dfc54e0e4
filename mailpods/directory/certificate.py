"""Whether a certificate (PEM, the leaf first) and its key can be used under a host name, and if not, why.

Both planes ask: the control plane to say so, mail pods to go on with the pair before.
"""

import datetime
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

Reason = Literal["CertificateInvalid", "CertificateMismatch", "CertificateExpired", "CertificateNames"]
UNUSABLE: tuple[Reason, ...] = ("CertificateInvalid", "CertificateMismatch")  # nobody can serve with such


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong; `text` follows a "The certificate of …" and never holds a value of the key."""

    reason: Reason
    text: str


def problem(
    certificate: bytes, key: bytes, host: str | None, now: datetime.datetime | None
) -> Problem | None:
    """The first problem of a pair; host or time are not looked at where they are None. Never raises."""
    try:
        chain = x509.load_pem_x509_certificates(certificate)
        leaf, public = chain[0], chain[0].public_key()
    except (ValueError, IndexError, UnsupportedAlgorithm, x509.InvalidVersion):
        return Problem("CertificateInvalid", "tls.crt is no certificate in PEM")
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return Problem("CertificateInvalid", "tls.key is no private key in PEM, or it wants a password")
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != public.public_bytes(*form):
        return Problem("CertificateMismatch", "tls.key does not belong to the first certificate of tls.crt")
    if now and leaf.not_valid_after_utc <= now:
        return Problem("CertificateExpired", f"it ended on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    names = held(leaf)
    if host and not any(_covers(name, host) for name in names):
        said = ", ".join(sorted(names)[:5]) or "no name but a common name, which clients do not look at"
        return Problem("CertificateNames", f"it is not for {host}: it holds {said}")
    return None


def held(leaf: x509.Certificate) -> set[str]:
    """The names and addresses it is for (RFC 6125 §6.4: those of subjectAltName alone). Never raises."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return set()
    return {str(name.value).lower() for name in found if isinstance(name, x509.DNSName | x509.IPAddress)}


def _covers(name: str, host: str) -> bool:
    """A star stands for the first label, whole and alone (RFC 6125 §6.4.3)."""
    return name == host or (name.startswith("*.") and name[2:] == host.partition(".")[2])
