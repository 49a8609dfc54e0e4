"""Authentication-Results (RFC 8601): what others claim, and which of that may stay."""

import re

from mailpods.message import header as headers

FIELD = "authentication-results"
_COMMENT = re.compile(rb"\([^()]*\)")
_ID = re.compile(rb'\s*"?([^\s;"]*)')
MOST_NESTED = 20  # comments in comments; deeper ones are written to hide something


def without_forged(header: bytes, host: str) -> bytes:
    """The header without the fields that claim to be ours, which nobody but us may write (§5)."""
    return headers.filtered(header, FIELD, lambda value: not _claims(value, host.lower().encode()))


def _claims(value: bytes, host: bytes) -> bool:
    for _ in range(MOST_NESTED):
        shorter = _COMMENT.sub(b" ", value)
        if shorter == value:
            break
        value = shorter
    else:
        return True
    match = _ID.match(value)
    return match is not None and match[1].lower().rstrip(b".") == host
