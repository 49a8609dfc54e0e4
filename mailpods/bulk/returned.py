"""What comes back of mailings, read: bounces (RFC 3464) and complaints (RFC 5965)."""

import email
import email.feedparser  # here, or who gave up root could not read it any more
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Literal

from mailpods.message.verp import Verp, read_token

# Classes of replies behind which no mail will ever arrive.
HARD = frozenset(("unknown-recipient", "mailbox-disabled"))
BOUNCE, COMPLAINT = "!bounce ", "!complaint"  # with which targets begin that are no address
PATH = "/returns"
_MOST_TEXT = 4000  # characters of a bounce that is no report
_FROM_SYSTEM = re.compile(r"mailer-daemon|postmaster", re.IGNORECASE)
_PASSES = re.compile(r"\b4\.\d+\.\d+\b|\bfull\b|quota|temporar", re.IGNORECASE)
_TOKEN = re.compile(r"/unsubscribe\?t=([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class Returned:
    """What somebody says of a mailing. `final`: nothing is to be sent there any more."""

    kind: Literal["bounced", "complained"]
    domain: str  # the sender's
    recipient: str
    class_: str
    reply: str
    final: bool


def target_of(address: str, sender: str, complaints: str | None, verp: Verp) -> str | None:
    """Where mail to an address of ours must go beside its mailbox; None for nowhere."""
    if complaints is not None and address.lower() == complaints:
        return COMPLAINT
    found = None if sender else verp.read(address)
    return f"{BOUNCE}{found[0]} {found[1]}" if found else None


def bounce(text: bytes, domain: str, recipient: str, class_of: Callable[[str], str]) -> Returned | None:
    """What a bounce says of the recipient that its address names; None where it gives nothing up.

    `class_of` names what a reply means.
    """
    message = email.message_from_bytes(text)
    replies = list(_failures(message))
    if not replies and any(part.get_content_type() == "message/delivery-status" for part in message.walk()):
        return None  # a delay
    if not replies and not _FROM_SYSTEM.search(str(message.get("From", ""))):
        return None  # somebody is on holiday
    reply = replies[0] if replies else _words(message)
    verdict = class_of(reply)
    return Returned(
        "bounced", domain, recipient, verdict, reply[:500], verdict in HARD and _is_permanent(reply)
    )


def _is_permanent(reply: str) -> bool:
    """Whether nothing in it speaks of something that passes."""
    return reply[:1] == "5" and not _PASSES.search(reply)


def _failures(message: Message) -> Iterator[str]:
    """The replies in a report about recipients that were given up, as a server gave them (RFC 3464 §2.3)."""
    for part in message.walk():
        for block in _blocks(part) if part.get_content_type() == "message/delivery-status" else ():
            if str(block.get("Action", "")).strip().lower() == "failed":
                status = str(block.get("Status", "5.0.0")).split()[0]
                said = " ".join(str(block.get("Diagnostic-Code", "")).partition(";")[2].split())
                if said[:1] == "5":
                    yield said
                elif said[:1] == "4" or status[:1] == "4":  # given up, but for a reason that passes
                    yield f"450 {status} {said}".strip()
                else:
                    yield f"550 {status} {said}".strip()


def _words(message: Message) -> str:
    """Of a bounce that is no report, and says so in words alone."""
    for part in message.walk():
        if part.get_content_type() == "text/plain":
            data = part.get_payload(decode=True)
            words = data.decode("utf-8", "replace") if isinstance(data, bytes) else ""
            return f"550 {' '.join(words[:_MOST_TEXT].split())}"
    return "550"


def complaint(text: bytes, verp: Verp, key: str) -> Returned | None:
    """Who complains of whom, as marks of ours in the report prove; anybody could write the rest of it."""
    message = email.message_from_bytes(text)
    kinds = [
        str(block.get("Feedback-Type", "")).strip().lower()
        for part in message.walk()
        if part.get_content_type() == "message/feedback-report"
        for block in _blocks(part)
    ]
    if not kinds or "not-spam" in kinds:
        return None
    for part in message.walk():
        for block in (part, *_blocks(part)):
            for name in ("Original-Mail-From", "Return-Path"):
                if found := verp.read(str(block.get(name, "")).strip(" <>\r\n\t")):
                    return Returned("complained", *found, kinds[0], f"complaint: {kinds[0]}", True)
            token = _TOKEN.search("".join(str(block.get("List-Unsubscribe", "")).split()))
            if token and (found := read_token(key, token[1])):
                return Returned("complained", *found, kinds[0], f"complaint: {kinds[0]}", True)
    return None


def _blocks(part: Message) -> list[Message]:
    """The fields within a part that holds such: a report's, or those of a header that is attached as text."""
    payload = part.get_payload()
    if isinstance(payload, list):
        return [each for each in payload if isinstance(each, Message)]
    kind = part.get_content_type()
    if kind in ("text/rfc822-headers", "message/feedback-report"):
        data = part.get_payload(decode=True)
        return [email.message_from_bytes(data)] if isinstance(data, bytes) else []
    return []
