"""How many bytes of messages under way may be kept in memory, and who has to give way when it is too much.

Strangers have a budget of their own, and whoever may relay another: nothing that comes in at port 25 makes
a login's mail wait. Once half of a budget is used up, a network may keep a quarter of it; beyond that, and
beyond the budget, the largest message of the network that keeps most is given up (452): small ones always
get through.
"""

from collections import Counter
from functools import lru_cache
from ipaddress import ip_network
from typing import Protocol

MOST = 256 << 20  # bytes, of each budget
SHARE = 4  # that part of it is one network's, once half of it is used up


class Holder(Protocol):
    """A message under way."""

    @property
    def network(self) -> str:
        """Of its client."""

    def give_up(self) -> None:
        """Keep nothing of it: it will be refused."""


@lru_cache(4096)
def network_of(ip: str) -> str:
    """The network that counts as one: what one household or one attacker's machine has."""
    try:
        return str(ip_network(f"{ip}/{64 if ':' in ip else 24}", strict=False))
    except ValueError:
        return ip


class Budget:
    """Of one kind of clients. `most` is in bytes."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.held = 0
        self._holders: dict[Holder, int] = {}
        self._networks: Counter[str] = Counter()

    def note(self, holder: Holder, kept: int) -> None:
        """The holder keeps so many bytes now; somebody has to give way if that is too much."""
        change = kept - self._holders.get(holder, 0)
        if not change:
            return
        self._holders[holder] = kept
        self._networks[holder.network] += change
        self.held += change
        if change > 0:
            self._make_room(holder.network)

    def release(self, holder: Holder) -> None:
        """The holder keeps nothing any more."""
        kept = self._holders.pop(holder, None)
        if kept is None:  # a message that came at once, as most do
            return
        self.held -= kept
        self._networks[holder.network] -= kept
        if not self._networks[holder.network]:
            del self._networks[holder.network]

    def _make_room(self, network: str) -> None:
        # One message alone is never too much: the limit of messages is what bounds that.
        share_counts = self.held > self.most // 2 and self._count_of(network) > 1
        if share_counts and self._networks[network] > self.most // SHARE:
            self._give_up_largest(network)
        while self.held > self.most and len(self._holders) > 1:
            self._give_up_largest(self._networks.most_common(1)[0][0])

    def _count_of(self, network: str) -> int:
        return sum(1 for holder, kept in self._holders.items() if kept and holder.network == network)

    def _give_up_largest(self, network: str) -> None:
        candidates = [holder for holder in self._holders if holder.network == network]
        largest = max(candidates, key=lambda holder: self._holders[holder])
        self.release(largest)
        largest.give_up()


class Budgets:
    """Those of one worker."""

    def __init__(self, most: int = MOST) -> None:
        self.strangers, self.senders = Budget(most), Budget(most)

    def of(self, may_relay: bool) -> Budget:
        """The one that a client's messages count against."""
        return self.senders if may_relay else self.strangers
