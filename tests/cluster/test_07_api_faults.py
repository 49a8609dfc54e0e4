"""An API server that fails in every way is ridden out, and two operators at once do no harm."""

import os
import time
from pathlib import Path

import pytest

from tests.cluster.fault_proxy import FaultInjectingProxy, another_operator
from tests.cluster.installation import ClusterInstallation, fetched
from tests.cluster.operator import Operator
from tests.cluster.test_02_operator import settled, versions
from tests.support.installation import domain, mailbox, wait

pytestmark = pytest.mark.skipif(
    "MAILPODS_NETNS" not in os.environ, reason="an operator outside of the cluster must reach its pods"
)


def unknown(installation: ClusterInstallation, address: str) -> bool:
    """Whether mail to the address is refused."""
    with installation.smtp() as client:
        client.ehlo()
        client.mail("x@example.net")
        return client.rcpt(address)[0] == 550


@pytest.mark.timeout(500)
def test_a_rough_api_server_is_ridden_out(
    installation: ClusterInstallation, operator: Operator, tmp_path: Path
) -> None:
    names = [f"rough{n}" for n in range(8)]
    api = FaultInjectingProxy()
    operator.stop()
    with api.running(), another_operator(tmp_path, api.port) as log:
        installation.apply("rough", domain("rough.test"), *(mailbox(name) for name in names))
        for name in names:
            installation.wait_for("Mailbox", name, seconds=180)
            assert installation.can_log_in(f"7/{name}", f"pw-{name}")
        installation.wait_for("MailDomain", "rough-test")
        installation.apply("rough", domain("rough.test"), mailbox(names[0], password="new"))
        for name in names[1:]:
            wait(lambda name=name: unknown(installation, f"{name}@a.test"), 120)  # type: ignore[misc]
        end = time.monotonic() + 120
        while not installation.can_log_in(f"7/{names[0]}", "new"):
            assert time.monotonic() < end, "the new password was never taken"
            time.sleep(3)  # Dovecot makes those wait who try too often
        assert not installation.can_log_in(f"7/{names[0]}", f"pw-{names[0]}")
        assert "Traceback" not in log.read_text()
        installation.remove("rough")
    assert api.given.keys() == {"409", "429", "500", "503", "lost", "reset", "hung", "cut", "410"}
    operator.start()
    before = settled()
    time.sleep(5)
    assert versions() == before


def test_two_operators_at_once_agree(
    installation: ClusterInstallation, operator: Operator, tmp_path: Path
) -> None:
    with another_operator(tmp_path):
        installation.apply("both", domain("both.test"), *(mailbox(f"both{n}", "both-test") for n in range(6)))
        for n in range(6):
            installation.wait_for("Mailbox", f"both{n}", seconds=60)
        number = fetched("MailDomain", "both-test")["spec"]["number"]
        for n in range(6):
            assert installation.can_log_in(f"{number}/both{n}", f"pw-both{n}")
        installation.apply("both", domain("both.test"), *(mailbox(f"both{n}", "both-test") for n in range(3)))
        wait(lambda: not installation.can_log_in(f"{number}/both5", "pw-both5"), 60)
        before = settled()
        time.sleep(10)
        assert versions() == before, "they write against each other"
        assert fetched("MailDomain", "both-test")["spec"]["number"] == number
        installation.remove("both")
