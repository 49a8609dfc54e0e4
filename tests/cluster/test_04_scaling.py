"""More pods and fewer: no queue is left behind, and every store pod takes every login."""

import imaplib
import json
import smtplib
import urllib.request
from typing import Any

from tests.cluster.installation import NAMESPACE, ClusterInstallation, fetched, kubectl
from tests.support.installation import mailbox, manifest, message, wait


def pod_address(name: str) -> str:
    """Its IP address, as soon as it is ready; "" until then."""
    status = fetched("Pod", name).get("status", {})
    ready = {c["type"]: c["status"] for c in status.get("conditions", ())}.get("Ready") == "True"
    return str(status["podIP"]) if ready else ""


def queue(pod: str) -> list[dict[str, Any]]:
    """What waits in the spools of a pod."""
    with urllib.request.urlopen(f"http://{pod_address(pod)}:9102/queue", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def test_smtp_scales_up_and_down_and_no_queue_is_left_behind(installation: ClusterInstallation) -> None:
    nowhere = {"mode": "smarthost", "smarthost": {"host": "127.0.0.1", "port": 9, "tls": "none"}}
    policy = {"serverRef": {"name": "main"}, "outbound": nowhere, "limits": {"messageSize": "2M"}}
    installation.apply("nowhere", manifest("RelayPolicy", "nowhere", policy))
    installation.wait_for("RelayPolicy", "nowhere")
    kubectl("scale", "mailserver", "main", "-n", NAMESPACE, "--replicas=2")
    address = wait(lambda: pod_address("main-smtp-1"), 90, "no second pod")
    installation.wait_for("MailServer", "main", seconds=60)
    with smtplib.SMTP(address, 2587, timeout=20) as client:
        client.starttls(context=installation.tls())
        client.login("7/info", "pw-info")
        for n in range(3):
            client.send_message(message("info@a.test", "x@sink.test", str(n)))
    before = wait(lambda: queue("main-smtp-1"))
    assert len(before) == 3
    kubectl("scale", "mailserver", "main", "-n", NAMESPACE, "--replicas=1")
    wait(lambda: not fetched("Pod", "main-smtp-1"), 120, "the second pod stays")
    after = wait(lambda: queue("main-smtp-0"), 20)
    assert {row["id"] for row in before} <= {row["id"] for row in after}
    request = urllib.request.Request(
        f"http://{pod_address('main-smtp-0')}:9102/queue?domain=sink.test", method="DELETE"
    )
    urllib.request.urlopen(request, timeout=10).close()
    installation.remove("nowhere")


def test_a_new_shard_takes_new_mailboxes_and_a_backup_without_status_comes_up_the_same(
    installation: ClusterInstallation,
) -> None:
    installation.apply("older", mailbox("older"))
    installation.wait_for("Mailbox", "older")
    installation.deliver("x@example.net", "older@a.test")
    installation.wait_for_mail("7/older", "pw-older", 1)
    patch = '{"spec":{"store":{"shards":2}}}'
    kubectl("patch", "mailserver", "main", "-n", NAMESPACE, "--type=merge", "-p", patch)
    wait(lambda: pod_address("main-store-1"), 90, "no second store pod")
    installation.apply("newer", mailbox("newer"))
    installation.wait_for("Mailbox", "newer", seconds=60)
    installation.deliver("x@example.net", "newer@a.test")
    names = {"older": 0, "newer": 1}
    for name, shard in names.items():
        installation.wait_for_mail(f"7/{name}", f"pw-{name}", 1)
        assert fetched("Mailbox", name)["spec"]["shard"] == shard
        for pod in ("main-store-0", "main-store-1"):  # any of them takes any login
            client = imaplib.IMAP4_SSL(pod_address(pod), 2993, ssl_context=installation.tls(), timeout=30)
            assert client.login(f"7/{name}", f"pw-{name}")[0] == "OK"
            client.logout()
    backup = [fetched("Mailbox", name) for name in names]
    for each in backup:
        each["metadata"] = {key: each["metadata"][key] for key in ("name", "namespace")}
        each.pop("status")
        kubectl("delete", "mailbox", each["metadata"]["name"], "-n", NAMESPACE)
    wait(lambda: not installation.can_log_in("7/older", "pw-older"), 30)
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": backup}))
    for name, shard in names.items():
        installation.wait_for("Mailbox", name, seconds=60)
        installation.wait_for_mail(f"7/{name}", f"pw-{name}", 1)
        assert fetched("Mailbox", name)["spec"]["shard"] == shard
