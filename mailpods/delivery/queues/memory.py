"""What is at hand of messages that wait, so that not each is read from the spool when it is its turn."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from mailpods.delivery.destinations.base import Destination
from mailpods.delivery.queues.prefetch import FRESH_SECONDS, Prefetch
from mailpods.spool.message import MessageId, QueuedMessage
from mailpods.spool.schedule import Schedule, Whole

MAX_KEPT = 2000  # fresh messages remembered whole while they wait; others are read when it is their turn
MAX_BODIES = 64 << 20  # bytes of bodies kept in memory; others are read again when it is their turn


class Memory:
    """Of one spool. Who gets a body from here gives it back."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._prefetch = Prefetch(schedule)
        # Fresh ones that wait, whole, and where they are still to go.
        self._fresh: OrderedDict[MessageId, tuple[QueuedMessage, bytes | None, set[Destination]]]
        self._fresh = OrderedDict()
        self._bodies = 0

    def borrow(self, body: bytes, limit: int = MAX_BODIES) -> bytes | None:
        """The body, if there is room for it."""
        if self._bodies + len(body) > limit:
            return None
        self._bodies += len(body)
        return body

    def give_back(self, body: bytes | None) -> None:
        """It is of no use any more."""
        self._bodies -= len(body or b"")

    def keep(self, message: QueuedMessage, body: bytes, waiting: set[Destination]) -> None:
        """One that was just taken waits there."""
        if waiting and len(self._fresh) < MAX_KEPT:
            # Half of the room is for those that are on their way, however long others wait.
            self._fresh[message.id] = (message, self.borrow(body, MAX_BODIES // 2), waiting)

    def move(self, id: MessageId, source: Destination, to: Destination) -> None:
        """It waits there instead."""
        if id in self._fresh and source in self._fresh[id][2]:
            self._fresh[id][2].discard(source)
            self._fresh[id][2].add(to)

    def recall(
        self, id: MessageId, destination: Destination, coming: Callable[[], Sequence[MessageId]]
    ) -> Whole:
        """A message as it is now, and its body if that is at hand. `coming`: which have their turns next."""
        now = time.time()
        if id not in self._fresh or destination not in self._fresh[id][2]:
            read, body = self._prefetch.take(destination, id, coming, now)
            self._bodies += len(body or b"")
            return read, body
        kept, body, waiting = self._fresh[id]
        message: QueuedMessage | None = kept
        if now - kept.envelope.received_at > FRESH_SECONDS:
            message = self._schedule.message(id, now)  # people may have held it, or sent it elsewhere
        waiting.discard(destination)
        if not waiting:
            del self._fresh[id]
        elif body is not None:
            self._bodies += len(body)  # as each of them gives it back
        return message, body

    def forget(self, destination: Destination, id: MessageId) -> None:
        """It is on its way there."""
        self._prefetch.forget(destination, id)

    def drop(self, destination: Destination) -> None:
        """Nothing more is to go there now."""
        self._prefetch.drop(destination)
