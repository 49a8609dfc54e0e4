"""DKIM keys over the years: none signs before DNS knows it, none goes while its signatures are under way."""

import datetime

import pytest
from mail_operator.compiler.dkim import signing
from mail_operator.engine.rotation import RETIRED_DAYS, rotated

from mailpods.directory.records import DkimKey

FIRST = {"r202601.key": b"1", "e202601.key": b"2"}
DAYS = 90


def make(today: datetime.date) -> dict[str, bytes]:
    return {f"r{today:%Y%m}.key": b"new", f"e{today:%Y%m}.key": b"new"}


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def after(values: dict[str, bytes], seen: set[str], today: str) -> dict[str, bytes]:
    """The Secret once it was changed."""
    merged = {**values, **rotated(values, seen, DAYS, day(today), make)}
    return {key: value for key, value in merged.items() if value is not None}


def signs(values: dict[str, bytes]) -> set[str]:
    """The selectors that sign."""
    names = (name.removesuffix(".key") for name in values if name.endswith(".key"))
    return {key.selector for key in signing([(DkimKey(n, "rsa", ""), "") for n in names], values)}


def test_a_turn_of_keys() -> None:
    values = after(FIRST, set(), "2026-03-31")
    assert values == FIRST  # 89 days after the first of January
    values = after(values, set(), "2026-04-01")
    assert signs(values) == {"r202601", "e202601"} and {"r202604.key", "e202604.key"} <= values.keys()
    assert after(values, {"r202604"}, "2026-04-02") == values  # DNS does not hold both yet
    assert after(values, {"r202601", "e202601"}, "2026-09-01") == values  # and may never: these go on
    values = after(values, {"r202604", "e202604"}, "2026-04-10")
    assert signs(values) == {"r202604", "e202604"} and FIRST.items() <= values.items()
    assert after(values, set(), "2026-04-16") == values  # what DNS says now changes nothing
    values = after(values, set(), "2026-04-17")
    assert FIRST.keys().isdisjoint(values) and signs(values) == {"r202604", "e202604"}
    assert after(values, set(), "2026-07-08") == values
    assert signs(after(values, set(), "2026-07-09")) == {"r202604", "e202604"}
    assert "r202607.key" in after(values, set(), "2026-07-09")
    assert RETIRED_DAYS == 7


def test_keys_of_the_same_month_are_not_overwritten() -> None:
    old = {**FIRST, "since": b"2025-01-01"}
    assert after(old, set(), "2026-01-20") == old
    assert "r202602.key" in after(old, set(), "2026-02-01")


@pytest.mark.parametrize(
    "values", [{"mine.key": b"1"}, {"r209913.key": b"1"}, {"mine.key": b"1", "since": b"x"}]
)
def test_keys_that_do_not_say_when_they_were_made_begin_today(values: dict[str, bytes]) -> None:
    assert after(values, set(), "2026-04-01") == {**values, "since": b"2026-04-01"}


def test_what_people_chose_to_sign_goes_on() -> None:
    values = {**FIRST, "mine.key": b"3", "active": b"mine r202601", "since": b"2026-01-01"}
    changed = after(values, set(), "2026-05-01")
    assert signs(changed) == {"mine", "r202601"}
    changed = after(changed, {"r202605", "e202605"}, "2026-05-02")
    assert changed["last"] == b"mine r202601"
    assert {"e202601.key"} <= after(
        changed, set(), "2026-05-20"
    ).keys()  # that never signed: not ours to remove
