"""Which messages are under way where, from the moment they are sent until what became of them is on disk."""

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

from mailpods.spool.message import MessageId

Destination = TypeVar("Destination", bound=Hashable)


class Leases(Generic[Destination]):
    """One for each spool: nothing goes twice to a destination at a time."""

    def __init__(self) -> None:
        self._under_way: set[tuple[MessageId, Destination]] = set()
        self._asked_again: set[tuple[MessageId, Destination]] = set()
        self._by_message: Counter[MessageId] = Counter()

    def __len__(self) -> int:
        return len(self._under_way)

    def take(self, id: MessageId, destination: Destination) -> None:
        """It goes there now."""
        key = (id, destination)
        if key not in self._under_way:
            self._under_way.add(key)
            self._by_message[id] += 1

    def is_taken(self, id: MessageId, destination: Destination) -> bool:
        """Whether it is under way there."""
        return (id, destination) in self._under_way

    def holds(self, id: MessageId) -> bool:
        """Whether any of it is under way."""
        return id in self._by_message

    def look_again(self, id: MessageId, destination: Destination) -> None:
        """There is more of it to do, once what is under way is over."""
        self._asked_again.add((id, destination))

    def give_back(self, id: MessageId, destination: Destination) -> bool:
        """It is over. Whether somebody asked for another look meanwhile."""
        key = (id, destination)
        if key in self._under_way:
            self._under_way.discard(key)
            self._by_message[id] -= 1
            if not self._by_message[id]:
                del self._by_message[id]
        again = key in self._asked_again
        self._asked_again.discard(key)
        return again
