"""What the server reads in and writes into a message's header: trace fields, and what submission adds."""

import re
from email.utils import formatdate, getaddresses

_TRACE = re.compile(rb"^received:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID = re.compile(rb"^message-id:", re.IGNORECASE | re.MULTILINE)
_DATE = re.compile(rb"^date:", re.IGNORECASE | re.MULTILINE)
_FROM = re.compile(rb"^from[ \t]*:((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE | re.MULTILINE)
_CAMPAIGN = re.compile(rb"^x-campaign[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_ONE_CLICK = re.compile(rb"^x-unsubscribe[ \t]*:[ \t]*one-click[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_UNSUBSCRIBE = re.compile(rb"^list-unsubscribe[ \t]*:", re.IGNORECASE | re.MULTILINE)
_SAFE = re.compile(r"[^\x21-\x7e]|[()<>\\]")
HEADER_LIMIT = 1 << 18  # bytes of a header that are looked through


def header_of(pieces: list[bytes]) -> bytes:
    """The header of a message that came in pieces, up to HEADER_LIMIT; all of it if no empty line ends it."""
    head = pieces[0] if pieces else b""
    index = 1
    while (end := head.find(b"\r\n\r\n")) < 0 and len(head) < HEADER_LIMIT and index < len(pieces):
        head += pieces[index]
        index += 1
    if head.startswith(b"\r\n"):
        return b""
    return head[: end + 2] if end >= 0 else head[:HEADER_LIMIT]


def body_of(pieces: list[bytes]) -> list[bytes]:
    """The rest of a message that came in pieces: what stands behind the empty line that ends the header."""
    head = b""
    for number, piece in enumerate(pieces):
        head = head[-3:] + piece
        if number == 0 and piece.startswith(b"\r\n"):
            return [piece[2:], *pieces[1:]]
        if (end := head.find(b"\r\n\r\n")) >= 0:
            return [head[end + 4 :], *pieces[number + 1 :]]
    return []


def domain_of_sender(header: bytes) -> str | None:
    """The domain of the address in From, in lower case; None if there is none, or more than one of them."""
    found = _FROM.findall(header)
    if len(found) != 1:
        return None
    addresses = getaddresses([found[0].decode("utf-8", "replace").replace("\r\n", " ")])
    domains = {address.rpartition("@")[2].lower() for _, address in addresses}
    return domains.pop() if len(domains) == 1 else None


def campaign(header: bytes) -> str:
    """The campaign that a mass mailing says it belongs to, "" if none."""
    found = _CAMPAIGN.search(header)
    return _SAFE.sub("?", found[1].decode("utf-8", "replace").strip())[:64] if found else ""


def wants_one_click(header: bytes) -> bool:
    """Whether a mass mailing asks to have fields for unsubscribing added, and brings none."""
    return bool(_ONE_CLICK.search(header)) and not _UNSUBSCRIBE.search(header)


def hops(header: bytes) -> int:
    """How many servers the message has passed: its Received fields."""
    return len(_TRACE.findall(header))


def protocol(esmtp: bool, tls: bool, authenticated: bool, utf8: bool) -> str:
    """The name of the protocol in the trace field (RFC 3848, RFC 6531 §4.3)."""
    if not esmtp:
        return "SMTP"
    return f"{'UTF8' if utf8 else 'E'}SMTP{'S' if tls else ''}{'A' if authenticated else ''}"


def received(helo: str, ip: str, host: str, protocol: str, to: str | None, now: float) -> bytes:
    """The trace field of RFC 5321 §4.4. `to` is named only when it is the sole recipient, so that no copy
    tells of another. `now` is in seconds since the epoch."""
    literal = f"IPv6:{ip}" if ":" in ip else ip
    greeting = _SAFE.sub("?", helo)[:255] or f"[{literal}]"
    recipient = f"\r\n\tfor <{to}>" if to and to.isascii() else ""
    return (
        f"Received: from {greeting} ([{literal}])\r\n"
        f"\tby {host} with {protocol}{recipient};\r\n"
        f"\t{rfc5322_date(now)}\r\n"
    ).encode()


def completed(header: bytes, message_id: str, now: float) -> bytes:
    """The fields that a submitted message lacks (RFC 6409 §8.2 and §8.3); never changes one that is there."""
    missing = b""
    if not _DATE.search(header):
        missing += f"Date: {rfc5322_date(now)}\r\n".encode()
    if not _MESSAGE_ID.search(header):
        missing += f"Message-ID: <{message_id}>\r\n".encode()
    return missing


_date: tuple[int, str] = (0, "")


def rfc5322_date(now: float) -> str:
    """A date-time of RFC 5322 §3.3 in UTC; made once a second, as many messages share it."""
    global _date
    second = int(now)
    if _date[0] != second:
        _date = (second, formatdate(second).replace("-0000", "+0000"))
    return _date[1]
