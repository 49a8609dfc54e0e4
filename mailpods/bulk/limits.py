"""How much the bulk pool sends: to each message its time, so that hours and days hold what they may.

A message over a limit gets the next free time, once: it waits in the spool until then, where everybody can
see it, and is not counted again.
"""

import datetime
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mailpods.directory.records import Pool

_HOUR, _DAY = 3600.0, 86400.0
BURST = 60.0  # seconds' worth of an hourly limit that may go at once, after a pause
AHEAD = 4 * _DAY  # seconds behind its arrival that a message is planned for: five days end it, tries included
POOL = ""  # whose count is the whole pool's

Counts = dict[tuple[str, str], int]  # (day, who) -> recipients


@dataclass
class _Hourly:
    """Slots of one tenant or campaign: `free` is when the next one begins, epoch seconds."""

    free: float = field(default=0.0)

    def reserve(self, count: int, per_hour: float, at: float, by: float) -> float:
        """When `count` recipients may go, not before `at`. Nothing is reserved where that is behind `by`."""
        free = max(self.free, at - BURST)
        start = max(free, at)
        if start <= by:
            self.free = free + count * _HOUR / per_hour
        return start


@dataclass(frozen=True)
class _Daily:
    """How much somebody may send on a day (YYYY-MM-DD); `name` is what people call that limit."""

    who: str  # the pool, a tenant, or a tenant and its campaign
    most: Callable[[str], float]
    name: str


class Limits:
    """One for each process of the pool, which has its share. `note` keeps a day's count on disk."""

    def __init__(self, counts: Counts, note: Callable[[str, str, int], None]) -> None:
        self._counts = counts
        self._note = note
        self._hourly: dict[str, _Hourly] = {}

    def reserve(
        self, pool: Pool, tenant: str, campaign: str, count: int, now: float, by: float
    ) -> tuple[float, str]:
        """When a message to `count` recipients of other servers may go, and which limit says so.

        A time behind `by` means that there is no room before it, and is not reserved.
        """
        days = [
            _Daily(POOL, lambda day: _warmed_up(pool, day), "the warm-up plan"),
            _Daily(tenant, lambda _: float(pool.tenant_per_day or math.inf), "the limit of a day"),
        ]
        if campaign and pool.campaign_per_day:
            most = float(pool.campaign_per_day)
            days.append(_Daily(f"{tenant} {campaign}", lambda _: most, "the day's limit of its campaign"))
        at, why = self._day_with_room(pool, days, count, now, by)
        of_campaign = pool.campaign_per_hour if campaign else 0
        for key, per_hour, name in (
            (f"tenant {tenant}", pool.tenant_per_hour, "the limit of an hour"),
            (f"campaign {tenant} {campaign}", of_campaign, "the limit of its campaign"),
        ):
            if per_hour and at <= by:
                slot = self._hourly.setdefault(key, _Hourly()).reserve(count, _share(per_hour, pool), at, by)
                if slot > at:
                    at, why = slot, name
        for who in dict.fromkeys(each.who for each in days) if at <= by else ():
            self._add(who, count, at)
        return at, why

    def _day_with_room(
        self, pool: Pool, days: list[_Daily], count: int, at: float, by: float
    ) -> tuple[float, str]:
        """The first time from `at` on whose day has room for `count` by all of them, and which said so last.
        Behind `by` none is looked for.

        A day takes one message of each at least.
        """
        why = ""
        while at <= by:
            day = day_of(at)
            full = (each for each in days if not self._has_room(pool, each, day, count))
            if (one := next(full, None)) is None:
                break
            at, why = (math.floor(at / _DAY) + 1) * _DAY, one.name
        return at, why

    def _has_room(self, pool: Pool, limit: _Daily, day: str, count: int) -> bool:
        there = self._counts.get((day, limit.who), 0)
        return not there or there + count <= _share(limit.most(day), pool)

    def _add(self, who: str, count: int, at: float) -> None:
        key = (day_of(at), who)
        self._counts[key] = self._counts.get(key, 0) + count
        self._note(*key, count)

    def forget(self, now: float) -> None:
        """Days that are over, and tenants that have been silent."""
        today = day_of(now)
        for over in [key for key in self._counts if key[0] < today]:
            del self._counts[over]
        for silent in [key for key, hourly in self._hourly.items() if hourly.free < now - _HOUR]:
            del self._hourly[silent]


def day_of(at: float) -> str:
    """YYYY-MM-DD, by UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def _share(limit: float, pool: Pool) -> float:
    """Of one process: at least one."""
    return max(limit / pool.processes, 1.0)


def _warmed_up(pool: Pool, day: str) -> float:
    """How many messages the plan allows on a day; before its start as many as on its first one."""
    if not (pool.warm_up_start and pool.warm_up):
        return math.inf
    start = datetime.date.fromisoformat(pool.warm_up_start)
    passed = max((datetime.date.fromisoformat(day) - start).days, 0)
    return float(pool.warm_up[passed]) if passed < len(pool.warm_up) else math.inf
