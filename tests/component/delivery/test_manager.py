"""What waits is sent in turn: by destination, by tenant, again after a start, or back to its sender."""

import asyncio
import time
from pathlib import Path
from unittest.mock import patch

from mailpods.delivery.client.connection import Connection, Target
from mailpods.delivery.destinations import mx
from mailpods.delivery.destinations.mx import Site
from mailpods.delivery.outcomes import retry
from mailpods.delivery.queues import manager, reachability
from mailpods.dns.records import MailHost
from tests.support.deliveries import Behaviour, Harness, run, until
from tests.support.peer import HANG, Peer


def test_ten_messages_of_one_tenant_are_not_behind_the_thousands_of_another(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        for n in range(1500):
            await harness.take(f"many{n}@far.test", account="7/info")
        for n in range(10):
            await harness.take(f"few{n}@far.test", account="8/anna", sender="anna@b.test")
        harness.start()
        there = peers["far.test"]
        await until(lambda: len(there.taken) == 1510)
        last = max(n for n, address in enumerate(there.recipients()) if address.startswith("few"))
        assert last < 100
        await until(lambda: harness.queue == [])
        assert len(set(there.recipients())) == 1510

    run(tmp_path, scenario)


def test_what_has_several_turns_goes_once(tmp_path: Path) -> None:
    """The sweep looks again at what is overdue, and may find it while it is on its way."""

    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        for n in range(400):
            await harness.take(f"x{n}@far.test")
        harness.start()
        there = peers["far.test"]
        while len(there.recipients()) < 400:
            if len(there.recipients()) > 200:  # it takes many at a time by now
                harness.look_again(40)
            await asyncio.sleep(0)
        await until(lambda: harness.queue == [])
        await asyncio.sleep(1)
        assert len(there.recipients()) == len(set(there.recipients())) == 400

    run(tmp_path, scenario)


def test_destinations_that_hang_or_defer_hold_up_nobody(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        harness.start()
        for n in range(300):
            for domain in ("hangs.test", "defers.test"):
                await harness.take(f"x{n}@{domain}")
        for n in range(50):
            await harness.take(f"x{n}@far.test", "info@a.test")
        await until(lambda: len(peers["far.test"].taken) == len(store.taken) == 50)
        assert peers["hangs.test"].open == 1  # nobody waits there in numbers
        assert peers["hangs.test"].taken == peers["defers.test"].taken == []

    hangs: Behaviour = {"says": {"CONNECT": HANG}}
    defers: Behaviour = {"says": {"RCPT": "450 4.2.0 later"}}
    run(tmp_path, scenario, ("far.test", "hangs.test", "defers.test"), hangs=hangs, defers=defers)


def test_a_server_gets_more_connections_as_it_proves_to_take_them(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        for n in range(400):
            await harness.take(f"x{n}@far.test")
        harness.start()
        await until(lambda: len(peers["far.test"].taken) == 400)
        assert 3 < peers["far.test"].most <= 20

    run(tmp_path, scenario)


def test_what_leads_to_several_places_reaches_each_once(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        harness.start()
        for _ in range(20):
            await harness.take("both@a.test", "info@a.test", account=None)
        await until(lambda: harness.queue == [])
        assert peers["far.test"].recipients() == ["x@far.test"] * 20
        assert store.recipients().count("7/info") == 40  # as a target of both@, and by itself

    run(tmp_path, scenario)


def test_a_start_finds_what_was_left_and_what_is_put_off_comes_again(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        there = peers["far.test"]
        there.says["RCPT"] = "450 4.2.0 later"
        with patch.object(retry, "FIRST_RETRY", 2.0):
            await harness.take("left@far.test")
            harness.start()
            await until(lambda: harness.queue[0]["attempts"] == 1)
            assert harness.queue[0]["reply"] == "450 4.2.0 later"
            del there.says["RCPT"]
            await until(lambda: there.recipients() == ["left@far.test"])
            await until(lambda: harness.queue == [])

    run(tmp_path, scenario)


def test_after_five_days_the_sender_gets_it_back_with_the_last_reply(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        with patch.object(manager, "SWEEP_SECONDS", 1.0), patch.object(retry, "LIFETIME", 3.0):
            harness.start()
            await harness.take("old@far.test")
            await until(lambda: any("reply='450 4.2.0 later'" in line for line in harness.log))
            await until(lambda: store.recipients() == ["7/info"])
        (_, _, text) = store.taken[0]
        assert b"Action: failed" in text and b"delivery time expired: 450 4.2.0 later" in text
        await until(lambda: harness.queue == [])

    run(tmp_path, scenario, far={"says": {"RCPT": "450 4.2.0 later"}})


def test_a_sender_hears_once_that_a_message_waits(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        with patch.object(manager, "SWEEP_SECONDS", 0.5):
            harness.start()
            await harness.take("slow@far.test", at=time.time() - 5 * 3600)
            await until(lambda: store.taken)
            await asyncio.sleep(3)
        assert len(store.taken) == 1 and b"Action: delayed" in store.taken[0][2]
        assert [each["recipient"] for each in harness.queue] == ["slow@far.test"]

    run(tmp_path, scenario, far={"says": {"RCPT": "450 4.2.0 later"}})


def test_where_our_login_is_refused_mail_is_held_its_sender_told_and_nothing_hammered(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        harness.start()
        for n in range(30):
            await harness.take(f"x{n}@far.test")
        await until(lambda: len(store.taken) >= 1)
        await asyncio.sleep(2)
        assert len(harness.queue) == 30  # nothing came back, nothing went
        assert b"our login was refused: 535 5.7.8 wrong" in store.taken[0][2]
        assert b"Action: delayed" in store.taken[0][2]
        assert len(store.taken) <= 2
        assert peers["far.test"].commands["AUTH"] <= 2

    far: Behaviour = {"says": {"AUTH": "535 5.7.8 wrong"}, "extensions": ("PIPELINING", "AUTH PLAIN")}
    run(tmp_path, scenario, far=far)


def test_while_a_destination_is_down_its_mail_waits_and_is_not_tried_one_by_one(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        with patch.object(reachability, "FIRST_PAUSE", 1.0):
            harness.start()
            for n in range(200):
                await harness.take(f"x{n}@far.test")
            await asyncio.sleep(3)
            tried = sum(bool(each["attempts"]) for each in harness.queue)
            assert 0 < tried < 20
            del peers["far.test"].says["CONNECT"]
            await until(lambda: len(set(peers["far.test"].recipients())) >= 180)

    run(tmp_path, scenario, far={"says": {"CONNECT": "421 4.3.2 closed"}})


def test_a_forward_leaves_under_an_address_of_ours_and_its_bounce_finds_back(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        harness.start()
        await harness.take("both@a.test", account=None, sender="x@sender.test")
        await harness.take("y@far.test", account="7/info")  # an own user's is no forward
        await until(lambda: len(peers["far.test"].taken) == 2)
        senders = {to[0]: sender for sender, to, _ in peers["far.test"].taken}
        assert senders["y@far.test"] == "info@a.test"
        assert senders["x@far.test"].startswith("SRS0=") and senders["x@far.test"].endswith("@a.test")
        await harness.take(senders["x@far.test"].lower(), account=None, sender="")
        await until(lambda: peers["sender.test"].taken)
        assert peers["sender.test"].recipients() == ["x@sender.test"]
        assert [sender for sender, _, _ in store.taken] == ["x@sender.test"]  # within the harness as it came

    run(tmp_path, scenario, ("far.test", "sender.test"))


def test_domains_of_one_server_share_its_connections(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        there = peers["far.test"]
        sites: list[str] = []

        async def site_of(domain: str, *_: object) -> Site:
            sites.append(domain)
            await asyncio.sleep(0.05)
            return Site((MailHost(10, "mx.far.test"),))

        async def best(*_: object) -> Connection:
            return await Connection.open(Target("127.0.0.1", there.port, "mx.a.test"))

        with patch.object(manager, "site_of", site_of), patch.object(mx, "best", best):
            for n in range(300):
                await harness.take(f"x{n}@d{n % 100}.test")
            harness.start()
            await harness.take("fresh@d1.test")
            await until(lambda: len(there.taken) == 301)
        assert len(sites) == len(set(sites)) == 100
        assert there.most <= 20
        await until(lambda: harness.queue == [])
        assert len(set(there.recipients())) == 301

    run(tmp_path, scenario)


def test_a_clock_that_is_wrong_for_a_moment_gives_nothing_up(tmp_path: Path) -> None:
    async def scenario(harness: Harness, peers: dict[str, Peer], store: Peer) -> None:
        harness.start()
        await harness.take("x@far.test")
        await until(lambda: harness.queue and harness.queue[0]["attempts"] == 1)
        assert harness.manager
        ahead, now = time.time() + 6 * 86400, time.time()
        for at in (ahead, now, ahead):
            await harness.manager._sweep.run(at)
        await asyncio.sleep(0.3)
        assert not any(b"Action: failed" in text for _, _, text in store.taken)
        assert [each["recipient"] for each in harness.queue] == ["x@far.test"]
        await harness.manager._sweep.run(ahead)
        await until(lambda: any(b"Action: failed" in text for _, _, text in store.taken))

    run(tmp_path, scenario, far={"says": {"RCPT": "450 4.2.0 later"}})
