"""TLS with other servers: whom to trust, and what reports call its failures."""

import ssl
from functools import cache
from typing import Any, Literal, NamedTuple


class TlsSession(NamedTuple):
    """An attempt to talk to another server by TLS, in the words of RFC 8460 §4.3 and §4.4."""

    policy: Literal["tlsa", "sts", "no-policy-found"]
    host: str
    result: str  # type of the failure, "" for success


def result(error: Exception) -> str:
    """What reports call it (RFC 8460 §4.3.1)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _RESULTS.get(error.verify_code, "certificate-not-trusted")
    return "validation-failure"


# By OpenSSL's codes: X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_HOSTNAME_MISMATCH.
_RESULTS = {10: "certificate-expired", 62: "certificate-host-mismatch"}


@cache  # it reads all authorities of the system: some 20 ms
def context(verified: bool) -> ssl.SSLContext:
    """`verified`: by the system's authorities and the server's name."""
    made = ssl.create_default_context()
    if not verified:
        # Opportunistic TLS (RFC 7435): better than none, without a name to verify. DANE does that itself.
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def shown(connection: Any) -> list[bytes]:
    """The certificates that the other side of an ssl.SSLObject showed, in DER, its own first."""
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return list(connection.get_unverified_chain())
    chain = connection._sslobj.get_unverified_chain() or ()  # what that method is made of, since 3.10
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in chain]
