"""DANE for SMTP (RFC 7672): mail servers whose certificates are named by their own signed zones."""

import datetime
import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

TRUST_ANCHOR, END_ENTITY = 2, 3  # usages DANE-TA and DANE-EE; the others mean nothing here (§3.1.3)
_CERTIFICATE, _PUBLIC_KEY = 0, 1
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}


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
        known = self.matching in (0, *_DIGESTS) and self.selector in (_CERTIFICATE, _PUBLIC_KEY)
        return known and self.usage in (TRUST_ANCHOR, END_ENTITY)

    def names(self, certificate: bytes) -> bool:
        """Whether it is about this certificate, in DER."""
        try:
            chosen = certificate if self.selector == _CERTIFICATE else _public_key(certificate)
        except ValueError:
            return False
        digest = _DIGESTS.get(self.matching)
        return self.data == (digest(chosen).digest() if digest else chosen)


def _public_key(certificate: bytes) -> bytes:
    key = x509.load_der_x509_certificate(certificate).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def holds(records: Sequence[Tlsa], chain: Sequence[bytes], host: str) -> bool:
    """Whether a server proved to be `host`. `chain`: the certificates that it showed, in DER, its own first.

    A record of its own certificate is proof whatever that says of names and times (§3.1.1).
    """
    own, *others = chain
    for record in records:
        if record.usage == END_ENTITY and record.names(own):
            return True
        if record.usage == TRUST_ANCHOR:
            given = [record.data] if (record.selector, record.matching) == (_CERTIFICATE, 0) else []
            anchors = [each for each in (*others, *given) if record.names(each)]
            if any(_is_issued(own, others, anchor, host) for anchor in anchors):
                return True
    return False


def _is_issued(own: bytes, others: Sequence[bytes], anchor: bytes, host: str) -> bool:
    """Whether a certificate of this name goes back to the anchor (§3.1.2)."""
    try:
        leaf, *between = (x509.load_der_x509_certificate(each) for each in (own, *others))
        policy = PolicyBuilder().store(Store([x509.load_der_x509_certificate(anchor)]))
        verifier = policy.time(datetime.datetime.now(datetime.UTC)).build_server_verifier(x509.DNSName(host))
        verifier.verify(leaf, between)
    except (ValueError, VerificationError):
        return False
    return True


def shown(connection: Any) -> list[bytes]:
    """The certificates that the other side of an ssl.SSLObject showed, in DER, its own first."""
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return list(connection.get_unverified_chain())
    chain = connection._sslobj.get_unverified_chain() or ()  # what that method is made of, since 3.10
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in chain]
