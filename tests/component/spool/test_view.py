"""What administrators do to what waits: hold, release, divert, delete, and what they see."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailpods.directory.records import AccountId, Address
from mailpods.spool.changes import Paused
from mailpods.spool.message import DeliveryResult, Envelope, MessageId, Recipient
from mailpods.spool.spool import Spool
from mailpods.spool.view import QueueView
from tests.support.installation import wait


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool.open(tmp_path)
    yield made
    made.close()


def take(spool: Spool, *to: str, sender: str = "info@a.test", account: str | None = "7/info") -> MessageId:
    recipients = tuple(Recipient(Address(each)) for each in to)
    envelope = Envelope(sender, recipients, time.time(), account=AccountId(account) if account else None)
    return asyncio.run(spool.accept(envelope, b"hello\r\n"))


def due(spool: Spool) -> set[str]:
    found, _ = spool.schedule.due(0, time.time() + 1, 100)
    return {recipient.address for each in found for recipient in each.recipients}


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({"domain": "far.test"}, {"x@far.test"}),
        ({"address": "y@near.test"}, {"y@near.test"}),
        ({"sender": "anna@b.test"}, {"y@near.test"}),
        ({"sender": "b.test"}, {"y@near.test"}),
        ({"tenant": "7"}, {"x@far.test", "z@near.test"}),
        ({"tenant": "7", "domain": "near.test"}, {"z@near.test"}),
    ],
)
def test_what_is_held_does_not_go_until_it_is_released(
    spool: Spool, tmp_path: Path, which: dict[str, str], expected: set[str]
) -> None:
    take(spool, "x@far.test", "z@near.test")
    take(spool, "y@near.test", sender="anna@b.test", account="8/anna")
    view, everything = QueueView(tmp_path), due(spool)
    assert view.hold(which) == len(expected)
    assert due(spool) == everything - expected
    assert view.hold(which) == 0
    assert view.release(which) == len(expected)
    assert due(spool) == everything


def test_what_waits_is_counted_by_sender_s_domain_recipients_domain_and_reason(
    spool: Spool, tmp_path: Path
) -> None:
    first = take(spool, "x@far.test", "y@Far.test", "z@near.test")
    take(spool, "8/anna", sender="x@elsewhere.test", account=None)
    view = QueueView(tmp_path)
    spool.report(DeliveryResult(first, Address("z@near.test"), time.time() + 60, "451 4.7.1 greylisted"))
    view.hold({"address": "x@far.test"})

    def groups() -> dict[tuple[str, str, str], int]:
        found = view.groups(lambda reply: reply.split()[-1])
        assert all(time.time() - 60 < group.oldest < time.time() for group in found)
        return {(group.tenant, group.domain, group.state): group.recipients for group in found}

    expected = {
        ("7", "far.test", "held"): 1,
        ("7", "far.test", "new"): 1,
        ("7", "near.test", "greylisted"): 1,
        ("", "", "new"): 1,
    }
    end = time.monotonic() + 10
    while groups() != expected and time.monotonic() < end:  # the report is written soon
        time.sleep(0.05)
    assert groups() == expected


def test_a_report_that_comes_late_does_not_end_a_hold(spool: Spool, tmp_path: Path) -> None:
    id, view = take(spool, "x@far.test"), QueueView(tmp_path)
    view.hold({"id": id})
    spool.report(DeliveryResult(id, Address("x@far.test"), time.time(), "450 later"))
    time.sleep(0.3)
    assert due(spool) == set()
    found, _ = spool.schedule.older(time.time() + 60, 10)
    assert found == []  # nor does it expire


def test_trying_now_lets_nothing_go_that_is_held(spool: Spool, tmp_path: Path) -> None:
    take(spool, "x@far.test", "y@far.test")
    view = QueueView(tmp_path)
    view.hold({"address": "x@far.test"})
    assert view.retry({"domain": "far.test"}) == 1
    assert due(spool) == {"y@far.test"}


def test_all_that_waits_is_counted_however_many_are_shown(spool: Spool, tmp_path: Path) -> None:
    take(spool, *(f"x{n}@far.test" for n in range(5)))
    take(spool, "y@near.test")
    view = QueueView(tmp_path)
    assert len(view.queue({"domain": "far.test"}, 3)) == 3
    assert view.count({"domain": "far.test"}) == 5 and view.count({}) == 6


@pytest.mark.parametrize("tenant", ["x", "a.test", "-7", "\u0667", ""])
def test_a_tenant_is_a_number(spool: Spool, tmp_path: Path, tenant: str) -> None:
    take(spool, "x@far.test")
    for look in (QueueView.delete, QueueView.retry, QueueView.queue, QueueView.count):
        with pytest.raises(ValueError, match="number"):
            look(QueueView(tmp_path), {"tenant": tenant})
    assert due(spool) == {"x@far.test"}


def test_mail_for_a_store_that_is_down_says_why_and_until_when(spool: Spool, tmp_path: Path) -> None:
    take(spool, "7/info", "alias@a.test", "8/anna")
    until = time.time() + 300
    spool.report(Paused("shard-0", until, "connection refused"))
    spool.report(Paused("smarthost", until, "its own fault"))

    def shown() -> dict[str, str]:
        places = {"7/info": "shard-0", "alias@a.test": "shard-0", "8/anna": "shard-1"}
        found = QueueView(tmp_path).queue({}, destination_of=places.__getitem__)
        return {each["recipient"]: each["reply"] for each in found}

    wait(lambda: any(shown().values()), 10)
    assert shown() == {"7/info": "connection refused", "alias@a.test": "connection refused", "8/anna": ""}


def test_what_is_diverted_keeps_its_first_address_as_the_original(spool: Spool, tmp_path: Path) -> None:
    id, view = take(spool, "x@far.test", "y@far.test"), QueueView(tmp_path)
    assert view.divert({"address": "x@far.test"}, "z@near.test") == 1
    assert due(spool) == {"z@near.test", "y@far.test"}
    found = spool.schedule.message(id, time.time() + 1)
    assert found is not None
    assert {str(r.address): r.original for r in found.recipients}["z@near.test"] == "x@far.test"
    assert view.divert({"id": id}, "z@near.test") == 1  # both are one now
    assert due(spool) == {"z@near.test"}


def test_a_destination_that_is_left_alone_says_until_when_and_why(spool: Spool, tmp_path: Path) -> None:
    take(spool, "x@far.test", "y@near.test")
    until = time.time() + 300
    spool.report(Paused("@far.test", until, "connection refused"))
    time.sleep(0.3)
    shown = {each["recipient"]: each for each in QueueView(tmp_path).queue({})}
    assert shown["x@far.test"]["next_try"] == until and shown["x@far.test"]["reply"] == "connection refused"
    assert shown["y@near.test"]["reply"] == ""


def test_what_nobody_chose_is_not_touched(tmp_path: Path, spool: Spool) -> None:
    take(spool, "x@far.test")
    for change in (QueueView.hold, QueueView.release, QueueView.delete, QueueView.retry):
        with pytest.raises(ValueError, match="say which"):
            change(QueueView(tmp_path), {})
        with pytest.raises(ValueError, match="say which"):
            change(QueueView(tmp_path), {"colour": "red"})
    assert due(spool) == {"x@far.test"}
