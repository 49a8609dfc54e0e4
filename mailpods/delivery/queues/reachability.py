"""Whether a destination can be reached, and when it is tried again."""

import asyncio
from collections.abc import Callable

from mailpods.delivery import metrics
from mailpods.delivery.client.replies import Disconnected, Unwelcome
from mailpods.delivery.destinations.base import Destination

FIRST_PAUSE, LONGEST_PAUSE = 30.0, 900.0  # seconds that another's server is left alone once it is down

Paused = Callable[[Destination, float, str], None]  # for so many seconds, and why


class Reachability:
    """Of one destination: others' servers are left alone for a while, which grows; ours are probed."""

    def __init__(self, destination: Destination, log: Callable[[str], None], paused: Paused) -> None:
        self._destination, self._log, self._paused = destination, log, paused
        self.is_down = False
        self.why: Disconnected | Unwelcome = Disconnected("not tried yet")  # of the last pause
        self._pause = FIRST_PAUSE
        self._until = 0.0  # nothing is tried before, in the loop's time
        if destination.is_held_in_memory:  # others come and go, and are too many
            metrics.UNREACHABLE.labels(destination.metric).set(0)

    @property
    def is_paused(self) -> bool:
        """Whether nothing is tried now."""
        return asyncio.get_running_loop().time() < self._until

    def leave_alone(self, why: Disconnected | Unwelcome) -> bool:
        """Nothing is tried for a while. False where somebody who tried at the same time has said so."""
        if self.is_paused:
            return False
        self.why = why
        self._until = asyncio.get_running_loop().time() + self._pause
        self._paused(self._destination, self._pause, str(why))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._log(f"unreachable lane={self._destination.name} {why}")
        return True

    def reached(self) -> None:
        """A connection was opened."""
        self._until, self._pause = 0.0, FIRST_PAUSE
        self.tell(down=False)

    def tell(self, down: bool, why: str = "") -> None:
        """Whether a destination for which mail waits in memory can be reached."""
        if self._destination.is_held_in_memory and down is not self.is_down:
            self.is_down = down
            metrics.UNREACHABLE.labels(self._destination.metric).set(down)
            word = "unreachable" if down else "reachable again"
            self._log(f"{word} lane={self._destination.name} {why}".strip())
