"""What answers are made of: mail servers, and the certificates that a signed zone names."""

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TRUST_ANCHOR, END_ENTITY = 2, 3  # usages DANE-TA and DANE-EE; the others mean nothing here (RFC 7672 §3.1.3)
CERTIFICATE, PUBLIC_KEY = 0, 1  # selectors
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}


@dataclass(frozen=True, slots=True)
class MailHost:
    """A mail server of a domain. Lower preferences are tried first."""

    preference: int
    name: str  # without the final dot; "" is the null MX (RFC 7505)


@dataclass(frozen=True, slots=True)
class Tlsa:
    """A TLSA record (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def is_usable(self) -> bool:
        """Whether a certificate can be held against it."""
        known = self.matching in (0, *_DIGESTS) and self.selector in (CERTIFICATE, PUBLIC_KEY)
        return known and self.usage in (TRUST_ANCHOR, END_ENTITY)

    def names(self, certificate: bytes) -> bool:
        """Whether it is about this certificate, in DER."""
        try:
            chosen = certificate if self.selector == CERTIFICATE else _public_key(certificate)
        except ValueError:
            return False
        digest = _DIGESTS.get(self.matching)
        return self.data == (digest(chosen).digest() if digest else chosen)


def _public_key(certificate: bytes) -> bytes:
    key = x509.load_der_x509_certificate(certificate).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
