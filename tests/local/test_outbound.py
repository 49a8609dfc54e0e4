"""Mail for other servers: to the smarthost, with its login, or queued where a person can see it."""

import pytest

from tests.support.hub import HUB, Hub
from tests.support.hub import smarthost as other_smarthost
from tests.support.installation import Installation, mailbox, manifest, message, secret, wait
from tests.support.world import world

SINK = 93


@pytest.mark.req_part("R-002-02")
@pytest.mark.req("R-004-08")
def test_mail_for_elsewhere_goes_to_the_smarthost_with_its_login(
    behind: Installation, hub: tuple[Hub, int]
) -> None:
    with behind.submission("7/info", "pw-info") as client:
        client.send_message(message("info@a.test", "x@sink.test", "out", "..dots\n.\nend\n"))
    login, envelope = wait(lambda: hub[0].taken[-1] if hub[0].taken else None)
    assert (login, envelope.mail_from, envelope.rcpt_tos) == ("global", "info@a.test", ["x@sink.test"])
    assert isinstance(envelope.content, bytes)
    assert envelope.content.endswith(b"\r\n\r\n..dots\r\n.\r\nend\r\n")


@pytest.mark.req_part("R-002-07")
def test_a_forward_reaches_an_external_address(behind: Installation, hub: tuple[Hub, int]) -> None:
    spec = {"domainRef": {"name": "a-test"}, "targets": [{"address": "far@sink.test"}]}
    behind.apply("forward", manifest("MailAlias", "away", spec))
    behind.wait_for("MailAlias", "away")
    behind.deliver("x@example.net", "away@a.test", "forwarded")
    wait(lambda: any(envelope.rcpt_tos == ["far@sink.test"] for _, envelope in hub[0].taken))


def test_what_waits_is_listed_shown_retried_and_deleted(behind: Installation, hub: tuple[Hub, int]) -> None:
    def queue(*words: str) -> str:
        return behind.tool("queue", *words)

    wait(lambda: "0 recipients wait" in queue())  # deliveries of before are noted a moment later
    hub[0].refuse = True
    with behind.submission("7/info", "pw-info") as client:
        client.send_message(message("info@a.test", "late@sink.test"))
        client.send_message(message("info@a.test", "never@sink.test"))
    waiting = wait(lambda: text if (text := queue()).count("451 4.3.0 not now") == 2 else None)
    assert "2 recipients wait" in waiting
    (id,) = [line.split()[0] for line in waiting.splitlines() if "late@sink.test" in line]
    shown = queue("show", "--id", id)
    assert "to         late@sink.test" in shown and "last reply 451 4.3.0 not now" in shown
    assert "tried      1 times" in shown
    assert queue("delete", "--address", "never@sink.test")
    assert "1 recipients wait" in queue()
    assert "say what to delete" in behind.tool("queue", "delete", fails=True)
    hub[0].refuse = False
    queue("retry", "--domain", "sink.test")
    wait(lambda: any(envelope.rcpt_tos == ["late@sink.test"] for _, envelope in hub[0].taken))
    wait(lambda: "0 recipients wait" in queue())
    assert not any(envelope.rcpt_tos == ["never@sink.test"] for _, envelope in hub[0].taken)


def test_explain_says_where_an_address_leads(behind: Installation) -> None:
    assert "7/info" in behind.tool("explain", "info@a.test")
    assert "refused: 550 5.1.1" in behind.tool("explain", "nobody@a.test")


def _taken(hub: Hub, recipient: str) -> tuple[str, str | None]:
    """Who was logged in at the smarthost when it took a message, and its sender."""
    found = wait(lambda: [(login, e.mail_from) for login, e in hub.taken if e.rcpt_tos == [recipient]])
    assert len(found) == 1
    return found[0]


