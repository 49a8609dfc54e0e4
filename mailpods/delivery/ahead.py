"""What the next turns of a busy destination need, read from the spool together.

A query for each message costs a fifth of what its delivery does. What is read ahead is believed for a moment
only: what people hold or delete meanwhile is as if it had been on its way already.
"""

from collections.abc import Callable, Sequence

from mailpods.spool.message import MessageId
from mailpods.spool.spool import Due, Spool

FRESH_SECONDS = 1.0  # that what was read is taken to be so
AT_ONCE = 32  # messages
MOST_BYTES = 16 << 20  # of bodies that wait here; beyond, each message is read when it is its turn

# None where nothing is due; None where the body is no part of the database.
Whole = tuple[Due | None, bytes | None]


class ReadAhead:
    """One for each spool."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._held: dict[str, tuple[float, dict[MessageId, Whole]]] = {}
        self._bytes = 0

    def take(
        self, destination: str, id: MessageId, coming: Callable[[], Sequence[MessageId]], now: float
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
            return self._spool.whole(id, now)
        wholes = self._spool.wholes(ids, now)
        found = wholes.pop(id, (None, None))
        self._held[destination] = (now, wholes)
        self._bytes += sum(len(body or b"") for _, body in wholes.values())
        return found

    def forget(self, destination: str, id: MessageId) -> None:
        """It is on its way there: what was read before says nothing of it any more."""
        _, there = self._held.get(destination, (0.0, {}))
        self._bytes -= len(there.pop(id, (None, None))[1] or b"")

    def drop(self, destination: str) -> None:
        """Nothing more is to go there now."""
        _, there = self._held.pop(destination, (0.0, {}))
        self._bytes -= sum(len(body or b"") for _, body in there.values())
