"""Delivery status notifications (RFC 3464) to the sender of a message, about recipients of it.

They are written as bytes, field by field: whatever a client, a server or a header held, one can be made.
Where something in it is not ASCII, the fields are those of RFC 6533 if the sender's message was of RFC 6531,
and encoded as that document has it (§3) if not.
"""

import base64
import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Literal

from mailpods.spool.message import Envelope, MessageId, Recipient

_ENHANCED = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
LONGEST_LINE = 900  # octets, well below what RFC 5321 §4.5.3.1.6 allows
LONGEST_REPLY = 8000  # characters of a server's reply that are told
MOST_FULL_BYTES = 1 << 20  # of a message that is returned whole (RFC 3461 §4.3: RET=FULL)

Action = Literal["failed", "delayed", "delivered", "relayed"]  # RFC 3464 §2.3.3
# Action -> what of NOTIFY asks for it (RFC 3461 §4.1).
_WANTED: Mapping[Action, str] = {
    "failed": "FAILURE",
    "delayed": "DELAY",
    "delivered": "SUCCESS",
    "relayed": "SUCCESS",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A recipient and the reply that says why it failed for good, still waits, or was delivered."""

    recipient: Recipient
    reply: str


def wants_notification(envelope: Envelope, recipient: Recipient, action: Action = "failed") -> bool:
    """Whether it is reported: not for a null sender (RFC 5321 §6.1) nor against NOTIFY (RFC 3461 §4.1)."""
    notify = (recipient.notify or "FAILURE,DELAY").upper()
    return bool(envelope.sender) and _WANTED[action] in notify.split(",")


def headers_of(body: bytes) -> bytes:
    """The header of a message, without its body: what a notification returns."""
    end = body.find(b"\r\n\r\n")
    return body[: end + 2] if end >= 0 else body[:65536]


def is_international(envelope: Envelope, failures: Iterable[Failure]) -> bool:
    """Whether the notification takes the forms of RFC 6533, and SMTPUTF8 to be sent."""
    if not envelope.sender.isascii():
        return True
    texts = (text for f in failures for text in (f.recipient.address, f.recipient.orcpt or "", f.reply))
    return envelope.smtputf8 and not all(text.isascii() for text in texts)


def build(
    message: MessageId,
    envelope: Envelope,
    body: bytes,
    failures: Sequence[Failure],
    host: str,
    now: float,
    action: Action = "failed",
) -> bytes:
    """The notification, with CRLF line ends; `now` in seconds since the epoch. Raises nothing."""
    utf8 = is_international(envelope, failures)
    mark = f"=_{message}.{int(now)}"
    subject, _, _ = _WORDS[action]
    head = [
        f"From: Mail Delivery System <MAILER-DAEMON@{host}>",
        f"To: <{_clean(envelope.sender, utf8)}>",
        f"Subject: {subject}",
        f"Date: {_date(now)}",
        f"Message-ID: <{message}.{action}.{int(now)}@{host}>",
        "Auto-Submitted: auto-replied",  # RFC 3834 §5
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status; boundary="{mark}"',
    ]
    kind = "message/global-delivery-status" if utf8 else "message/delivery-status"
    parts = [
        _part("text/plain; charset=utf-8", _for_people(failures, host, action).encode(errors="replace")),
        _part(kind, _for_programs(envelope, failures, host, action, utf8), plain=True),
        _returned(envelope, body, action, utf8),
    ]
    opening = f"--{mark}\r\n".encode()
    return b"".join(
        [*map(_field, head), b"\r\n"] + [opening + part for part in parts] + [f"--{mark}--\r\n".encode()]
    )


# Action -> subject, what happened, what follows.
_WORDS: Mapping[Action, tuple[str, str, str]] = {
    "failed": (
        "Undelivered Mail Returned to Sender",
        "Your message could not be delivered to:",
        "It is not tried again. The header of your message is attached.",
    ),
    "delayed": (
        "Delayed Mail (still being retried)",
        "Your message could not be delivered yet to:",
        "It is tried again for five days: there is no need to send it again. Its header is attached.",
    ),
    "delivered": (
        "Successful Mail Delivery Report",
        "Your message was delivered to:",
        "You asked to be told. The header of your message is attached.",
    ),
    "relayed": (
        "Mail Relay Report",
        "Your message was passed on, to a server that does not report successful delivery, for:",
        "You asked to be told. The header of your message is attached.",
    ),
}


def _for_people(failures: Sequence[Failure], host: str, action: Action) -> str:
    _, happened, follows = _WORDS[action]
    lines = [f"This is the mail system at {host}.", "", happened, ""]
    for failure in failures:
        lines += [f"  <{failure.recipient.original}>", f"    {_clean(failure.reply, True)}", ""]
    return "\r\n".join([*lines, follows, ""])


def _for_programs(
    envelope: Envelope, failures: Sequence[Failure], host: str, action: Action, utf8: bool
) -> bytes:
    about = [f"Reporting-MTA: dns; {host}", f"Arrival-Date: {_date(envelope.received_at)}"]
    if envelope.envid:
        about.insert(0, f"Original-Envelope-Id: {_clean(_unxtext(envelope.envid), False)}")
    blocks = [about]
    for failure in failures:
        recipient, found = failure.recipient, _ENHANCED.search(failure.reply)
        default = {"failed": "5.0.0", "delayed": "4.0.0"}.get(action, "2.0.0")
        block = [f"Original-Recipient: {_clean(recipient.orcpt, utf8)}"] if recipient.orcpt else []
        block += [
            f"Final-Recipient: {_typed(recipient.address, utf8)}",
            f"Action: {action}",
            f"Status: {found[1] if found and found[1][0] == default[0] else default}",
            f"Diagnostic-Code: smtp; {_clean(failure.reply, utf8)}",
        ]
        blocks.append(block)
    return b"\r\n".join(b"".join(map(_field, block)) for block in blocks)


def _typed(address: str, utf8: bool) -> str:
    """An address with its type (RFC 6533 §3)."""
    return f"{'rfc822' if address.isascii() else 'utf-8'}; {_clean(address, utf8)}"


def _returned(envelope: Envelope, body: bytes, action: Action, utf8: bool) -> bytes:
    is_whole = envelope.ret.upper() == "FULL" and action == "failed" and len(body) <= MOST_FULL_BYTES
    returned = body if is_whole else headers_of(body)
    is_ascii = returned.isascii() and _is_short(returned) and b"\0" not in returned
    if is_whole:
        kind = "message/rfc822" if is_ascii else "message/global" if utf8 else "application/octet-stream"
    else:
        kind = "message/global-headers" if utf8 and not is_ascii else "text/rfc822-headers; charset=utf-8"
    return _part(kind, returned)


def _part(kind: str, data: bytes, plain: bool = False) -> bytes:
    """`plain`: its lines are known to be short, and a type that nothing may be encoded in."""
    data = data if data.endswith(b"\r\n") else data + b"\r\n"
    head = f"Content-Type: {kind}\r\n"
    if plain or (data.isascii() and _is_short(data) and b"\0" not in data):
        encoding = "" if data.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
        return f"{head}{encoding}\r\n".encode() + data + b"\r\n"
    encoded = base64.encodebytes(data).replace(b"\n", b"\r\n")
    return f"{head}Content-Transfer-Encoding: base64\r\n\r\n".encode() + encoded + b"\r\n"


def _is_short(data: bytes) -> bool:
    return max(map(len, data.split(b"\r\n"))) <= LONGEST_LINE


def _field(line: str) -> bytes:
    """A field, folded where it is long: at spaces, or where there are none anywhere."""
    data, folded = line.encode(errors="replace"), b""
    while len(data) > LONGEST_LINE:
        at = data.rfind(b" ", 1, LONGEST_LINE)
        at = at if at > 0 and data[:at].strip() else len(data[:LONGEST_LINE].decode(errors="ignore").encode())
        folded, data = folded + data[:at] + b"\r\n", b" " + data[at:].lstrip(b" ")
    return folded + data + b"\r\n"


def _clean(text: str | None, utf8: bool) -> str:
    """One line, without control characters; what is not ASCII as \\x{HEX} where it may not stand (§3)."""
    words = " ".join((text or "").split())[:LONGEST_REPLY]
    return "".join(
        c if c.isascii() and c.isprintable() else c if utf8 and c.isprintable() else f"\\x{{{ord(c):X}}}"
        for c in words
    )


def _unxtext(text: str) -> str:
    return re.sub(r"\+([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), text)


def _date(at: float) -> str:
    try:
        return format_datetime(datetime.datetime.fromtimestamp(at, datetime.UTC))
    except (ValueError, OverflowError, OSError):  # of a clock that nobody set
        return format_datetime(datetime.datetime.fromtimestamp(0, datetime.UTC))
