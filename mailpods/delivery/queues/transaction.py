"""The copies of one message for one destination, as a ready queue holds them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mailpods.delivery.client.connection import Mail
from mailpods.delivery.client.replies import Reply

TRUSTED_SECONDS = 2.0  # that a transaction is taken to be wanted as it was when it was put


class Gone(Exception):
    """An administrator deleted the message."""


class Withdrawn(Exception):
    """It is not wanted as it is any more: held, sent elsewhere, or of an account that moved."""


@dataclass(eq=False)
class Transaction:
    """`done` gets a reply for each recipient, or None where it was not tried and is given back."""

    sender: str
    recipients: Sequence[str]
    body: Callable[[], bytes]  # read when it is its turn; raises KeyError if the message is gone
    done: Callable[[list[Reply] | None], None]
    eight_bit: bool = False
    utf8: bool = False
    is_current: Callable[[], bool] = lambda: True  # asked before it goes, where it waited
    connection_failures: int = 0
    next_in_order: "Transaction | None" = None  # goes right behind it, to its recipients
    since: float = field(default_factory=time.monotonic)

    def mail(self) -> Mail:
        """What a connection takes. Raises Gone, Withdrawn, and what reading the body raises."""
        if time.monotonic() - self.since > TRUSTED_SECONDS and not self.is_current():
            raise Withdrawn
        try:
            body = self.body()
        except KeyError as error:
            raise Gone from error
        return Mail(self.sender, self.recipients, body, self.eight_bit, self.utf8)

    def replies(self, reply: Reply) -> list[Reply]:
        """The same one for each recipient."""
        return [reply] * len(self.recipients)
