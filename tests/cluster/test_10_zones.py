"""The stories about zones of the embedded default, on a cluster: one story, two grounds."""

import base64
import datetime
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mail_operator.secrets import make_dkim_keys

from tests.cluster.conftest import household
from tests.cluster.ground.places import NODE_IP
from tests.cluster.house import ClusterHouse, fetched
from tests.local.test_zones import (  # noqa: F401
    ANSWERED,
    keys_of_turning,
    test_records_that_a_zone_lacks_are_listed_until_it_holds_them,
    test_relayed_domains_are_in_dns_first_and_their_own_servers_outrank_this_one,
    test_the_addresses_of_the_server_s_names_are_shown_and_looked_up,
)
from tests.support.installation import domain, secret, wait
from tests.support.zones import Zones, is_served, zone_file

pytestmark = pytest.mark.skipif("MAILPODS_ZONES" not in os.environ, reason="its DNS serves no zones of ours")


class ClusterZones(Zones):
    """By the DNS server of the process cluster, which looks into a folder every now and then."""

    def __init__(self) -> None:
        self._folder = Path(os.environ["MAILPODS_ZONES"])
        self._written: set[Path] = set()

    def write(self, zone: str, *records: str) -> None:
        serial, file = int(time.time()), self._folder / f"db.{zone}"
        file.write_text(zone_file(records, serial, NODE_IP))
        self._written.add(file)
        wait(lambda: is_served(NODE_IP, 53, zone, serial), 120, f"{zone} is not served")

    def remove(self) -> None:
        """All of them."""
        for file in self._written:
            file.unlink()


@pytest.fixture(scope="module")
def zones() -> Iterator[ClusterZones]:
    made = ClusterZones()
    yield made
    made.remove()


def test_keys_change_once_dns_knows_the_new_ones(house: ClusterHouse, zones: Zones) -> None:
    keys = make_dkim_keys(datetime.date(2020, 1, 1))
    zones.write("turning.test")
    house.apply(
        "turning",
        secret("turning-test-dkim", **{name: key.decode() for name, key in keys.items()}),
        domain("turning.test", 71, dkim={"rotateDays": 31}),
    )

    def values() -> dict[str, str]:
        data = fetched("Secret", "turning-test-dkim")["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    coming = wait(lambda: values().get("next"), 60, "no new keys")
    assert values()["active"].split() == ["e202001", "r202001"]
    wait(lambda: len(keys_of_turning(house)) == 4, 30)
    zones.write("turning.test", *keys_of_turning(house))
    wait(lambda: values()["active"] == coming, ANSWERED, "the new keys do not sign")
    assert values()["last"].split() == ["e202001", "r202001"] and "next" not in values()
    house.remove("turning")


@pytest.fixture
def main() -> Callable[..., list[Any]]:
    """What the house's server is applied with, given more of its spec."""
    return household
