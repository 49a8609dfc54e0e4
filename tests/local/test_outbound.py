"""Mail for other servers: to the smarthost, with its login, or queued where a person can see it."""

import pytest
from mail_operator import cli

from tests.support.hub import Hub
from tests.support.installation import (
    Installation,
    manifest,
    message,
    wait,
)


@pytest.mark.req_part("R-003-28", "R-001-36", "R-002-02")
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


def test_what_waits_is_listed_shown_retried_and_deleted(
    behind: Installation, hub: tuple[Hub, int], capsys: pytest.CaptureFixture[str]
) -> None:
    def queue(*words: str) -> str:
        assert cli.main(["queue", *words, "--data", str(behind.data)]) == 0
        return capsys.readouterr().out

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
    assert cli.main(["queue", "delete", "--data", str(behind.data)]) == 1
    assert "say what to delete" in capsys.readouterr().err
    hub[0].refuse = False
    queue("retry", "--domain", "sink.test")
    wait(lambda: any(envelope.rcpt_tos == ["late@sink.test"] for _, envelope in hub[0].taken))
    wait(lambda: "0 recipients wait" in queue())
    assert not any(envelope.rcpt_tos == ["never@sink.test"] for _, envelope in hub[0].taken)


def test_explain_says_where_an_address_leads(
    behind: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "info@a.test", "--data", str(behind.data)]) == 0
    assert "7/info" in capsys.readouterr().out
    assert cli.main(["explain", "nobody@a.test", "--data", str(behind.data)]) == 0
    assert "refused: 550 5.1.1" in capsys.readouterr().out
