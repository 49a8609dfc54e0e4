"""Certificates with their keys, good ones and all sorts of bad ones."""

import datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from mail_operator.engine.secrets import make_ca, make_certificate

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
Pair = dict[str, bytes]


@cache
def _of(names: tuple[str, ...], at: datetime.datetime) -> tuple[bytes, bytes]:
    made = make_certificate(make_ca("test", at), names, at)
    return made.certificate, made.key


def good(*names: str, at: datetime.datetime = NOW) -> Pair:
    """For these names, for 90 days from `at`."""
    certificate, key = _of(names, at)
    return {"tls.crt": certificate, "tls.key": key}


def common_name_only(name: str, at: datetime.datetime = NOW) -> Pair:
    """As it was done before 2000."""
    key = serialization.load_pem_private_key(good(name, at=at)["tls.key"], None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())  # type: ignore[arg-type]
        .serial_number(1)
        .not_valid_before(at)
        .not_valid_after(at + datetime.timedelta(days=90))
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    return good(name, at=at) | {"tls.crt": made.public_bytes(serialization.Encoding.PEM)}


def bad(host: str, at: datetime.datetime = NOW) -> dict[str, tuple[str, Pair]]:
    """What it is -> the reason that says so, and the pair."""
    mine, long_ago = good(host, at=at), at - datetime.timedelta(days=91)
    return {
        "another key": ("CertificateMismatch", mine | {"tls.key": good("other.test", at=at)["tls.key"]}),
        "no PEM": ("CertificateInvalid", mine | {"tls.crt": b"hello"}),
        "cut": ("CertificateInvalid", mine | {"tls.crt": mine["tls.crt"][:200]}),
        "no key": ("CertificateInvalid", mine | {"tls.key": b""}),
        "ended": ("CertificateExpired", good(host, at=long_ago)),
        "other names": ("CertificateNames", good("imap.other.test", at=at)),
        "a common name": ("CertificateNames", common_name_only(host, at=at)),
        "a star of another level": ("CertificateNames", good(f"*.{host}", at=at)),
    }
