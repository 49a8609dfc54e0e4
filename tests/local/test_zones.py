"""What zones should hold stands in statuses, and conditions say whether they do."""

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.installation import (
    EmbeddedInstallation,
    Installation,
    domain,
    mailbox,
    manifest,
    server,
    wait,
)
from tests.support.zones import Zones, zones_at

pytestmark = pytest.mark.skipif(shutil.which("knotd") is None, reason="no DNS server: ./run test installs it")
ANSWERED = 60  # seconds, in which DNS is asked anew
ADDRESS = "198.51.100.7"


@pytest.fixture(scope="module")
def zones(module_installation: Installation) -> Iterator[Zones]:
    with zones_at(module_installation.at(1)) as made:
        made.write("listed.test")
        module_installation.govern({"serverRef": {"name": "main"}, "inbound": {"resolvers": [made.resolver]}})
        yield made


@pytest.fixture(scope="module")
def installation(module_installation: Installation, zones: Zones) -> Installation:
    made = module_installation
    made.apply("server", household())
    made.start()
    made.wait_for("Mailbox", "info")
    return made


def household(**spec: Any) -> list[Any]:
    """The MailServer, with more in its spec, and what belongs to it."""
    return [server(**spec), domain("a.test", 7), *mailbox("info")]


def condition(installation: Installation, kind: str, name: str, type_: str, status: str) -> dict[str, str]:
    """A condition, once it is so."""

    def found() -> dict[str, str] | None:
        there = installation.conditions(kind, name).get(type_)
        return there if there and there["status"] == status else None

    return wait(found, ANSWERED, f"{kind} {name}: {type_} does not become {status}")


def records(installation: Installation, kind: str, name: str, zone: str) -> list[str]:
    """What the status says that a zone should hold, as lines of it."""

    def found() -> list[str] | None:
        there = installation.status(kind, name).get("dns", {}).get("records", [])
        return [f"{each['name']} {each['type']} {each['value']}" for each in there] or None

    return [line for line in wait(found, 20) if line.split()[0].endswith(f"{zone}.")]


@pytest.mark.req("R-002-31")
@pytest.mark.req_part("R-002-32")
def test_records_that_a_zone_lacks_are_listed_until_it_holds_them(
    installation: Installation, zones: Zones
) -> None:
    zones.write("zoned.test", "@ MX 10 elsewhere.test.")
    installation.apply("zoned", domain("zoned.test", 70))
    missing = condition(installation, "MailDomain", "zoned-test", "DNSComplete", "False")
    assert missing["reason"] == "RecordsMissing" and "zoned.test. MX" in missing["message"]
    installation.wait_for("MailDomain", "zoned-test")  # which needs no DNS
    wait(
        lambda: any(
            " TXT " in line for line in records(installation, "MailDomain", "zoned-test", "zoned.test")
        )
    )
    lines = records(installation, "MailDomain", "zoned-test", "zoned.test")
    zones.write("zoned.test", *lines[:-1])
    last = lines[-1].split()[0]
    wait(
        lambda: (
            last in condition(installation, "MailDomain", "zoned-test", "DNSComplete", "False")["message"]
        ),
        60,
    )
    zones.write("zoned.test", *lines)
    condition(installation, "MailDomain", "zoned-test", "DNSComplete", "True")
    installation.remove("zoned")


@pytest.mark.req("R-003-12", "R-003-14", "R-003-17")
def test_relayed_domains_are_in_dns_first_and_their_own_servers_outrank_this_one(
    installation: Installation, zones: Zones
) -> None:
    zones.write("listed.test", "@ TXT nothing")
    inbound = {"domains": [{"name": "listed", "domain": "listed.test"}]}
    installation.apply(
        "relay", manifest("RelayPolicy", "relay", {"serverRef": {"name": "main"}, "inbound": inbound})
    )
    listed = condition(installation, "RelayPolicy", "relay", "DNSReady", "False")
    assert listed["reason"] == "NoMX" and "listed.test" in listed["message"]
    (mx,) = records(installation, "RelayPolicy", "relay", "listed.test")
    assert mx == "listed.test. MX 10 mail.a.test."
    zones.write("listed.test", mx, "@ MX 20 primary", "primary A 192.0.2.1")
    wrong = condition(installation, "RelayPolicy", "relay", "MXOrder", "False")
    condition(installation, "RelayPolicy", "relay", "DNSReady", "True")
    assert wrong["reason"] == "WrongOrder" and "10 mail.a.test, 20 primary.listed.test" in wrong["message"]
    installation.wait_for("RelayPolicy", "relay")  # it warns, and refuses nothing
    zones.write("listed.test", mx, "@ MX 5 primary", "primary A 192.0.2.1")
    condition(installation, "RelayPolicy", "relay", "MXOrder", "True")
    installation.remove("relay")


@pytest.mark.req("R-003-12")
def test_the_addresses_of_the_server_s_names_are_shown_and_looked_up(
    installation: Installation, zones: Zones
) -> None:
    zones.write("a.test", "mail A 192.0.2.99")
    installation.apply("server", household(addresses=[ADDRESS]))
    wrong = condition(installation, "MailServer", "main", "DNSComplete", "False")
    assert "mail.a.test. A" in wrong["message"]
    lines = records(installation, "MailServer", "main", "a.test")
    assert lines == [f"mail.a.test. A {ADDRESS}"]
    zones.write("a.test", *lines)
    condition(installation, "MailServer", "main", "DNSComplete", "True")
    installation.apply("server", household())
    wait(lambda: "dns" not in installation.status("MailServer", "main"), 20)


def keys_of_turning(installation: Installation) -> list[str]:
    """The records of its keys."""
    lines = records(installation, "MailDomain", "turning-test", "turning.test")
    return [line for line in lines if " TXT " in line]


def _signing(installation: EmbeddedInstallation) -> set[str]:
    """The selectors of the keys that sign."""
    files = [json.loads(file.read_bytes()) for file in installation.data.rglob("bucket-*.json")]
    found = [file["domains"]["turning.test"] for file in files if "turning.test" in file.get("domains", {})]
    return {key["selector"] for each in found for key in each.get("dkim", ())}


def test_keys_change_once_dns_knows_the_new_ones(installation: EmbeddedInstallation, zones: Zones) -> None:
    spec = {"rotateDays": 31}
    installation.apply("turning", domain("turning.test", 71))
    wait(lambda: keys_of_turning(installation))
    installation.stop()
    state = json.loads((installation.data / "state.json").read_text())
    keys = state["secrets"]["t/turning-test-dkim"]
    state["secrets"]["t/turning-test-dkim"] = {f"{name[0]}202001.key": key for name, key in keys.items()}
    (installation.data / "state.json").write_text(json.dumps(state))
    installation.apply("turning", domain("turning.test", 71, dkim=spec))
    installation.start()
    wait(lambda: len(keys_of_turning(installation)) == 4, 20, "no new keys")
    first = {"r202001", "e202001"}
    coming = {line.split("._domainkey")[0] for line in keys_of_turning(installation)} - first
    time.sleep(3)
    assert _signing(installation) == first  # DNS does not know the others
    zones.write("turning.test", *keys_of_turning(installation))
    wait(lambda: _signing(installation) == coming, ANSWERED, "the new keys do not sign")
    assert len(keys_of_turning(installation)) == 4  # of the old ones signatures are still under way
