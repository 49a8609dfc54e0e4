"""Marks of the installation's own, by which what comes back of mass mailings is known: nobody else makes one.

A mailing leaves under `news+v=hash=user=far.test@a.test` (variable envelope return paths): its bounces reach
`news@a.test` all the same, for that is a subaddress of it, and say which recipient they are about even where
their text does not. The token of a link says who unsubscribes from whom.
"""

import base64
import hashlib
import hmac

_LONGEST_LOCAL = 64  # octets of a local part (RFC 5321 §4.5.3.1.1)
_HASH = 8  # characters of base 32: 40 bits, for each of which a guess costs a message


class Verp:
    """`key` is the installation's own."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def mark(self, sender: str, recipient: str) -> str:
        """The sender under which a mailing leaves for a recipient; as it is where that would be too long."""
        local, _, domain = sender.rpartition("@")
        user, _, host = recipient.lower().rpartition("@")
        marked = f"{local}+v={self._hash(domain, user, host)}={user}={host}"
        return f"{marked}@{domain}" if len(marked.encode()) <= _LONGEST_LOCAL else sender

    def read(self, address: str) -> tuple[str, str] | None:
        """(the sender's domain, recipient) of a marked address; None for one that is not ours."""
        local, _, domain = address.lower().rpartition("@")
        given, _, rest = local.rpartition("+v=")[2].partition("=")
        user, _, host = rest.rpartition("=")
        if "+v=" not in local or not (user and host):
            return None
        good = hmac.compare_digest(given.encode(), self._hash(domain, user, host).encode())
        return (domain, f"{user}@{host}") if good else None

    def _hash(self, domain: str, user: str, host: str) -> str:
        data = f"verp {domain.lower()} {user}@{host}".encode()
        return base64.b32encode(hmac.new(self._key, data, hashlib.sha256).digest()).decode().lower()[:_HASH]


def token(key: str, domain: str, address: str) -> str:
    """By which a recipient leaves a domain's list (RFC 8058 §3.1): nobody can make one for somebody else."""
    data = f"{domain.lower()} {address.lower()}".encode()
    signed = hmac.new(key.encode(), b"unsubscribe " + data, hashlib.sha256).digest()[:12]
    return base64.urlsafe_b64encode(signed + data).decode().rstrip("=")


def read_token(key: str, text: str) -> tuple[str, str] | None:
    """(domain, address) of a token; None for one that is not ours."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        domain, _, address = raw[12:].decode().partition(" ")
    except ValueError:
        return None
    good = hmac.compare_digest(text.rstrip("=").encode(), token(key, domain, address).encode())
    return (domain, address) if good and address else None
