"""Delivery status notifications (RFC 3464) to the sender of a message that could not be delivered."""

import datetime
import email.generator  # noqa: F401  as_bytes() would load it late, when we may not read it any more
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email import policy
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime
from typing import Literal

from mailpods.spool.message import Envelope, MessageId, Recipient

_ENHANCED = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")


Action = Literal["failed", "delayed"]  # RFC 3464 §2.3.3


@dataclass(frozen=True, slots=True)
class Failure:
    """A recipient that failed for good, or still waits, and the reply that says why."""

    recipient: Recipient
    reply: str


def wants_notification(envelope: Envelope, recipient: Recipient, action: Action = "failed") -> bool:
    """Whether it is reported: not for a null sender (RFC 5321 §6.1) nor against NOTIFY (RFC 3461 §4.1)."""
    notify = (recipient.notify or "FAILURE,DELAY").upper()
    return bool(envelope.sender) and {"failed": "FAILURE", "delayed": "DELAY"}[action] in notify.split(",")


def headers_of(body: bytes) -> bytes:
    """The header of a message, without its body: what a notification returns."""
    end = body.find(b"\r\n\r\n")
    return body[: end + 2] if end >= 0 else body[:65536]


def build(
    message: MessageId,
    envelope: Envelope,
    body: bytes,
    failures: Sequence[Failure],
    host: str,
    now: float,
    action: Action = "failed",
) -> bytes:
    """The notification, with CRLF line ends; `now` in seconds since the epoch."""
    when = datetime.datetime.fromtimestamp(now, datetime.UTC)
    report = MIMEMultipart("report", report_type="delivery-status")
    report["From"] = f"Mail Delivery System <MAILER-DAEMON@{host}>"
    report["To"] = f"<{envelope.sender}>"
    report["Subject"] = _WORDS[action][0]
    report["Date"] = format_datetime(when)
    report["Message-ID"] = f"<{message}.{action}.{int(now)}@{host}>"
    report["Auto-Submitted"] = "auto-replied"  # RFC 3834 §5
    report.attach(MIMEText(_for_people(failures, host, action), "plain", "utf-8"))
    report.attach(_for_programs(envelope, failures, host, action))
    returned = MIMEText(headers_of(body).decode("utf-8", "replace"), "rfc822-headers", "utf-8")
    report.attach(returned)
    return report.as_bytes(policy=policy.SMTP)


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
}


def _for_people(failures: Sequence[Failure], host: str, action: Action) -> str:
    _, happened, follows = _WORDS[action]
    lines = [f"This is the mail system at {host}.", "", happened, ""]
    for failure in failures:
        lines += [f"  <{failure.recipient.address}>", f"    {failure.reply}", ""]
    lines += [follows, ""]
    return "\n".join(lines)


def _for_programs(envelope: Envelope, failures: Sequence[Failure], host: str, action: Action) -> Message:
    about = Message()
    about["Reporting-MTA"] = f"dns; {host}"
    arrival = datetime.datetime.fromtimestamp(envelope.received_at, datetime.UTC)
    about["Arrival-Date"] = format_datetime(arrival)
    blocks: list[Message | str] = [about]
    for failure in failures:
        block = Message()
        if failure.recipient.orcpt:
            block["Original-Recipient"] = failure.recipient.orcpt
        block["Final-Recipient"] = f"rfc822; {failure.recipient.address}"
        block["Action"] = action
        found = _ENHANCED.search(failure.reply)
        block["Status"] = found.group(1) if found else "5.0.0" if action == "failed" else "4.0.0"
        block["Diagnostic-Code"] = "smtp; " + " ".join(failure.reply.split())
        blocks.append(block)
    part = Message()
    part["Content-Type"] = "message/delivery-status"
    part.set_payload(blocks)
    return part
