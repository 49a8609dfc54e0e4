"""Finds in the spool what is due, what is too old, and what may have been overlooked."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence

from mailpods.bulk.limits import Limits
from mailpods.delivery.batch import DeliveryBatch
from mailpods.delivery.client.replies import Reply
from mailpods.delivery.destinations.base import NOWHERE
from mailpods.delivery.outcomes import dsn
from mailpods.delivery.outcomes import retry as retries
from mailpods.delivery.outcomes.apply import WAITS, Outcomes
from mailpods.spool.changes import Warned
from mailpods.spool.message import MessageId, QueuedMessage
from mailpods.spool.schedule import Cursor
from mailpods.spool.spool import Spool

POLL_SECONDS = 1.0
RECENT_SECONDS, MAX_RECENT = 10.0, 100_000  # that what was found is remembered: longer than a commit takes
READ_AT_ONCE = 2000  # messages, when the spool is read
SWEEP_SECONDS = 60.0  # between looks at what is too old, and at what may have been overlooked


class Scheduler:
    """Of one spool. What it finds is given to `found`; `pump` lets it go while more is read."""

    def __init__(
        self,
        spool: Spool,
        found: Callable[[QueuedMessage], None],
        pump: Callable[[], None],
        log: Callable[[str], None],
    ) -> None:
        self._spool, self._schedule = spool, spool.schedule
        self._found, self._pump, self._log = found, pump, log
        self._recent: OrderedDict[MessageId, float] = OrderedDict()  # found a moment ago, and when
        self._seen = 0.0  # what came due until then is known
        self._woken = 0  # and what others woke by commits up to this number

    def remember(self, id: MessageId, when: float) -> None:
        """It is known, as of then."""
        self._recent[id] = when

    def knows(self, id: MessageId) -> bool:
        """Whether it was found a moment ago."""
        return id in self._recent

    def forget(self) -> None:
        """Look at everything anew."""
        self._recent.clear()

    async def read(self, now: float) -> None:
        """Find what came due since the last time. Other work goes on meanwhile."""
        # A clock that was set back must not keep anything from being found.
        after = min(self._seen, now)
        start: Cursor | None = None
        more = True
        while more:
            found, start = self._schedule.due(after, now, READ_AT_ONCE, start)
            self.note(found, now)
            more = start is not None
            self._pump()
            await asyncio.sleep(0)
        self._seen = now
        self.look_at(self._read_woken(), now)
        self._forget_recent(now)

    def _read_woken(self) -> list[MessageId]:
        ids, self._woken = self._schedule.woken(self._woken, READ_AT_ONCE)
        return ids

    def look_at(self, ids: Sequence[MessageId], now: float) -> None:
        """At messages that somebody made due: their time may lie before what was read."""
        for id in ids:
            if message := self._schedule.message(id, now):
                self._recent[id] = now
                self._found(message)

    def note(self, found: Sequence[QueuedMessage], now: float) -> None:
        """These are due."""
        for message in found:
            if self._recent.get(message.id, -1.0) >= message.next_try:
                continue
            if message.next_try > now - RECENT_SECONDS:
                self._recent[message.id] = message.next_try
            self._found(message)

    def _forget_recent(self, now: float) -> None:
        """What was found is remembered until the reading of the spool has passed it."""
        while self._recent:
            id, since = next(iter(self._recent.items()))
            if since > now - RECENT_SECONDS and len(self._recent) < MAX_RECENT:
                break
            del self._recent[id]


class Sweep:
    """Gives up what is too old, warns of what is old, and looks again at what is overdue."""

    def __init__(
        self,
        spool: Spool,
        scheduler: Scheduler,
        outcomes: Outcomes,
        limits: Limits,
        give_up: Callable[[DeliveryBatch], None],
    ) -> None:
        self._spool, self._schedule = spool, spool.schedule
        self._scheduler, self._outcomes, self._limits, self._give_up = scheduler, outcomes, limits, give_up
        self._expired = set[MessageId]()  # by the sweep before
        self._warned = 0  # number of the last message whose age was looked at

    async def run(self, now: float) -> None:
        """Once."""
        self._limits.forget(now)
        expired = set[MessageId]()
        async for message, _ in self._older(now - retries.LIFETIME, 0):
            expired.add(message.id)
            if message.id in self._expired:  # twice: a clock that was wrong for a moment ends nothing
                self._give_up(_expired(message))
        self._expired = expired
        # Each is looked at once: of a million that wait for hours, none is read every minute.
        async for message, number in self._older(now - retries.WARNED_AFTER, self._warned):
            self._warned = number
            if not message.warned:
                waits = [dsn.Failure(r, message.replies.get(r.address) or WAITS) for r in message.recipients]
                if await self._outcomes.tell(message, None, waits, "delayed"):
                    self._spool.report(Warned(message.id))
        overlooked, _ = self._schedule.due(0, now - SWEEP_SECONDS, READ_AT_ONCE)
        self._scheduler.note(overlooked, now)

    async def _older(self, received: float, start: int) -> AsyncIterator[tuple[QueuedMessage, int]]:
        """All messages of before then, behind the one of this number, each with how far that is."""
        while True:
            found, end = self._schedule.older(received, READ_AT_ONCE // 10, start)
            for message in found:
                yield message, end
            if end == start:
                return
            start = end
            await asyncio.sleep(0)


def _expired(message: QueuedMessage) -> DeliveryBatch:
    batch = DeliveryBatch(message, NOWHERE)
    for recipient in message.recipients:
        last = message.replies.get(recipient.address) or "it could not be delivered in time"
        batch.targets[recipient.address] = [recipient.address]
        batch.replies[recipient.address] = Reply(554, f"5.4.7 delivery time expired: {last}")
    return batch
