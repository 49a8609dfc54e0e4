"""Two smtp pods, and one again: the queue of the one that leaves moves to the one that stays."""

import json
import smtplib
import urllib.request
from collections.abc import Callable
from typing import Any

from bench.processes import free_port
from tests.support.installation import HOST, Installation, domain, mailbox, manifest, message, server, wait


def queue(house: Installation, pod: str) -> list[dict[str, Any]]:
    """What waits in the spools of one pod."""
    with urllib.request.urlopen(f"{house.state()['queue'][f'{pod}/smtp']}/queue", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def test_the_queue_of_a_pod_that_leaves_moves(installations: Callable[[], Installation]) -> None:
    house = installations()
    nowhere = {"mode": "smarthost", "smarthost": {"host": HOST, "port": free_port(), "tls": "none"}}
    policy = manifest("RelayPolicy", "main", {"serverRef": {"name": "main"}, "outbound": nowhere})
    house.apply("server", server(smtp={"replicas": 2}), domain("a.test", 7), policy)
    house.apply("info", mailbox("info"))
    house.start()
    house.wait_for("Mailbox", "info")
    names = json.loads((house.data / "run" / "resolve.json").read_text())
    port = names["main-smtp-1.main-smtp-pods.t.svc:2587"].rpartition(":")[2]
    with smtplib.SMTP(HOST, int(port), timeout=20) as client:
        client.starttls(context=house.tls())
        client.login("7/info", "pw-info")
        for n in range(3):
            client.send_message(message("info@a.test", "x@sink.test", str(n)))
    before = wait(lambda: queue(house, "main-smtp-1"))
    assert len(before) == 3 and queue(house, "main-smtp-0") == []
    house.apply("server", server(smtp={"replicas": 1}), domain("a.test", 7), policy)
    wait(lambda: "3 messages went to other pods, 0 stay" in house.log("main-smtp-1-smtp"), 60)
    after = queue(house, "main-smtp-0")
    assert {row["id"] for row in after} == {row["id"] for row in before}
