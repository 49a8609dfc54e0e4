"""Mail leaves: to the servers that DNS names, past those that are down, and back as a notice."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from mail_operator.components import SMTP

from tests.support.installation import Installation, domain, get, mailbox, manifest, message, server, wait
from tests.support.world import World, world

FIRST, SECOND, DOWN = 91, 92, 99
ZONES = (
    # The better one is down, and of the others one has no address.
    "mx-host=sink.test,down.sink.test,10",
    "mx-host=sink.test,nowhere.sink.test,20",
    "mx-host=sink.test,mx.sink.test,30",
    "host-record=down.sink.test,{net}.99",
    "host-record=mx.sink.test,{net}.91",
    "host-record=bare.test,{net}.92",  # no MX: its address is its mail server
    "mx-host=null.test,.,0",
    # As if this installation were its backup: mail must not come back to it.
    "mx-host=backed.test,mx.sink.test,10",
    "mx-host=backed.test,mail.a.test,20",
    "host-record=mail.a.test,{net}.99",
    "mx-host=loop.test,mail.a.test,10",
)


@pytest.fixture(scope="module")
def outside(module_installation: Installation) -> Iterator[World]:
    with world(module_installation.net, *ZONES, sinks=(FIRST, SECOND)) as there:
        yield there


@pytest.fixture(scope="module")
def installation(module_installation: Installation, outside: World) -> Installation:
    made = module_installation
    made.apply("server", server(), domain("a.test", 7), mailbox("info"))
    relayed = [
        {"name": "backup", "domain": "backed.test"},
        {"name": "fixed", "domain": "fixed.test", "nextHop": made.at(SECOND)},
        {"name": "named", "domain": "named.test", "nextHop": "mx.sink.test"},
    ]
    inbound = {"resolvers": [outside.resolver], "domains": relayed}
    policy = {"serverRef": {"name": "main"}, "inbound": inbound}
    made.apply("policy", manifest("RelayPolicy", "main", policy))
    made.start()
    made.wait_for("Mailbox", "info")
    made.wait_for("RelayPolicy", "main")
    return made


def send(installation: Installation, *to: str) -> None:
    with installation.submission("7/info", "pw-info") as client:
        client.send_message(message("info@a.test", to[0], "out"), "info@a.test", list(to))


def notice(installation: Installation, address: str) -> str:
    """The notice about an address that came back to the sender."""

    def found() -> str | None:
        return next(
            (t for raw in installation.inbox("7/info", "pw-info") if address in (t := raw.decode())), None
        )

    return wait(found, 30, f"no notice about {address}")


@pytest.mark.parametrize(
    ("to", "sink"), [("x@sink.test", FIRST), ("y@bare.test", SECOND), ("z@backed.test", FIRST)]
)
def test_mail_goes_to_the_best_server_of_a_domain_that_answers(
    installation: Installation, outside: World, to: str, sink: int
) -> None:
    send(installation, to)
    (envelope,) = wait(lambda: outside.sinks[sink].to(to), 40)
    assert envelope.mail_from == "info@a.test"


def test_how_tls_went_is_kept_for_reports(installation: Installation, outside: World) -> None:
    send(installation, "tls@sink.test")
    wait(lambda: outside.sinks[FIRST].to("tls@sink.test"), 40)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    queue = installation.pod("main-smtp-0", SMTP.port("queue").number)

    def reported() -> Any:
        reports = {each["report-id"]: each for each in json.loads(get(queue, f"/tls-reports?day={day}"))}
        report = reports.get(f"{day}.sink.test@mail.a.test")
        return report and report["policies"][0]

    found = wait(reported, 30, "no report of today")
    assert found["policy"]["policy-type"] == "no-policy-found"
    assert found["summary"]["total-successful-session-count"] == 0  # the sink knows no TLS
    assert found["failure-details"][0]["receiving-mx-hostname"] == "mx.sink.test"


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("x@null.test", "5.1.10"),
        ("x@never.test", "5.1.2"),
        ("x@loop.test", "5.4.6"),
    ],
)
def test_what_has_no_way_comes_back_at_once_and_says_why(
    installation: Installation, to: str, why: str
) -> None:
    send(installation, to)
    assert why in notice(installation, to)


def test_a_refusal_of_one_recipient_comes_back_and_the_others_get_their_copy(
    installation: Installation, outside: World
) -> None:
    sink = outside.sinks[SECOND]
    sink.recipient = "550 5.1.1 no such user"
    send(installation, "gone@bare.test", "there@sink.test")
    wait(lambda: outside.sinks[FIRST].to("there@sink.test"), 40)
    assert "no such user" in notice(installation, "gone@bare.test")
    sink.recipient = "250 2.1.5 Ok"


@pytest.mark.req("R-003-11")
@pytest.mark.parametrize(
    ("to", "sink"), [("a@backed.test", FIRST), ("b@fixed.test", SECOND), ("c@named.test", FIRST)]
)
def test_mail_of_relayed_domains_is_taken_from_anybody_and_passed_on(
    installation: Installation, outside: World, to: str, sink: int
) -> None:
    installation.deliver("x@example.net", to)
    (envelope,) = wait(lambda: outside.sinks[sink].to(to), 40)
    assert envelope.mail_from == "x@example.net"
    with installation.smtp() as client:
        client.ehlo()
        client.mail("x@example.net")
        assert client.rcpt("y@unlisted.test")[0] == 550


@pytest.mark.req("R-003-16")
def test_while_the_primary_is_down_mail_waits_and_it_gets_it_once(
    installation: Installation, outside: World
) -> None:
    primary = outside.sinks[FIRST]
    primary.answer = "451 4.3.2 down for repairs"
    installation.deliver("x@example.net", "later@backed.test")

    def queue(*words: str) -> str:
        return installation.tool("queue", *words)

    wait(lambda: "down for repairs" in queue())
    primary.answer = "250 2.0.0 taken"
    queue("retry", "--domain", "backed.test")
    wait(lambda: primary.to("later@backed.test"), 20)
    wait(lambda: "0 recipients wait" in queue())
    assert len(primary.to("later@backed.test")) == 1


def test_explain_names_the_way_out(installation: Installation) -> None:
    for address, way in (
        ("x@sink.test", "goes to the servers of its domain"),
        ("x@backed.test", "goes to the servers that its MX records name"),
        ("x@fixed.test", f"goes to {installation.at(SECOND)}"),
    ):
        assert way in installation.tool("explain", address)


@pytest.mark.req_part("R-001-37")
def test_strangers_do_not_reach_the_world(installation: Installation) -> None:
    with installation.smtp() as client:
        client.ehlo()
        client.mail("x@example.net")
        assert client.rcpt("x@sink.test") == (550, b"relay not permitted")
