"""DKIM signatures: RSA-2048 (RFC 6376) and Ed25519 (RFC 8463) beside each other, relaxed/relaxed.

OpenSSL does the arithmetic; libraries that sign whole messages do it in Python, some 15 times slower.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from mailpods.directory.records import DkimKey

# What a reader sees or acts upon (RFC 6376 §5.4.1). From is signed once more than it is there, so that nobody
# can put a second one in front (§8.15).
SIGNED = (
    *("from", "reply-to", "subject", "date", "to", "cc", "message-id", "in-reply-to", "references"),
    *("mime-version", "content-type", "content-transfer-encoding", "list-unsubscribe"),
    *("list-unsubscribe-post", "list-id"),
)
OVERSIGNED = ("from", "subject", "to")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_FIELD = re.compile(rb"\r\n(?![ \t])")
_WIDTH = 72  # of a line of the signature


def relaxed_body(pieces: Sequence[bytes]) -> bytes:
    """A body in the canonical form of RFC 6376 §3.4.4. Its lines end in CRLF."""
    body = _single_spaced(b"".join(pieces))
    if b" " in body:  # attachments have none, and looking for pairs takes half as long as a signature
        body = body.replace(b" \r\n", b"\r\n")
    body = body.rstrip(b"\r\n")
    # Of a last line without its CRLF a space at the end goes, too.
    body = body.removesuffix(b" ")
    return body + b"\r\n" if body else b""


def fields(header: bytes) -> list[tuple[str, bytes]]:
    """The fields of a header in the form of RFC 6376 §3.4.2, in order: (name, line without its CRLF)."""
    found = []
    for field in _FIELD.split(header):
        name, colon, value = field.partition(b":")
        if colon:
            found.append((name.strip().lower().decode("ascii", "replace"), _relaxed(name, value)))
    return found


def _relaxed(name: bytes, value: bytes) -> bytes:
    return name.strip().lower() + b":" + _single_spaced(_FOLD.sub(b"", value)).strip()


def _single_spaced(text: bytes) -> bytes:
    """Each run of spaces and tabs as one space. A few passes over all of it, none of them in Python."""
    text = text.replace(b"\t", b" ")
    while b" " in text and b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def sign(header: bytes, body: Sequence[bytes], domain: str, keys: Sequence[DkimKey], now: float) -> bytes:
    """The DKIM-Signature fields for a message, one for each key, with CRLF; `now` in epoch seconds.

    Raises ValueError for a key that is none.
    """
    there = fields(header)
    body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest()).decode()
    names, lines = chosen(there, SIGNED, OVERSIGNED)
    return b"".join(_signature(key, domain, names, lines, body_hash, int(now)) for key in keys)


def chosen(
    there: Sequence[tuple[str, bytes]], wanted: Sequence[str], oversigned: Sequence[str] = ()
) -> tuple[list[str], bytes]:
    """Names for h=, and the lines that they stand for: of fields of one name the last one first (§5.4.2)."""
    by_name: dict[str, list[bytes]] = {}
    for name, line in there:
        by_name.setdefault(name, []).insert(0, line)
    names: list[str] = []
    lines: list[bytes] = []
    for name in wanted:
        found = by_name.get(name, [])
        names += [name] * (len(found) + (name in oversigned))
        lines += found
    return names, b"\r\n".join((*lines, b""))


def _signature(
    key: DkimKey, domain: str, names: Sequence[str], lines: bytes, body_hash: str, now: int
) -> bytes:
    tags = [
        "v=1",
        f"a={key.algorithm}-sha256",
        "c=relaxed/relaxed",
        f"d={domain}",
        f"s={key.selector}",
        f"t={now}",
        f"h={':'.join(names)}",
        f"bh={body_hash}",
    ]
    return signed_field("DKIM-Signature", tags, key, lines)


def signed_field(name: str, tags: Sequence[str], key: DkimKey, lines: bytes) -> bytes:
    """A field of such tags, with CRLF, whose b= signs these lines and the field itself.

    Raises ValueError for a key that is none.
    """
    field = f"{name}: ".encode() + "\r\n\t".join(_folded([*tags, "b="])).encode()
    data = lines + _relaxed(*field.split(b":", 1))
    signed = base64.b64encode(_signed(key, data)).decode()
    rest = "\r\n\t ".join(signed[n : n + _WIDTH] for n in range(0, len(signed), _WIDTH))
    return field + rest.encode() + b"\r\n"


def _folded(tags: Sequence[str]) -> Iterator[str]:
    """Lines of the field: several short tags on one."""
    line = ""
    for tag in tags:
        part = tag if tag == "b=" else f"{tag};"
        if line and len(line) + len(part) >= _WIDTH:
            yield line
            line = ""
        line = f"{line} {part}" if line else part
    yield line


def _signed(key: DkimKey, data: bytes) -> bytes:
    private = _private(key)
    if isinstance(private, Ed25519PrivateKey):
        return private.sign(hashlib.sha256(data).digest())  # RFC 8463 §3: the hash is what is signed
    return private.sign(data, padding.PKCS1v15(), hashes.SHA256())


@lru_cache(4096)
def _private(key: DkimKey) -> RSAPrivateKey | Ed25519PrivateKey:
    try:
        # Our own keys: checking their primes anew would take longer than a hundred signatures.
        private = load_der_private_key(
            base64.b64decode(key.private), None, unsafe_skip_rsa_key_validation=True
        )
    except ValueError as error:
        raise ValueError(f"DKIM key {key.selector}: {error}") from error
    if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
        raise ValueError(f"DKIM key {key.selector} is of another kind: {type(private).__name__}")
    return private
