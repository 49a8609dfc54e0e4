"""A real Prometheus looks at a running installation: the dashboard shows what happened, alerts tell faults.

The operator needs a cluster, so here its metrics are fed with the statuses that `mailpods up` compiled, and
served from this process under the labels that its pod would have.
"""

import math
import os
import shutil
import signal
import smtplib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from mail_operator.cluster.metrics import REQUESTS
from mail_operator.engine import metrics as operator
from mail_operator.kinds.meta import ObjectRef
from prometheus_client import generate_latest

from bench.processes import free_port
from mailpods.admin.server import AdminServer, Response
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
from tests.support.prometheus import Labels, Prometheus, Target, alerts, panels, prometheus

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no prometheus: ./run test installs it"
)

WINDOW = 120  # seconds that stand for the dashboard's $__rate_interval: longer than the whole story
SENT = 5
Series = list[tuple[Labels, float]]


@dataclass
class Watched:
    """An installation, and the Prometheus that looks at it."""

    installation: EmbeddedInstallation
    prometheus: Prometheus
    operator: AdminServer
    pods: int  # how many containers of mail pods it looks at

    def firing(self, name: str) -> Series:
        """What an alert's expression finds now."""
        return self.prometheus.query(alerts()[name]["expr"])

    def wait_for_alert(self, name: str) -> Series:
        """What its expression finds, once it finds something."""
        return wait(lambda: self.firing(name), 20, f"{name} does not fire")

    def panel(self, title: str) -> list[Series]:
        """What each query of a panel finds, for all namespaces and instances."""
        values = {"$namespace": ".*", "$instance": ".*", "$__rate_interval": f"{WINDOW}s"}
        found = []
        for query in panels()[title]:
            for variable, value in values.items():
                query = query.replace(variable, value)
            found.append(self.prometheus.query(query))
        return found


def tell_operator(installation: EmbeddedInstallation) -> None:
    """What a round of the operator would tell of these objects."""
    rows = installation.state()["objects"]
    operator.record_objects({ObjectRef(r["kind"], r["namespace"], r["name"]): r["status"] for r in rows}, ())
    operator.record_waiting([], 0.0)
    operator.COMPILE.observe(0.02)
    operator.ROUND.observe(0.2)
    operator.ACKNOWLEDGED.observe(0.9)
    REQUESTS.labels("PATCH", 200).inc()


def told_by_operator() -> Response:
    """Its metrics alone: this process may know others, too."""
    lines = generate_latest().decode().splitlines()
    return Response.text("\n".join(line for line in lines if "mailpods_" in line))


def take_mail(installation: EmbeddedInstallation, messages: int) -> None:
    """Messages come, and one is refused."""
    for number in range(messages):
        installation.deliver("x@example.net", "info@a.test", f"number {number}")
    with installation.smtp() as client:
        client.ehlo("x.example")
        client.mail("x@example.net")
        assert client.rcpt("nobody@a.test")[0] == 550


def log_in(installation: EmbeddedInstallation) -> None:
    """With a good and a wrong password, to send and to read."""
    with installation.submission("7/info", "pw-info"):
        pass
    with pytest.raises(smtplib.SMTPAuthenticationError), installation.submission("7/info", "wrong"):
        pass
    assert installation.can_log_in("7/info", "pw-info") and not installation.can_log_in("7/info", "wrong")


def targets(installation: EmbeddedInstallation) -> list[Target]:
    """The containers of the mail pods."""
    found = []
    at = f"{HOST}:{installation.port('metrics')}"
    for name in installation.state()["admin"]:
        pod, _, container = name.partition("/")
        port = "auth-admin" if container == "auth" else "admin"
        found.append(Target(at, "mailpods", pod, container, port, path=f"/metrics/{name}"))
    return found


