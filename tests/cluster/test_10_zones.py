"""The stories about zones of the embedded default, on a cluster: one story, two grounds."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.ground.places import NODE_IP
from tests.local.test_zones import (  # noqa: F401
    test_records_that_a_zone_lacks_are_listed_until_it_holds_them,
    test_relayed_domains_are_in_dns_first_and_their_own_servers_outrank_this_one,
)
from tests.support.installation import wait
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
