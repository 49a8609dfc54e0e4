"""What the spool keeps: the envelope of a message, and the state of each recipient."""

from dataclasses import dataclass
from typing import NewType

from mailpods.directory.records import AccountId, Address

MessageId = NewType("MessageId", str)  # sortable by time of arrival; shown to clients in the 250 and in DSNs


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