@pytest.fixture(scope="module")
def watched(module_installation: EmbeddedInstallation) -> Iterator[Watched]:
    """Mail was used a little before, so that counters are there; nothing waits; the smarthost is down."""
    installation = module_installation
    smarthost = {"host": HOST, "port": free_port(), "tls": "none"}
    outbound = {"mode": "smarthost", "smarthost": smarthost}
    policy = manifest("RelayPolicy", "main", {"serverRef": {"name": "main"}, "outbound": outbound})
    installation.apply("server", server(), domain("a.test", 7), policy, mailbox("info"))
    installation.start()
    installation.wait_for("Mailbox", "info")
    installation.wait_for("RelayPolicy", "main")
    take_mail(installation, 1)
    installation.wait_for_mail("7/info", "pw-info", 1)
    tell_operator(installation)
    admin = AdminServer(HOST, 0, {"GET /metrics": lambda _: told_by_operator()})
    admin.start()
    pods = targets(installation)
    own = Target(f"{HOST}:{admin.port}", "mailpods-operator", "mailpods-operator-0", "operator", "admin")
    with prometheus([*pods, own]) as running:
        wait(lambda: running.value("sum(up)") == len(pods) + 1, 20)
        yield Watched(installation, running, admin, len(pods))


def test_a_healthy_installation_raises_no_alert(watched: Watched) -> None:
    def rules() -> list[Mapping[str, str]] | None:
        found: list[Mapping[str, str]] = watched.prometheus.ask("rules")["groups"][0]["rules"]
        return found if all(rule["health"] != "unknown" for rule in found) else None

    evaluated = wait(rules)
    assert {rule["name"]: rule["health"] for rule in evaluated} == dict.fromkeys(alerts(), "ok")
    assert {name: found for name in alerts() if (found := watched.firing(name))} == {}


def test_labels_are_those_of_a_podmonitor(watched: Watched) -> None:
    found = {(each["job"], each["pod"], each["container"]) for each, _ in watched.prometheus.query("up")}
    assert found == {
        ("mailpods", "main-smtp-0", "smtp"),
        ("mailpods", "main-smtp-0", "auth"),
        ("mailpods", "main-store-0", "store"),
        ("mailpods-operator", "mailpods-operator-0", "operator"),
    }
    names = {"__name__", "job", "namespace", "pod", "container", "endpoint", "instance"}
    assert all(labels.keys() == names for labels, _ in watched.prometheus.query("up"))


def test_the_dashboard_shows_what_happened(watched: Watched) -> None:
    take_mail(watched.installation, SENT)
    watched.installation.wait_for_mail("7/info", "pw-info", 1 + SENT)
    with watched.installation.submission("7/info", "pw-info") as client:
        client.send_message(message("info@a.test", "x@sink.test", "it waits"))
    log_in(watched.installation)  # at last: Dovecot lets those wait who were wrong
    tell_operator(watched.installation)
    # Exactly: one of before, those of now, and the one that waits.
    wait(lambda: watched.prometheus.value("sum(mail_smtp_accepted_total)") == 1 + SENT + 1)
    wait(lambda: watched.prometheus.value("sum(mail_delivery_delivered_total)") == 1 + SENT)
    wait(lambda: watched.prometheus.value("sum(mail_delivery_unreachable)") == 1)
    time.sleep(2)  # the other counters of the same moment, by the next scrape

    for title in panels():
        for found in watched.panel(title):
            assert found, f"nothing on {title}"
            assert all(value >= 0 and math.isfinite(value) for _, value in found), (title, found)

    def one(title: str, **labels: str) -> float:
        found = watched.panel(title)[0]
        (value,) = [value for each, value in found if labels.items() <= each.items()]
        return value

    def times(title: str, **labels: str) -> float:
        """How often it happened, from a rate: Prometheus extrapolates a little."""
        return one(title, **labels) * WINDOW

    assert times("Messages taken") == pytest.approx(SENT + 1, rel=0.3)
    assert times("Delivered, by lane", lane="shard-0") == pytest.approx(SENT, rel=0.3)
    assert times("Refusals, by reason", reason="unknown_recipient") == pytest.approx(1, rel=0.3)
    assert times("Logins to send", result="wrong") == pytest.approx(2, rel=0.3)  # by PLAIN, then by LOGIN
    assert times("Logins to send", result="ok") == pytest.approx(2, rel=0.3)
    assert times("Logins to read", protocol="imap", result="wrong") == pytest.approx(1, rel=0.3)
    assert times("Logins to read", protocol="imap", result="ok") >= 2 * 0.7
    assert one("Time until delivered") < 5 and one("Time until on disk") < 5
    assert one("Recipients that wait", pod="main-smtp-0") == 1
    assert 0 < one("Age of the oldest message") < 60
    assert one("Waiting, by sender's domain", tenant="7") == 1
    assert one("Waiting, by recipients' domain", domain="sink.test") == 1
    assert one("Waiting, by reason", **{"class": "new"}) == 1
    assert 0 < one("Oldest that waits, by recipients' domain", domain="sink.test") < 60
    assert one("Connections, by destination", destination="shard-0") >= 1
    assert one("Destinations out of reach", lane="smarthost") == 1
    assert one("Destinations out of reach", lane="shard-0") == 0
    assert [value for _, value in watched.panel("Programs that answer")[0]] == [1] * (watched.pods + 1)
    assert [value for _, value in watched.panel("Dovecot")[0]] == [1] * 2
    assert one("Mailboxes") == 2  # of info, and of the domain's administrator
    assert one("Certificates", container="smtp") > 30 * 86400
    assert one("Objects", kind="Mailbox") == one("Objects", kind="MailServer") == 1
    assert sum(value for _, value in watched.panel("Objects that are not Ready")[0]) == 0
    assert all(0 < value < 1 for found in watched.panel("Space left on volumes") for _, value in found)


