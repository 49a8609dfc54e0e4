"""What a server does for the messages of its own people (RFC 6409 §8)."""

import re
from collections.abc import Callable

from mailpods.message import header as headers
from mailpods.message.addresses import Malformed, mailboxes
from mailpods.message.trace import rfc5322_date
from mailpods.message.verp import token

# Nobody else may read them (RFC 5322 §3.6.3), or believe them (RFC 5321 §4.4).
PRIVATE = ("bcc", "return-path")
_ONE_CLICK = re.compile(rb"[ \t]*one-click[ \t]*\Z", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\x21-\x7e]|[()<>\\]")


def missing(header: bytes, sender: str, message_id: str, now: float) -> bytes:
    """The fields that a submitted message lacks (§8.1 to §8.3); never changes one that is there. `sender`:
    who is to stand in From, "" if that is not known."""
    found = b""
    if sender and not headers.has(header, "from"):
        found += f"From: <{sender}>\r\n".encode()
    if not headers.has(header, "date"):
        found += f"Date: {rfc5322_date(now)}\r\n".encode()
    if not headers.has(header, "message-id"):
        found += f"Message-ID: <{message_id}>\r\n".encode()
    return found


def foreign_sender(header: bytes, owns: Callable[[str], bool]) -> str:
    """Why the message does not say truly who sends it, "" if it does: one From at most (one is added where
    none is), one Sender at most, and each mailbox in them one that `owns` says is the login's."""
    for name in ("From", "Sender"):
        found = headers.values(header, name.lower())
        if len(found) > 1:
            return f"Message has {len(found)} {name} fields: one is allowed"
        try:
            addresses = [address for value in found for address in mailboxes(value)]
        except Malformed as error:
            return f"The {name} field cannot be read: {error}"
        if found and not addresses:
            return f"The {name} field names nobody"
        if not all(owns(address) for address in addresses):
            return f"An address in {name} does not belong to your login"
    return ""


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
