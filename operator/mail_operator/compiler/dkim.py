"""The DKIM keys of a domain, as its Secret holds them: `<selector>.key` for each, PKCS #8 in PEM.

Its records in DNS come before it signs, where another key signed until then: `active` names those that sign.
"""

import base64
from collections.abc import Iterator, Mapping
from functools import lru_cache

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from mailpods.directory.records import DkimKey

SUFFIX = ".key"
# Keys of the Secret: selectors, with spaces in between.
ACTIVE = "active"  # those that sign; without it all do
NEXT = "next"  # but those, which wait until DNS knows them
_PADDING, _HASH = padding.PKCS1v15(), hashes.SHA256()
_SHORTEST_RSA = 1024  # bits that verifiers must take (RFC 8301 §3.2)


def keys_in(values: Mapping[str, bytes]) -> tuple[list[tuple[DkimKey, str]], list[str]]:
    """All keys of a Secret with the text of their TXT records, and the names of those that are none."""
    keys: list[tuple[DkimKey, str]] = []
    broken: list[str] = []
    for name in sorted(values):
        if not name.endswith(SUFFIX):
            continue
        found = _key(name.removesuffix(SUFFIX), values[name])
        if found:
            keys.append(found)
        else:
            broken.append(name)
    return keys, broken


def signing(keys: list[tuple[DkimKey, str]], values: Mapping[str, bytes]) -> tuple[DkimKey, ...]:
    """Those of them that sign."""
    active, coming = named(values, ACTIVE), named(values, NEXT)
    chosen = tuple(key for key, _ in keys if key.selector in active)
    return chosen or tuple(key for key, _ in keys if key.selector not in coming)


def named(values: Mapping[str, bytes], key: str) -> list[str]:
    """The selectors that a key of the Secret names."""
    return values.get(key, b"").decode("utf-8", "replace").split()


def records(keys: list[tuple[DkimKey, str]], domain: str) -> Iterator[dict[str, str]]:
    """What the zone of a domain should hold, as in a zone file (RFC 6376 §3.6.2)."""
    for key, text in keys:
        parts = " ".join(f'"{text[n : n + 255]}"' for n in range(0, len(text), 255))
        yield {"name": f"{key.selector}._domainkey.{domain}.", "type": "TXT", "value": parts}


@lru_cache(20_000)
def _key(selector: str, pem: bytes) -> tuple[DkimKey, str] | None:
    try:
        # Looking for a fault in an RSA key's primes takes 35 ms, and there may be thousands of domains.
        key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
        if isinstance(key, RSAPrivateKey):
            key.public_key().verify(key.sign(b"", _PADDING, _HASH), b"", _PADDING, _HASH)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, InternalError):
        return None
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    private = base64.b64encode(der).decode()
    if isinstance(key, Ed25519PrivateKey):
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return DkimKey(selector, "ed25519", private), f"v=DKIM1; k=ed25519; p={_base64(raw)}"
    if isinstance(key, RSAPrivateKey) and key.key_size >= _SHORTEST_RSA:
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return DkimKey(selector, "rsa", private), f"v=DKIM1; k=rsa; p={_base64(public)}"
    return None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