def test_a_smarthost_that_is_down_is_told(watched: Watched) -> None:
    """It runs after the story before: a message waits for it."""
    ((labels, _),) = watched.wait_for_alert("MailpodsDeliveryUnreachable")
    assert labels == {"namespace": "t", "lane": "smarthost"}


def process_of(installation: EmbeddedInstallation, *words: str) -> int:
    """The process of this installation whose command line has these words; of several, the oldest."""
    found = []
    for each in Path("/proc").iterdir():
        try:
            line = (each / "cmdline").read_bytes().decode().split("\0")
        except (OSError, NotADirectoryError):
            continue
        if set(words) <= set(line) and any(word.startswith(str(installation.data)) for word in line):
            found.append(int(each.name))
    return min(found)


@pytest.mark.parametrize(
    ("alert", "words", "container"),
    [
        ("MailpodsStoreDown", ("mailpods.store", "store"), "store"),
        ("MailpodsDown", ("mailpods.store", "auth"), "auth"),
    ],
)
def test_a_program_that_hangs_is_told(
    watched: Watched, alert: str, words: tuple[str, ...], container: str
) -> None:
    process = process_of(watched.installation, *words)
    os.kill(process, signal.SIGSTOP)
    try:
        ((labels, _),) = watched.wait_for_alert(alert)
    finally:
        os.kill(process, signal.SIGCONT)
    assert labels["container"] == container
    wait(lambda: not watched.firing(alert), 20, f"{alert} does not end")


def test_broken_files_are_told(watched: Watched) -> None:
    """A file of the directory that is none, and a certificate that is none. What was loaded stays in use."""
    pod = next(watched.installation.data.glob("run/pods/*/tls/tls.crt")).parent.parent.parent / "main-smtp-0"
    for file in (pod / "directory" / "server.json", pod / "tls" / "tls.crt"):
        found = file.resolve()
        good = found.read_bytes()
        found.write_bytes(b"{")
        try:
            alert = "MailpodsDirectoryStale" if file.suffix == ".json" else "MailpodsCertificateExpires"
            assert {labels["pod"] for labels, _ in watched.wait_for_alert(alert)} == {"main-smtp-0"}
            with watched.installation.smtp() as client:
                assert client.ehlo("x.example")[0] == 250
        finally:
            found.write_bytes(good)
        wait(lambda alert=alert: not watched.firing(alert), 20, f"{alert} does not end")  # type: ignore[misc]


def test_an_object_that_is_wrong_is_told(watched: Watched) -> None:
    lost = {"domainRef": {"name": "nowhere"}}
    watched.installation.apply("lost", manifest("Mailbox", "lost", lost))
    watched.installation.wait_for("Mailbox", "lost", "False")
    tell_operator(watched.installation)
    ((labels, number),) = watched.wait_for_alert("MailpodsObjectsNotReady")
    assert (labels, number) == ({"kind": "Mailbox"}, 1)


def test_an_operator_that_is_gone_is_told(watched: Watched) -> None:
    watched.operator.stop()
    assert watched.wait_for_alert("MailpodsOperatorFailing")
