"""Sender Rewriting Scheme: forwards leave under a sender of ours, so that SPF holds, and bounces find back.

SRS0=hash=day=domain=local@forwarder, and SRS1=hash=host==rest@forwarder for a sender that another forwarder
rewrote before, which undoes its own part. (The scheme of the libsrs2 documents; no RFC.) Mailers on the way
may change the case of letters: behind the two characters of the day stands which of them are capitals.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

from mailpods.message.addresses import local_part, unquoted

VALID_DAYS = 21
_DAY = 86400.0
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # of base 32, in the case that routing leaves
_HASH = 8  # characters: 40 bits, for each of which a guess costs a message
_LONGEST_LOCAL = 64  # octets of a local part (RFC 5321 §4.5.3.1.1)
_REWRITTEN = re.compile(r"srs(?:0[=+-].|1=[^=]*=[^=]+=.)", re.IGNORECASE)


class Srs:
    """`key` is the installation's own."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def forward(self, sender: str, domain: str, now: float) -> str:
        """The sender under which mail to one of `domain`'s addresses is passed on; `now` in epoch seconds.

        Where that would be longer than a local part may be, the domain's postmaster: he hears of a forward
        that fails, and no stranger does.
        """
        local, _, host = sender.rpartition("@")
        if not host or host == domain:
            return sender
        local = unquoted(local)
        kind = "SRS1"
        if not _REWRITTEN.match(local):
            day = int(now / _DAY) % 1024
            stamp = f"{_ALPHABET[day >> 5]}{_ALPHABET[day & 31]}{_capitals(local)}"
            kind, rest = "SRS0", f"{stamp}={host}={local}"
        elif local[3] == "0":
            rest = f"{host}={local[4:]}"  # with its separator
        else:
            rest = local[5:].split("=", 1)[1]
        rewritten = local_part(f"{kind}={self._hash(rest)}={rest}")
        return f"{rewritten if len(rewritten.encode()) <= _LONGEST_LOCAL else 'postmaster'}@{domain}"

    def reverse(self, local: str, now: float) -> str | None:
        """Whose bounce it is that came for such a local part; None if it is none, or not one of ours."""
        kind, _, signed = unquoted(local).partition("=")
        given, _, rest = signed.partition("=")
        if kind.lower() not in ("srs0", "srs1") or not hmac.compare_digest(
            given.lower().encode(), self._hash(rest).encode()
        ):
            return None
        if kind.lower() == "srs1":
            host, _, inner = rest.partition("=")
            return f"{local_part(f'SRS0{inner}')}@{host}" if host and inner else None
        stamp, _, address = rest.partition("=")
        host, _, name = address.partition("=")
        try:
            high, low, *capitals = (_ALPHABET.index(letter) for letter in stamp.lower())
        except ValueError:
            return None
        age = (int(now / _DAY) - (high << 5 | low)) % 1024
        if age > VALID_DAYS or not (host and name):
            return None
        return f"{local_part(_capitalised(name, capitals))}@{host}"

    def _hash(self, rest: str) -> str:
        # Over lower case: mailers on the way may change it.
        digest = hmac.new(self._key, rest.lower().encode(), hashlib.sha256).digest()
        return base64.b32encode(digest).decode().lower()[:_HASH]


def _capitals(local: str) -> str:
    """Which letters of ASCII are capitals: five to a character, nothing behind the last one."""
    bits = sum(1 << n for n, letter in enumerate(local) if "A" <= letter <= "Z")
    return "".join(_ALPHABET[bits >> n & 31] for n in range(0, bits.bit_length(), 5))


def _capitalised(name: str, capitals: Sequence[int]) -> str:
    bits = sum(five << 5 * n for n, five in enumerate(capitals))
    return "".join(letter.upper() if bits >> n & 1 else letter for n, letter in enumerate(name))
