"""One message at a time for each recipient, in the order in which they came."""

from collections import deque
from collections.abc import Iterator

from mailpods.delivery.queues.transaction import Transaction


class InOrder:
    """Which recipients are under way, and what waits for them. Of a destination that takes several messages
    for one recipient at a time (`one_each` False) nobody waits here."""

    def __init__(self, one_each: bool) -> None:
        self._one_each = one_each
        self._held: dict[str, deque[Transaction]] = {}

    def take(self, transaction: Transaction) -> bool:
        """Whether it may go now; or else it waits here for one that is under way."""
        if not self._one_each:
            return True
        for recipient in transaction.recipients:
            if recipient in self._held:
                self._held[recipient].append(transaction)
                return False
        self._held.update((recipient, deque()) for recipient in transaction.recipients)
        return True

    def release(self, transaction: Transaction) -> Iterator[Transaction]:
        """It is over: those that waited for it, to be taken again as they come."""
        if not self._one_each:
            return
        kept = transaction.next_in_order.recipients if transaction.next_in_order else ()
        for recipient in transaction.recipients:
            if recipient in kept:
                continue
            waiting = self._held.pop(recipient, deque())
            while waiting and recipient not in self._held:  # one of several recipients may wait elsewhere
                yield waiting.popleft()
            if waiting:
                self._held[recipient].extendleft(reversed(waiting))

    def behind(self, transaction: Transaction) -> Transaction | None:
        """One that goes right behind it, to its recipients."""
        for recipient in transaction.recipients if self._one_each else ():
            waiting = self._held[recipient]
            if waiting and set(waiting[0].recipients) <= set(transaction.recipients):
                transaction.next_in_order = waiting.popleft()
                return transaction.next_in_order
        return None

    def put_back(self, transaction: Transaction) -> None:
        """What was to go behind another waits where it waited."""
        self._held[transaction.recipients[0]].appendleft(transaction)

    def give_up(self, transactions: list[Transaction]) -> list[Transaction]:
        """These were taken and do not go after all: they, and all that waits for anything."""
        given = list(transactions)
        for transaction in transactions:
            for recipient in transaction.recipients:
                given += self._held.pop(recipient, ())
        for waiting in self._held.values():
            given += waiting
            waiting.clear()
        return given
