"""What waits for a destination, and how it goes there."""

from dataclasses import dataclass, field

from prometheus_client import Counter

from mailpods.delivery.destinations.base import Destination
from mailpods.delivery.queues.fair_queue import FairQueue
from mailpods.delivery.queues.ready_queue import ReadyQueue


@dataclass
class DestinationQueue:
    """Names of messages, and the few that are on their way."""

    ready: ReadyQueue
    delivered: Counter  # copies, for metrics
    resolving: bool = False  # its site is being looked up
    waiting: FairQueue = field(default_factory=FairQueue)

    @property
    def destination(self) -> Destination:
        """Whose it is."""
        return self.ready.destination
