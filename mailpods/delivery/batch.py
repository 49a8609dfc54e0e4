"""Those recipients of a message that go to one destination together."""

from dataclasses import dataclass, field

from mailpods.delivery.client.replies import Reply
from mailpods.delivery.destinations.base import Destination
from mailpods.directory.records import Address
from mailpods.spool.message import MessageId, QueuedMessage, Recipient

SUPPRESSED = "on the suppression list"  # in replies of our own, of which senders are not told


@dataclass
class DeliveryBatch:
    """They, and what the destination said about each copy."""

    message: QueuedMessage
    destination: Destination
    targets: dict[Address, list[str]] = field(default_factory=dict)  # recipient -> accounts, addresses
    replies: dict[str, Reply] = field(default_factory=dict)  # target -> reply
    body: bytes | None = None
    reserved: float | None = None  # a limit gives it this time

    @property
    def id(self) -> MessageId:
        """Of its message."""
        return self.message.id

    @property
    def all_targets(self) -> list[str]:
        """Of all of them, each once."""
        if len(self.targets) == 1:
            return next(iter(self.targets.values()))
        return list(dict.fromkeys(target for targets in self.targets.values() for target in targets))

    @property
    def recipients(self) -> list[Recipient]:
        """Of the message, those that it is about."""
        return [recipient for recipient in self.message.recipients if recipient.address in self.targets]
