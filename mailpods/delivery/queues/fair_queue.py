"""What waits for one destination: a queue for each tenant, and turns among them."""

from collections import OrderedDict, deque
from itertools import islice

from mailpods.spool.message import MessageId

Tenant = str  # number of a domain that is served here, or "" for the rest of the world


class FairQueue:
    """Each tenant gives one message in turn, its oldest: ten of one are not behind 100,000 of another.

    Messages are named, not held: a million of them are some 160 MiB.
    """

    def __init__(self) -> None:
        self._queues: OrderedDict[Tenant, deque[MessageId]] = OrderedDict()  # the next one's turn first
        self._there: set[MessageId] = set()

    def add(self, tenant: Tenant, message: MessageId) -> None:
        """At the end of the tenant's queue, unless it waits already."""
        if message in self._there:
            return
        self._there.add(message)
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = deque()
        queue.append(message)

    def add_first(self, tenant: Tenant, message: MessageId) -> None:
        """At the front: it had its turn, and could not go."""
        if message not in self._there:
            self._there.add(message)
            self._queues.setdefault(tenant, deque()).appendleft(message)

    def next(self) -> MessageId:
        """Take the next one. Raises KeyError if nothing waits."""
        return self.next_of()[1]

    def next_of(self) -> tuple[Tenant, MessageId]:
        """The same, and whose it is."""
        tenant, queue = self._queues.popitem(last=False)
        message = queue.popleft()
        if queue:
            self._queues[tenant] = queue
        self._there.discard(message)
        return tenant, message

    def coming(self, most: int) -> list[MessageId]:
        """Those that have their turns next, so many at most, as long as nothing is added."""
        found: list[MessageId] = []
        for turn in range(most):
            round_ = [queue[turn] for queue in islice(self._queues.values(), most) if turn < len(queue)]
            found += round_[: most - len(found)]
            if not round_ or len(found) == most:
                break
        return found

    def __len__(self) -> int:
        return len(self._there)

    def tenants(self) -> dict[Tenant, int]:
        """How many messages of each tenant wait."""
        return {tenant: len(queue) for tenant, queue in self._queues.items()}
