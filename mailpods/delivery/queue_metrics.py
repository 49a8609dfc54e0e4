"""What waits in the spools as metrics: how many recipients and since when, by tenant, domain and class."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client.core import GaugeMetricFamily

from mailpods.delivery.outcomes import response_classes
from mailpods.spool.view import Group, QueueView

MOST = 50  # tenants, and domains, that have series of their own: those for which most waits
OTHERS = "other"
SHARE = 0.05  # of one core that counting may take: a million recipients take seconds


@dataclass(frozen=True)
class _Grouping:
    label: str
    meaning: str
    recipients: str  # names of its metrics
    oldest: str
    of: Callable[[Group], str]


_GROUPINGS = (
    _Grouping(
        "tenant",
        "number of the sender's domain, none for strangers",
        "mail_queue_tenant_recipients",
        "mail_queue_tenant_oldest_seconds",
        lambda group: group.tenant or "none",
    ),
    _Grouping(
        "domain",
        "of the recipients, local for mailboxes",
        "mail_queue_domain_recipients",
        "mail_queue_domain_oldest_seconds",
        lambda group: group.domain or "local",
    ),
    _Grouping(
        "class",
        "what the last reply means, or new, held, limited",
        "mail_queue_class_recipients",
        "mail_queue_class_oldest_seconds",
        lambda group: group.state,
    ),
)
_class_of = lru_cache(10_000)(response_classes.of_text)


class Census:
    """Counts when somebody asks, and not again before that would cost more than its share."""

    def __init__(self, views: Callable[[], Iterable[QueueView]]) -> None:
        self._views = views
        self._groups: list[Group] = []
        self._next = 0.0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Two families for each way of grouping."""
        began = time.monotonic()
        if began >= self._next:
            self._groups = [group for view in self._views() for group in view.groups(_class_of)]
            now = time.monotonic()
            self._next = now + (now - began) / SHARE
        for grouping in _GROUPINGS:
            yield from self._families(grouping)

    def _families(self, by: _Grouping) -> Iterator[GaugeMetricFamily]:
        sizes: Counter[str] = Counter()
        for group in self._groups:
            sizes[by.of(group)] += group.recipients
        shown = {name for name, _ in sizes.most_common(MOST)}
        counts: Counter[str] = Counter()
        oldest: dict[str, float] = {}
        for group in self._groups:
            name = by.of(group) if by.of(group) in shown else OTHERS
            counts[name] += group.recipients
            oldest[name] = min(oldest.get(name, group.oldest), group.oldest)
        now, suffix = time.time(), f"by {by.label}: {by.meaning}."
        waiting = GaugeMetricFamily(by.recipients, f"Recipients that wait, {suffix}", labels=[by.label])
        age = GaugeMetricFamily(
            by.oldest, f"Age of the oldest message that waits, {suffix}", labels=[by.label]
        )
        for name in sorted(counts):
            waiting.add_metric([name], counts[name])
            age.add_metric([name], max(0.0, now - oldest[name]))
        yield from (waiting, age)
