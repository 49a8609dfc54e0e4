"""What the spool keeps: the envelope of a message, and the state of each recipient."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from mailpods.directory.records import AccountId, Address

MessageId = NewType("MessageId", str)  # sortable by time of arrival; shown to clients in the 250 and in DSNs
HELD = 1e12  # as next_try: an administrator holds the recipient back; seconds since the epoch


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient as the client gave it (RFC 5321 §4.1.1.3); `notify` and `orcpt` as in RFC 3461."""

    address: Address
    notify: str | None = None
    orcpt: str | None = None

    @property
    def original(self) -> str:
        """The address before anything was forwarded."""
        kind, _, address = (self.orcpt or "").partition(";")
        return address if kind.lower() == "rfc822" else self.address


@dataclass(frozen=True, slots=True)
class Envelope:
    """The envelope of a message. `sender` is '' for the null sender; times are seconds since the epoch."""

    sender: str
    recipients: tuple[Recipient, ...]
    received_at: float
    client_ip: str = ""
    helo: str = ""
    protocol: str = "ESMTP"  # RFC 3848: ESMTP, ESMTPS, ESMTPA, ESMTPSA, …
    account: AccountId | None = None  # who authenticated
    smtputf8: bool = False
    body_8bit: bool = False
    campaign: str = ""  # of a mass mailing
    ret: str = ""  # RFC 3461 §4.3: FULL or HDRS, of what a notification returns
    envid: str = ""  # RFC 3461 §4.4, in xtext


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message with some of its recipients: those whose time has come, unless something else is said."""

    id: MessageId
    envelope: Envelope
    recipients: tuple[Recipient, ...]
    attempts: int  # of the recipient that was tried most often
    next_try: float = 0.0  # when the first of them was to be tried, seconds since the epoch
    warned: bool = False  # its sender knows that it waits
    reserved: bool = False  # all of them came due at times that a limit gave them
    replies: Mapping[Address, str] = field(default_factory=dict)  # the last one about each


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What became of one recipient: done (`next_try` None), or to be tried again then.

    `replaced_by`: these take its place, as when some of an alias' targets have their copy already; it stays
    their `orcpt`. `tried`: this was an attempt. `reserved`: a limit gave it this time.
    """

    id: MessageId
    address: Address
    next_try: float | None
    reply: str = ""
    replaced_by: tuple[Address, ...] = ()
    tried: bool = True
    reserved: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a recipient of a mass mailing: delivered, deferred, failed; `at` in epoch seconds."""

    at: float
    id: MessageId
    sender: str
    recipient: str
    campaign: str
    kind: str
    class_: str  # of the reply, "" where it is positive
    reply: str
