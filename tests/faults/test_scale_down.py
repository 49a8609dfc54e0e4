"""Two smtp pods, and one again: the queue of the one that leaves moves to the one that stays."""

import json
import smtplib
import urllib.request
from collections.abc import Callable
from typing import Any

from bench.processes import free_port
from tests.support.installation import (
    HOST,
    EmbeddedInstallation,
    domain,
    mailbox,
    manifest,
    message,
    server,
    wait,
)


def queue(installation: EmbeddedInstallation, pod: str) -> list[dict[str, Any]]:
    """What waits in the spools of one pod."""
    with urllib.request.urlopen(
        f"{installation.state()['queue'][f'{pod}/smtp']}/queue", timeout=10
    ) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def test_the_queue_of_a_pod_that_leaves_moves(installations: Callable[[], EmbeddedInstallation]) -> None:
    installation = installations()
    nowhere = {"mode": "smarthost", "smarthost": {"host": HOST, "port": free_port(), "tls": "none"}}
    policy = manifest("RelayPolicy", "main", {"serverRef": {"name": "main"}, "outbound": nowhere})
    installation.apply("server", server(smtp={"replicas": 2}), domain("a.test", 7), policy)
    installation.apply("info", mailbox("info"))
    installation.start()
    installation.wait_for("Mailbox", "info")
    names = json.loads((installation.data / "run" / "resolve.json").read_text())
    port = names["main-smtp-1.main-smtp-pods.t.svc:2587"].rpartition(":")[2]
    with smtplib.SMTP(HOST, int(port), timeout=20) as client:
        client.starttls(context=installation.tls())
        client.login("7/info", "pw-info")
        for n in range(3):
            client.send_message(message("info@a.test", "x@sink.test", str(n)))
    before = wait(lambda: queue(installation, "main-smtp-1"))
    assert len(before) == 3 and queue(installation, "main-smtp-0") == []
    installation.apply("server", server(smtp={"replicas": 1}), domain("a.test", 7), policy)
    wait(lambda: "3 messages went to other pods, 0 stay" in installation.log("main-smtp-1-smtp"), 60)
    after = queue(installation, "main-smtp-0")
    assert {row["id"] for row in after} == {row["id"] for row in before}
