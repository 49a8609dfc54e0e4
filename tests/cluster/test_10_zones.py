"""What zones should hold, on a cluster: the same end-to-end test on both runtimes."""

import base64
import datetime

import pytest
from mail_operator.engine.runtime import MADE_FOR
from mail_operator.engine.secrets import make_dkim_keys

from tests.cluster.installation import LonelyInstallation, fetched
from tests.cluster.outside import NEEDED
from tests.local.test_zones import (  # noqa: F401
    ANSWERED,
    installation,
    keys_of_turning,
    test_records_that_a_zone_lacks_are_listed_until_it_holds_them,
    test_relayed_domains_are_in_dns_first_and_their_own_servers_outrank_this_one,
    test_the_addresses_of_the_server_s_names_are_shown_and_looked_up,
    zones,
)
from tests.support.installation import domain, secret, wait
from tests.support.zones import Zones

pytestmark = NEEDED
SECRET = "turning-test-dkim"


@pytest.mark.usefixtures("installation")
def test_keys_change_once_dns_knows_the_new_ones(
    module_installation: LonelyInstallation,
    zones: Zones,  # noqa: F811
) -> None:
    keys = make_dkim_keys(datetime.date(2020, 1, 1))
    zones.write("turning.test")
    there = module_installation
    given = secret(SECRET, **{name: key.decode() for name, key in keys.items()})
    given["metadata"]["labels"] = {MADE_FOR: "MailDomain"}  # handed over: what others keep is not changed
    there.apply(
        "turning",
        given,
        domain("turning.test", 71, dkim={"rotateDays": 31}),
    )

    def values() -> dict[str, str]:
        data = fetched("Secret", SECRET, there.namespace)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    coming = wait(lambda: values().get("next"), 60, "no new keys")
    assert values()["active"].split() == ["e202001", "r202001"]
    wait(lambda: len(keys_of_turning(there)) == 4, 30)
    zones.write("turning.test", *keys_of_turning(there))
    wait(lambda: values()["active"] == coming, ANSWERED, "the new keys do not sign")
    assert values()["last"].split() == ["e202001", "r202001"] and "next" not in values()
