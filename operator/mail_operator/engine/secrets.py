"""Makes what nobody should have to make by hand: password hashes, passwords, and certificates.

Used by whoever does I/O for compile(), which itself stays pure.
"""

import datetime
import hashlib
import ipaddress
import re
import secrets
import string
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import argon2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mail_operator.compiler.snapshot import PasswordHash, SecretProblem
from mail_operator.kinds.values import PASSWORD_HASH
from mailpods.directory.certificate import held

# OWASP's second ARGON2ID profile: about 30 ms and 19 MiB a check, so that ten logins at once neither keep
# Dovecot's one verifying process busy for seconds nor fill its memory.
_HASHER = argon2.PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)

CA_DAYS = 3650
CERTIFICATE_DAYS = 90
RENEW_DAYS = 30  # before the end


def hash_password(password: str, origin: str = "") -> str:
    """The password as a hash in a scheme that Dovecot knows.

    `origin` names where it comes from, and no other password ever did: two operators at once must come to the
    same hash, or each puts back what the other writes. A salt has to be unique, not secret.
    """
    salt = hashlib.sha256(origin.encode()).digest()[:16] if origin else None
    return "{ARGON2ID}" + _HASHER.hash(password, salt=salt)


def password_in(name: str, values: Mapping[str, bytes]) -> str | PasswordHash | SecretProblem:
    """The password that a Secret holds, or the hash that it holds instead, or why neither.

    A password is what a user could type, and every service takes (RFC 8265 §4.1, which has it of a
    FreeformClass string: RFC 8264 §4.3).
    """
    key = "hash" if values.get("hash") else "password"
    try:
        text = values[key].decode()
    except KeyError:
        return SecretProblem("KeyMissing", f"Secret {name} has no key password or hash: add one.")
    except UnicodeDecodeError:
        return SecretProblem("NotText", f"Secret {name} is not UTF-8 text: write a password.")
    if key == "hash":
        text = text.strip()
    if not text:
        return SecretProblem("Empty", f"Secret {name} holds an empty password: write one.")
    if len(text.encode()) > MAX_PASSWORD:
        message = f"Secret {name}: key {key} is longer than {MAX_PASSWORD} bytes: write a shorter one."
        return SecretProblem("TooLong", message)
    if text[:-1].isprintable() and text.endswith("\n"):
        message = f"Secret {name}: key {key} ends with a line break: write it without one (printf, echo -n)."
        return SecretProblem("NotTypeable", message)
    if unfit := next((c for c in text if not _is_typeable(c)), None):
        message = (
            f"Secret {name}: key {key} holds U+{ord(unfit):04X}, which nobody can type: write it without."
        )
        return SecretProblem("NotTypeable", message)
    return _given_hash(name, text) if key == "hash" else text


MAX_PASSWORD = 1000  # bytes; more does not fit into the lines that log-ins of all protocols take
_JOINERS = "\u200c\u200d"  # in some scripts part of a word


def _is_typeable(character: str) -> bool:
    """Neither control, format, surrogate, private nor unassigned, nor a break of line or paragraph."""
    category = unicodedata.category(character)
    return not (category.startswith("C") or category in ("Zl", "Zp")) or character in _JOINERS


def _given_hash(name: str, hashed: str) -> PasswordHash | SecretProblem:
    if hashed.startswith("$"):
        hashed = "{CRYPT}" + hashed  # as /etc/shadow and most migrations have it
    if re.match(PASSWORD_HASH, hashed):
        return PasswordHash(hashed)
    return SecretProblem(
        "HashUnknown",
        f"Secret {name}: key hash must begin with one of Dovecot's schemes in braces: "
        "write e.g. {BLF-CRYPT}$2y$….",
    )


def generate_password() -> str:
    """24 letters and digits, about 142 bits: typeable, and safe in every configuration syntax."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(24))


def make_dkim_keys(now: datetime.date) -> dict[str, bytes]:
    """Two new keys for a domain, named by the month: RSA-2048, which takes 0.1 s, and Ed25519 (PEM, PKCS #8).

    Receivers that cannot verify one of them look at the other (RFC 8463 §4).
    """
    month = f"{now:%Y%m}"
    made: dict[str, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey] = {
        f"r{month}.key": rsa.generate_private_key(65537, 2048),
        f"e{month}.key": ed25519.Ed25519PrivateKey.generate(),
    }
    return {
        name: key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for name, key in made.items()
    }


@dataclass(frozen=True)
class KeyPair:
    """A certificate (PEM; the leaf first where it is a chain) and its private key (PEM, PKCS #8)."""

    certificate: bytes
    key: bytes


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def _builder(
    common_name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def make_ca(name: str, now: datetime.datetime) -> KeyPair:
    """A certificate authority of one's own (ECDSA P-256)."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    certificate = (
        _builder(name, issuer, key, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def make_certificate(ca: KeyPair, names: Iterable[str], now: datetime.datetime) -> KeyPair:
    """A server certificate for host names and IP addresses, signed by `ca`."""
    issuer = x509.load_pem_x509_certificate(ca.certificate)
    issuer_key = serialization.load_pem_private_key(ca.key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)  # make_ca() makes no other
    key = ec.generate_private_key(ec.SECP256R1())
    names = list(names)
    certificate = (
        _builder(names[0], issuer.subject, key, now, CERTIFICATE_DAYS)
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    leaf = _pair(certificate, key)
    return KeyPair(leaf.certificate + ca.certificate, leaf.key)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def needs_renewal(certificate: bytes, names: Iterable[str], now: datetime.datetime) -> bool:
    """Whether the (first) certificate ends within RENEW_DAYS, lacks one of the names, or is none."""
    try:
        leaf = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        return True
    ends = leaf.not_valid_after_utc - now
    return ends < datetime.timedelta(days=RENEW_DAYS) or not held(leaf).issuperset(names)
