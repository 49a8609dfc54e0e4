"""Mail for other servers by a smarthost, on a cluster: the same end-to-end test on both runtimes."""

import os
import socket

import pytest

from tests.cluster.installation import LonelyInstallation
from tests.cluster.outside import NEEDED
from tests.local.test_outbound import *  # noqa: F403
from tests.support.hub import HUB, Hub
from tests.support.installation import message, wait

pytestmark = NEEDED
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"


@pytest.mark.req("R-003-28")
@pytest.mark.skipif(
    "MAILPODS_NETNS" not in os.environ, reason="policies are known to be enforced there alone"
)
def test_pods_reach_the_smarthost_and_no_other_server(
    behind: LonelyInstallation, hub: tuple[Hub, int]
) -> None:
    def reached(host: str, port: int) -> bool:
        done = behind.run("main-smtp-0", "smtp", "python3", "-c", _CONNECT, host, str(port))
        return done.returncode == 0

    assert reached(behind.at(HUB), hub[1])
    with socket.create_server((behind.at(99), 25)) as other:
        other.settimeout(5)
        with socket.create_connection((behind.at(99), 25), 5):  # it listens
            other.accept()[0].close()
        assert not reached(behind.at(99), 25)
    with behind.submission("7/info", "pw-info") as client:
        client.send_message(message("info@a.test", "shielded@sink.test"))
    wait(lambda: any(envelope.rcpt_tos == ["shielded@sink.test"] for _, envelope in hub[0].taken))
