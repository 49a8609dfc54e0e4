"""DANE for SMTP (RFC 7672): mail servers whose certificates are named by their own signed zones."""

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from mailpods.dns.records import CERTIFICATE, END_ENTITY, TRUST_ANCHOR, Tlsa


def holds(records: Sequence[Tlsa], chain: Sequence[bytes], host: str) -> bool:
    """Whether a server proved to be `host`. `chain`: the certificates that it showed, in DER, its own first.

    A record of its own certificate is proof whatever that says of names and times (§3.1.1).
    """
    own, *others = chain
    for record in records:
        if record.usage == END_ENTITY and record.names(own):
            return True
        if record.usage == TRUST_ANCHOR:
            given = [record.data] if (record.selector, record.matching) == (CERTIFICATE, 0) else []
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
