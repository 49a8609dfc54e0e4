"""What a server does for the messages of its own people (RFC 6409 §8)."""

import re

from mailpods.message import header as headers
from mailpods.message.addresses import Malformed, mailboxes
from mailpods.message.trace import rfc5322_date
from mailpods.message.verp import token

# Nobody else may read them (RFC 5322 §3.6.3), or believe them (RFC 5321 §4.4).
PRIVATE = ("bcc", "return-path")
_ONE_CLICK = re.compile(rb"[ \t]*one-click[ \t]*\Z", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\x21-\x7e]|[()<>\\]")


def missing(header: bytes, message_id: str, now: float) -> bytes:
    """The fields that a submitted message lacks (§8.2 and §8.3); never changes one that is there."""
    found = b""
    if not headers.has(header, "date"):
        found += f"Date: {rfc5322_date(now)}\r\n".encode()
    if not headers.has(header, "message-id"):
        found += f"Message-ID: <{message_id}>\r\n".encode()
    return found


def domain_of_sender(header: bytes) -> str | None:
    """The domain of the addresses in From, in lower case; None if there is none, or more than one of them."""
    found = headers.values(header, "from")
    if len(found) != 1:
        return None
    try:
        domains = {address.rpartition("@")[2] for address in mailboxes(found[0])}
    except Malformed:
        return None
    return domains.pop() if len(domains) == 1 else None


def campaign(header: bytes) -> str:
    """The campaign that a mass mailing says it belongs to, "" if none."""
    found = headers.values(header, "x-campaign")
    return _UNSAFE.sub("?", found[0].split(b"\r")[0].decode("utf-8", "replace").strip())[:64] if found else ""


def one_click(header: bytes, url: str, key: str, sender: str, recipient: str) -> bytes:
    """By which the recipient of a mass mailing leaves (RFC 8058), where it asks for that and brings none.

    `url`: before /unsubscribe; `key`: the installation's."""
    wanted = any(_ONE_CLICK.match(value) for value in headers.values(header, "x-unsubscribe"))
    if not wanted or headers.has(header, "list-unsubscribe"):
        return b""
    mark = token(key, sender.rpartition("@")[2], recipient)
    return (
        f"List-Unsubscribe: <{url}/unsubscribe?t={mark}>\r\n"
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    ).encode()
