"""Two smtp pods, and one again: the queue of the one that leaves moves to the one that stays."""

import base64
import json
import smtplib
from collections.abc import Callable
from typing import Any

import pytest
from mail_operator.components import SMTP
from mail_operator.local.asking import ask_json

from bench.processes import free_port
from mailpods.store.outgoing import Outgoing, Way
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
    found: list[dict[str, Any]] = ask_json(installation.state()["queue"][f"{pod}/smtp"], "/queue", seconds=10)
    return found


def test_the_queue_of_a_pod_that_leaves_moves(
    installations: Callable[[], EmbeddedInstallation], monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = installations()
    nowhere = {"mode": "smarthost", "smarthost": {"host": HOST, "port": free_port(), "tls": "none"}}
    policy = manifest("RelayPolicy", "main", {"serverRef": {"name": "main"}, "outbound": nowhere})
    installation.apply("server", server(smtp={"replicas": 2}), domain("a.test", 7), policy)
    installation.apply("info", mailbox("info"))
    installation.start()
    installation.wait_for("Mailbox", "info")
    # On one machine the first pod stands for the Service: the other one is given mail as Dovecot gives it.
    monkeypatch.setenv("RESOLVE_FILE", str(installation.data / "run" / "resolve.json"))
    kept = json.loads((installation.data / "state.json").read_text())["secrets"]["t/main-key"]["key"]
    second = f"main-smtp-1.main-smtp-pods.t.svc:{SMTP.port('queue').number}"
    giving = Outgoing(lambda: Way("mail.a.test", [second], base64.b64decode(kept).decode(), {}), print)
    giving.start()
    with smtplib.SMTP(HOST, giving.port, timeout=20) as client:
        for n in range(3):
            client.send_message(message("info@a.test", "x@sink.test", str(n)))
    giving.stop()
    before = wait(lambda: queue(installation, "main-smtp-1"))
    assert len(before) == 3 and queue(installation, "main-smtp-0") == []
    installation.apply("server", server(smtp={"replicas": 1}), domain("a.test", 7), policy)
    wait(lambda: "3 messages went to other pods, 0 stay" in installation.log("main-smtp-1-smtp"), 60)
    after = queue(installation, "main-smtp-0")
    assert {row["id"] for row in after} == {row["id"] for row in before}
