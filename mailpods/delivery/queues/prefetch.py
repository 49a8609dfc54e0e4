"""What the next turns of a busy destination need, read from the spool together.

A query for each message costs a fifth of what its delivery does. What is read ahead is believed for a moment
only: what people hold or delete meanwhile is as if it had been on its way already.
"""

from collections.abc import Callable, Hashable, Sequence

from mailpods.spool.message import MessageId
from mailpods.spool.schedule import Schedule, Whole

FRESH_SECONDS = 1.0  # that what was read is taken to be so
AT_ONCE = 32  # messages
MOST_BYTES = 16 << 20  # of bodies that wait here; beyond, each message is read when it is its turn


class Prefetch:
    """One for each spool."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._held: dict[Hashable, tuple[float, dict[MessageId, Whole]]] = {}
        self._bytes = 0

    def take(
        self, destination: Hashable, id: MessageId, coming: Callable[[], Sequence[MessageId]], now: float
    ) -> Whole:
        """A message whose turn it is. `coming` says which have theirs after it, if they are worth it."""
        read_at, there = self._held.get(destination, (0.0, {}))
        if id in there and 0 <= now - read_at < FRESH_SECONDS:
            found = there.pop(id)
            self._bytes -= len(found[1] or b"")
            return found
        self.drop(destination)
        ids = [id, *coming()] if self._bytes < MOST_BYTES else [id]
        if len(ids) == 1:
            return self._schedule.whole(id, now)
        wholes = self._schedule.wholes(ids, now)
        found = wholes.pop(id, (None, None))
        self._held[destination] = (now, wholes)
        self._bytes += sum(len(body or b"") for _, body in wholes.values())
        return found

    def forget(self, destination: Hashable, id: MessageId) -> None:
        """It is on its way there: what was read before says nothing of it any more."""
        _, there = self._held.get(destination, (0.0, {}))
        self._bytes -= len(there.pop(id, (None, None))[1] or b"")

    def drop(self, destination: Hashable) -> None:
        """Nothing more is to go there now."""
        _, there = self._held.pop(destination, (0.0, {}))
        self._bytes -= sum(len(body or b"") for _, body in there.values())
