"""Sender Rewriting Scheme: forwards leave under a sender of ours, so that SPF holds, and bounces find back.

SRS0=hash=day=domain=local@forwarder, and SRS1=hash=host==rest@forwarder for a sender that another forwarder
rewrote before, which undoes its own part. (The scheme of the libsrs2 documents; no RFC.)
"""

import base64
import hashlib
import hmac

VALID_DAYS = 21
_DAY = 86400.0
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # of base 32, in the case that routing leaves
_HASH = 8  # characters: 40 bits, for each of which a guess costs a message


class Srs:
    """`key` is the installation's own."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def forward(self, sender: str, domain: str, now: float) -> str:
        """The sender under which mail to one of `domain`'s addresses is passed on; `now` in epoch seconds."""
        local, _, host = sender.rpartition("@")
        if not host or host == domain:
            return sender
        lower = local.lower()
        if lower.startswith("srs0") and len(local) > 5:
            rest = f"{host}={local[4:]}"  # with its separator
        elif lower.startswith("srs1") and local.count("=") > 3:
            rest = local[5:].split("=", 1)[1]
        else:
            day = int(now / _DAY) % 1024
            rest = f"{_ALPHABET[day >> 5]}{_ALPHABET[day & 31]}={host}={local}"
            return f"SRS0={self._hash(rest)}={rest}@{domain}"
        return f"SRS1={self._hash(rest)}={rest}@{domain}"

    def reverse(self, local: str, now: float) -> str | None:
        """Whose bounce it is that came for such a local part; None if it is none, or not one of ours."""
        kind, _, signed = local.partition("=")
        given, _, rest = signed.partition("=")
        if kind.lower() not in ("srs0", "srs1") or not hmac.compare_digest(
            given.lower().encode(), self._hash(rest).encode()
        ):
            return None
        if kind.lower() == "srs1":
            host, _, inner = rest.partition("=")
            return f"SRS0{inner}@{host}" if host and inner else None
        stamp, _, address = rest.partition("=")
        host, _, name = address.partition("=")
        try:
            high, low = (_ALPHABET.index(letter) for letter in stamp.lower())
        except ValueError:
            return None
        age = (int(now / _DAY) - (high << 5 | low)) % 1024
        return f"{name}@{host}" if age <= VALID_DAYS and host and name else None

    def _hash(self, rest: str) -> str:
        # Over lower case: mailers on the way may change it.
        digest = hmac.new(self._key, rest.lower().encode(), hashlib.sha256).digest()
        return base64.b32encode(digest).decode().lower()[:_HASH]
