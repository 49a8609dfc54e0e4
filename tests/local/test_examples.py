"""The examples do what their first lines say. Names of the Internet are those of servers on loopback here."""

import smtplib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.hub import smarthost
from tests.support.installation import HOST, EmbeddedInstallation, message, wait
from tests.support.world import world

EXAMPLES = Path(__file__).parents[2] / "examples"
SINK = 131


def example(name: str, **replaced: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its manifests; `replaced`: kind -> fields of its spec that are others on this machine."""
    files = sorted((EXAMPLES / name).glob("*.yaml"))
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    for document in documents:
        if document["kind"] in replaced:
            _merge(document["spec"], replaced[document["kind"]])
    return documents


def _merge(into: dict[str, Any], fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


@pytest.fixture
def installation(installations: Callable[[], EmbeddedInstallation]) -> EmbeddedInstallation:
    return installations()


def started(installation: EmbeddedInstallation, documents: list[dict[str, Any]]) -> None:
    installation.apply("example", *documents)
    installation.start()
    for document in documents:
        if document["kind"] in ("MailDomain", "Mailbox", "RelayPolicy"):
            installation.wait_for(document["kind"], document["metadata"]["name"])


def test_the_newsletter_leaves_by_the_pool(installation: EmbeddedInstallation) -> None:
    zones = ("mx-host=sink.test,mx.sink.test,10", f"host-record=mx.sink.test,{{net}}.{SINK}")
    with world(installation.net, *zones, sinks=[SINK]) as outside:
        policy = {"serverRef": {"name": "main"}, "inbound": {"resolvers": [outside.resolver]}}
        resolver = {
            "apiVersion": "mailpods.io/v1alpha1",
            "kind": "RelayPolicy",
            "metadata": {"name": "here", "namespace": "shop"},
            "spec": policy,
        }
        started(installation, [*example("newsletter"), resolver])
        with smtplib.SMTP(HOST, installation.port("bulk-submit")) as client:
            client.starttls(context=installation.tls())
            client.login("7/news", "newsletter-example")
            client.send_message(message("news@shop.example", "x@sink.test"))
        wait(lambda: outside.sinks[SINK].to("x@sink.test"), 40)
        assert outside.sinks[SINK].client("x@sink.test")[1] == "news.shop.example"


def test_the_smarthost_gets_each_account_s_mail_under_its_login(installation: EmbeddedInstallation) -> None:
    with smarthost(HOST) as (provider, port), smarthost(HOST, login=False) as (partner, partners_port):
        provider.logins = {"firm": "provider-example", "anna@firm.example": "anna-example"}
        here = {"host": HOST, "tls": "none"}
        documents = example("smarthost", RelayPolicy={"outbound": {"smarthost": {**here, "port": port}}})
        (policy,) = [d for d in documents if d["kind"] == "RelayPolicy"]
        policy["spec"]["outbound"]["rules"][0]["smarthost"].update({**here, "port": partners_port})
        started(installation, documents)
        for name, to in (("info", "x@sink.test"), ("anna", "y@sink.test"), ("anna", "z@partner.example")):
            with installation.submission(f"7/{name}", "smarthost-example") as client:
                client.send_message(message(f"{name}@firm.example", to))
        wait(lambda: len(provider.taken) == 2 and len(partner.taken) == 1, 20)
        logins = {envelope.rcpt_tos[0]: login for login, envelope in provider.taken}
        assert logins == {"x@sink.test": "firm", "y@sink.test": "anna@firm.example"}
        assert partner.taken[0][1].rcpt_tos == ["z@partner.example"]


def test_the_backup_mx_passes_on_what_it_took(installation: EmbeddedInstallation) -> None:
    zones = (
        "mx-host=example.org,mx1.example.org,10",
        "mx-host=example.org,mx2.example.org,20",
        f"host-record=mx1.example.org,{{net}}.{SINK}",
        f"host-record=mail.example.net,{{net}}.{SINK}",
    )
    with world(installation.net, *zones, sinks=[SINK]) as outside:
        resolver = {"inbound": {"resolvers": [outside.resolver]}}
        started(installation, example("backup-mx", RelayPolicy=resolver))
        for to in ("x@example.org", "y@example.net"):
            installation.deliver("sender@example.com", to)
            wait(lambda to=to: outside.sinks[SINK].to(to), 40)  # type: ignore[misc]
        with installation.smtp() as client:
            client.ehlo()
            client.mail("sender@example.com")
            assert client.rcpt("z@example.edu")[0] == 550


def test_the_office_knows_its_lan_its_partner_and_strangers(installation: EmbeddedInstallation) -> None:
    zones = (
        "mx-host=partner.example,mx.partner.example,10",
        "mx-host=known.example,mx.known.example,10",
        "host-record=mx.known.example,{net}.52",
        "mx-host=sink.test,mx.sink.test,10",
        f"host-record=mx.sink.test,{{net}}.{SINK}",
    )
    with world(installation.net, *zones, sinks=[SINK]) as outside:
        documents = example("office", RelayPolicy={"inbound": {"resolvers": [outside.resolver]}})
        (policy,) = [d for d in documents if d["kind"] == "RelayPolicy"]
        policy["spec"]["lanNetworks"][0]["cidr"] = "127.0.0.48/30"
        policy["spec"]["lists"]["allow"][0]["criteria"]["client"] = "127.0.0.60/32"
        started(installation, documents)

        def verdict(client: str, sender: str, to: str, helo: str = "mx.known.example") -> int:
            with smtplib.SMTP(HOST, installation.port("smtp"), helo, source_address=(client, 0)) as smtp:
                smtp.ehlo()
                code, _ = smtp.mail(sender)
                return smtp.rcpt(to)[0] if code == 250 else code

        info = "info@office.example"
        assert verdict("127.0.0.49", "printer@office.example", "x@sink.test", "printer") == 250
        assert verdict("127.0.0.52", "x@known.example", info) == 250
        assert verdict("127.0.0.52", "x@known.example", "x@sink.test") == 550
        assert verdict("127.0.0.53", "x@known.example", info) == 550  # no name in DNS
        assert verdict("127.0.0.52", "x@unknown.invalid", info) == 550
        assert verdict("127.0.0.52", "x@sub.spam.example", info) == 550
        assert verdict("127.0.0.60", "x@partner.example", info) == 250