@pytest.mark.req("R-004-09", "R-004-10", "R-004-11")
def test_accounts_log_in_at_the_smarthost_by_themselves_where_that_is_switched_on(
    behind: Installation, hub: tuple[Hub, int]
) -> None:
    own = {"passwordSecretRef": {"name": "own"}}
    behind.apply("anna", secret("own", password="hers"), mailbox("anna", smarthostAuth=own))
    behind.wait_for("Mailbox", "anna")
    hub[0].logins["anna@a.test"] = "hers"

    def send(name: str, to: str) -> None:
        with behind.submission(f"7/{name}", f"pw-{name}") as client:
            client.send_message(message(f"{name}@a.test", to))

    send("anna", "off@sink.test")
    assert _taken(hub[0], "off@sink.test") == ("global", "anna@a.test")
    smarthost = {"host": behind.at(HUB), "port": hub[1], "tls": "none", "authSecretRef": {"name": "hub"}}
    outbound = {"mode": "smarthost", "smarthost": {**smarthost, "perAccountAuth": True}}
    behind.govern({"serverRef": {"name": "main"}, "outbound": outbound})
    send("anna", "own@sink.test")
    send("info", "global@sink.test")
    assert _taken(hub[0], "own@sink.test") == ("anna@a.test", "anna@a.test")
    assert _taken(hub[0], "global@sink.test") == ("global", "info@a.test")


@pytest.mark.req("R-003-29", "R-003-30")
def test_delivery_rules_choose_the_host_by_sender_or_recipient(
    behind: Installation, hub: tuple[Hub, int]
) -> None:
    smarthost = {"host": behind.at(HUB), "port": hub[1], "tls": "none", "authSecretRef": {"name": "hub"}}
    with other_smarthost(behind.at(HUB)) as (second, port):
        second.logins = {"special": "secret"}
        via = {"host": behind.at(HUB), "port": port, "tls": "none", "authSecretRef": {"name": "special"}}
        rules = [
            {"name": "by recipient", "recipient": "*.special.test", "smarthost": via},
            {"name": "by sender", "sender": "info@a.test", "recipient": "both.test", "smarthost": via},
        ]
        behind.apply("special", secret("special", username="special", password="secret"))
        outbound = {"mode": "smarthost", "smarthost": smarthost, "rules": rules}
        behind.govern({"serverRef": {"name": "main"}, "outbound": outbound})
        with behind.submission("7/info", "pw-info") as client:
            for to in ("x@very.special.test", "x@both.test", "x@plain.test"):
                client.send_message(message("info@a.test", to))
        assert _taken(second, "x@very.special.test")[0] == "special"
        assert _taken(second, "x@both.test")[0] == "special"
        assert _taken(hub[0], "x@plain.test")[0] == "global"


@pytest.mark.req("R-003-28")
def test_what_goes_to_the_smarthost_goes_nowhere_else(behind: Installation, hub: tuple[Hub, int]) -> None:
    records = ("mx-host=sink.test,mx.sink.test,10", f"host-record=mx.sink.test,{{net}}.{SINK}")
    with world(behind.net, *records, sinks=[SINK]) as outside:
        smarthost = {"host": behind.at(HUB), "port": hub[1], "tls": "none", "authSecretRef": {"name": "hub"}}
        outbound = {"mode": "smarthost", "smarthost": smarthost}
        inbound = {"resolvers": [outside.resolver]}
        behind.govern({"serverRef": {"name": "main"}, "inbound": inbound, "outbound": outbound})
        hub[0].refuse = True  # not even while the smarthost does not take it
        with behind.submission("7/info", "pw-info") as client:
            client.send_message(message("info@a.test", "shy@sink.test"))
        wait(lambda: "451 4.3.0 not now" in behind.tool("queue"))
        hub[0].refuse = False
        behind.tool("queue", "retry", "--domain", "sink.test")
        assert _taken(hub[0], "shy@sink.test")[0] == "global"
        assert outside.sinks[SINK].taken == []
        behind.govern({"serverRef": {"name": "main"}, "outbound": outbound})
