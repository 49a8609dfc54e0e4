"""The trace field that each server puts in front (RFC 5321 §4.4)."""

import re
from email.utils import formatdate

_UNSAFE = re.compile(r"[^\x21-\x7e]|[()<>\\]")


def protocol(esmtp: bool, tls: bool, authenticated: bool, utf8: bool) -> str:
    """The name of the protocol in the trace field (RFC 3848, RFC 6531 §4.3)."""
    if not esmtp:
        return "SMTP"
    return f"{'UTF8' if utf8 else 'E'}SMTP{'S' if tls else ''}{'A' if authenticated else ''}"


def received(helo: str, ip: str, host: str, protocol: str, to: str | None, now: float) -> bytes:
    """The trace field of RFC 5321 §4.4. `to` is named only when it is the sole recipient, so that no copy
    tells of another. `now` is in seconds since the epoch."""
    literal = f"IPv6:{ip}" if ":" in ip else ip
    greeting = _UNSAFE.sub("?", helo)[:255] or f"[{literal}]"
    recipient = f"\r\n\tfor <{to}>" if to and to.isascii() else ""
    return (
        f"Received: from {greeting} ([{literal}])\r\n"
        f"\tby {host} with {protocol}{recipient};\r\n"
        f"\t{rfc5322_date(now)}\r\n"
    ).encode()


_date: tuple[int, str] = (0, "")


def rfc5322_date(now: float) -> str:
    """A date-time of RFC 5322 §3.3 in UTC; made once a second, as many messages share it."""
    global _date
    second = int(now)
    if _date[0] != second:
        _date = (second, formatdate(second).replace("-0000", "+0000"))
    return _date[1]
