"""Hours and days of the bulk pool hold what they may; what is over gets the next free time, once."""

import pytest

from mailpods.bulk.limits import AHEAD, Counts, Limits, day_of
from mailpods.directory.records import Pool

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC
DAY = 86400.0


def reserve(limits: Limits, pool: Pool, count: int, tenant: str = "7", campaign: str = "") -> list[float]:
    """Minutes from noon until each of so many messages may go."""
    by = NOON + AHEAD
    return [(limits.reserve(pool, tenant, campaign, 1, NOON, by)[0] - NOON) / 60 for _ in range(count)]


def limits(counts: Counts | None = None) -> Limits:
    return Limits(counts if counts is not None else {}, lambda *_: None)


def test_an_hourly_limit_spreads_evenly_and_each_tenant_has_its_own() -> None:
    pool, ours = Pool("b", tenant_per_hour=60), limits()
    assert reserve(ours, pool, 4) == [0, 0, 1, 2]  # a minute's worth at once
    assert reserve(ours, pool, 1, "8") == [0]


def test_a_campaign_does_not_hold_up_the_rest_of_its_tenant() -> None:
    pool, ours = Pool("b", campaign_per_hour=60), limits()
    assert reserve(ours, pool, 3, campaign="spring") == [0, 0, 1]
    assert reserve(ours, pool, 5) == [0] * 5
    assert reserve(ours, pool, 1, campaign="summer") == [0]


def test_a_full_day_leads_to_the_next_one_and_counts_survive() -> None:
    pool, counts = Pool("b", tenant_per_day=2), Counts()
    assert reserve(limits(counts), pool, 3) == [0, 0, 12 * 60]
    again = limits(counts)  # after a restart
    assert reserve(again, pool, 2) == [12 * 60, 36 * 60]
    assert counts[day_of(NOON), "7"] == 2 and counts[day_of(NOON + DAY), "7"] == 2


def test_a_campaign_has_days_of_its_own() -> None:
    pool, counts = Pool("b", campaign_per_day=2), Counts()
    assert reserve(limits(counts), pool, 3, campaign="spring") == [0, 0, 12 * 60]
    again = limits(counts)  # after a restart
    assert reserve(again, pool, 1, campaign="spring") == [12 * 60]
    assert reserve(again, pool, 1, campaign="summer") == reserve(again, pool, 1) == [0]
    assert reserve(again, pool, 1, "8", campaign="spring") == [0]
    _, why = again.reserve(pool, "7", "spring", 1, NOON, NOON + AHEAD)
    assert why == "the day's limit of its campaign"


def test_a_day_has_to_have_room_by_all_limits() -> None:
    pool = Pool("b", tenant_per_day=1, warm_up_start=day_of(NOON), warm_up=(5, 2, 5))
    ours = limits({(day_of(NOON + DAY), ""): 2})  # the plan of tomorrow is full
    assert reserve(ours, pool, 2) == [0, 36 * 60]


def test_a_new_address_begins_slowly() -> None:
    pool = Pool("b", warm_up_start=day_of(NOON), warm_up=(2, 3))
    times = reserve(limits(), pool, 8)
    assert times == [0, 0, *[12 * 60] * 3, *[36 * 60] * 3]  # from the third day on there is no limit
    late = Pool("b", warm_up_start="2020-01-01", warm_up=(2,))
    assert reserve(limits(), late, 8) == [0] * 8


def test_each_process_has_its_share_and_a_large_message_is_not_stuck() -> None:
    pool = Pool("b", tenant_per_day=10, processes=5)
    assert reserve(limits(), pool, 3) == [0, 0, 12 * 60]
    at, _ = limits().reserve(pool, "7", "", 1000, NOON, NOON + AHEAD)
    assert at == NOON


@pytest.mark.parametrize(
    ("pool", "recipients", "limit"),
    [
        (Pool("b", tenant_per_day=2), 1, "the limit of a day"),
        (Pool("b", warm_up_start=day_of(NOON), warm_up=(2,) * 100), 1, "the warm-up plan"),
        (Pool("b", tenant_per_hour=1), 12, "the limit of an hour"),
        (Pool("b", campaign_per_day=2, tenant_per_hour=600), 1, "the day's limit of its campaign"),
    ],
)
def test_nothing_is_planned_for_a_time_at_which_it_has_expired(
    pool: Pool, recipients: int, limit: str
) -> None:
    counts = Counts()
    ours = limits(counts)
    by = NOON + AHEAD
    answers = [ours.reserve(pool, "7", "spring", recipients, NOON, by) for _ in range(100)]
    planned = [at for at, _ in answers if at <= by]
    assert 8 <= len(planned) <= 12 and max(planned) > by - DAY
    assert answers[-1][0] > by and answers[-1][1] == limit
    assert sum(count for (_, who), count in counts.items() if who == "7") == len(planned) * recipients
    later = NOON + DAY  # what was not planned took nothing from those that come later
    assert ours.reserve(pool, "7", "spring", recipients, later, later + AHEAD)[0] <= later + AHEAD


def test_what_is_over_is_forgotten() -> None:
    pool, counts = Pool("b", tenant_per_day=5, tenant_per_hour=60), Counts()
    ours = limits(counts)
    reserve(ours, pool, 2)
    ours.forget(NOON + 2 * DAY)
    assert counts == {}
