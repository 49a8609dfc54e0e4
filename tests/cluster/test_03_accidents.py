"""What must not lose mail or truth: kills, an API server that is away, kinds deleted, releases taken away."""

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.cluster.installation import NAMESPACE, ClusterInstallation, fetched, kubectl
from tests.cluster.operator import Operator
from tests.cluster.test_02_operator import settled, versions
from tests.cluster.testcluster import processes
from tests.cluster.testcluster.places import chosen
from tests.support.installation import domain, mailbox, manifest, secret, wait

needs_processes = pytest.mark.skipif(
    "MAILPODS_NETNS" not in os.environ, reason="only the cluster of processes can be hurt in this way"
)


class Load(threading.Thread):
    """Sends numbered messages to one address until it is stopped, and notes those that got their 250."""

    def __init__(self, installation: ClusterInstallation, to: str) -> None:
        super().__init__(daemon=True)
        self._house, self._to = installation, to
        self.acknowledged: list[str] = []
        self.stopping = False
        self.refused = 0

    def run(self) -> None:
        """One connection a message, as clients from outside do."""
        number = 0
        while not self.stopping:
            number += 1
            try:
                self._house.deliver("x@example.net", self._to, f"load-{number}")
                self.acknowledged.append(f"load-{number}")
            except OSError:  # SMTPException is one: a client of the world comes again
                self.refused += 1
            time.sleep(0.1)


@contextmanager
def load(installation: ClusterInstallation, to: str) -> Iterator[Load]:
    """A running one."""
    running = Load(installation, to)
    running.start()
    try:
        yield running
    finally:
        running.stopping = True
        running.join(60)


def subjects(installation: ClusterInstallation, login: str, password: str) -> Counter[str]:
    """How often each subject is in the INBOX."""
    lines = [
        line
        for raw in installation.inbox(login, password)
        for line in raw.split(b"\r\n\r\n")[0].split(b"\r\n")
    ]
    return Counter(line[9:].decode() for line in lines if line.startswith(b"Subject: "))


def all_arrive(installation: ClusterInstallation, login: str, password: str, expected: list[str]) -> None:
    """Wait until every message of these subjects is there."""

    def arrived() -> bool:
        with suppress(OSError):
            return set(expected) <= set(subjects(installation, login, password))
        return False

    wait(arrived, 90, "an acknowledged message was lost")


def test_an_operator_killed_in_the_middle_of_a_change_ends_it(
    installation: ClusterInstallation, operator: Operator
) -> None:
    installation.apply("many", *(mailbox(f"many-{n}") for n in range(20)))
    time.sleep(0.6)
    operator.kill()
    for n in range(20):
        installation.wait_for("Mailbox", f"many-{n}", seconds=60)
    assert installation.can_log_in("7/many-0", "pw-many-0") and installation.can_log_in(
        "7/many-19", "pw-many-19"
    )
    installation.remove("many")


@needs_processes
def test_mail_flows_while_the_api_server_is_away(installation: ClusterInstallation) -> None:
    installation.apply("flow", mailbox("flow"))
    installation.wait_for("Mailbox", "flow")
    services = {name: installation.address(name) for name in ("smtp", "imaps")}
    tls = installation.tls()

    class Away(ClusterInstallation):
        """The same, remembered: nobody can be asked."""

        def address(self, service: str) -> tuple[str, int]:
            return services[service]

        def tls(self) -> Any:
            return tls

    processes.send(chosen(), "kube-apiserver", signal.SIGSTOP)
    try:
        away = Away()
        for n in range(60):
            away.deliver("x@example.net", "flow@a.test", f"away-{n}")
            time.sleep(1)
        away.wait_for_mail("7/flow", "pw-flow", 60)
    finally:
        processes.send(chosen(), "kube-apiserver", signal.SIGCONT)
    wait(lambda: subprocess.run(["kubectl", "get", "ns"], capture_output=True).returncode == 0, 60)
    installation.apply("after", mailbox("after"))
    installation.wait_for("Mailbox", "after", seconds=60)
    assert installation.can_log_in("7/after", "pw-after")


@needs_processes
def test_what_was_deleted_while_nothing_reached_the_operator_goes_from_the_directory(
    installation: ClusterInstallation, operator: Operator
) -> None:
    installation.apply("unseen", mailbox("unseen"))
    installation.wait_for("Mailbox", "unseen")
    pod = operator.pod()
    assert pod is not None
    rule = ["INPUT", "-s", pod["status"]["podIP"], "-p", "tcp", "--dport", "6443", "-j", "DROP"]
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        installation.remove("unseen")
        time.sleep(60)
        assert installation.can_log_in("7/unseen", "pw-unseen")
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)
    wait(lambda: not installation.can_log_in("7/unseen", "pw-unseen"), 30, "it was never noticed")


def test_a_release_taken_away_and_installed_again_changes_nothing(
    installation: ClusterInstallation, operator: Operator
) -> None:
    installation.apply("stays", mailbox("stays"))
    installation.wait_for("Mailbox", "stays")
    before = settled()
    operator.uninstall()
    installation.deliver("x@example.net", "stays@a.test")
    installation.wait_for_mail("7/stays", "pw-stays", 1)
    operator.install()
    installation.apply("new", mailbox("new"))
    installation.wait_for("Mailbox", "new")
    after = versions()
    assert before.keys() <= after.keys()
    changed = {name for name in before if before[name] != after[name]}
    # The new mailbox's two files, and the count of the domain and of the server.
    assert len([n for n in changed if n.startswith("Secret main-")]) == 2
    assert {n for n in changed if not n.startswith("Secret ")} == {"MailDomain a-test", "MailServer main"}


def test_kinds_deleted_by_accident_come_back_with_all_mail(
    installation: ClusterInstallation, operator: Operator
) -> None:
    installation.apply("lost", mailbox("lost"))
    installation.wait_for("Mailbox", "lost")
    installation.deliver("x@example.net", "lost@a.test", "before the accident")
    installation.wait_for_mail("7/lost", "pw-lost", 1)
    objects = kubectl("get", "mailboxes", "-n", NAMESPACE, "-o", "yaml")
    kubectl("delete", "crd", "mailboxes.mailpods.io", "--wait", "--timeout=60s")
    wait(lambda: not installation.can_log_in("7/lost", "pw-lost"), 30)
    with installation.smtp() as client:
        client.ehlo()
        client.mail("x@example.net")
        assert client.rcpt("lost@a.test")[0] == 550
    operator.install()
    kubectl("apply", "-f", "-", stdin=objects)
    installation.wait_for("Mailbox", "lost", seconds=60)
    assert subjects(installation, "7/lost", "pw-lost") == Counter(["before the accident"])


def test_a_kind_deleted_by_accident_wipes_no_mail_that_would_go_with_its_domain(
    installation: ClusterInstallation, operator: Operator
) -> None:
    installation.apply(
        "taken", domain("taken.test", 66, deletionPolicy="Delete"), mailbox("taken", "taken-test")
    )
    installation.wait_for("Mailbox", "taken")
    installation.deliver("x@example.net", "taken@taken.test", "before the accident")
    installation.wait_for_mail("66/taken", "pw-taken", 1)
    objects = kubectl("get", "maildomains", "-n", NAMESPACE, "-o", "yaml")
    kubectl("delete", "crd", "maildomains.mailpods.io", "--wait=false")
    wait(lambda: not installation.can_log_in("66/taken", "pw-taken"), 30)
    held = fetched("MailDomain", "taken-test")
    assert held["metadata"]["deletionTimestamp"] and held["metadata"]["finalizers"]
    assert fetched("Mailbox", "taken"), "the accident took the accounts along"
    keep = '{"spec":{"deletionPolicy":"Retain"}}'
    for name in kubectl("get", "maildomains", "-n", NAMESPACE, "-o", "name").split():
        kubectl("patch", name, "-n", NAMESPACE, "--type=merge", "-p", keep)
    kubectl("wait", "crd/maildomains.mailpods.io", "--for=delete", "--timeout=60s")
    operator.install()
    kubectl("apply", "-f", "-", stdin=objects)
    installation.wait_for("Mailbox", "taken", seconds=60)
    assert subjects(installation, "66/taken", "pw-taken") == Counter(["before the accident"])
    installation.wait_for("Mailbox", "info", seconds=60)
    installation.remove("taken")  # one domain alone is meant: it goes, and all with it
    assert not fetched("MailDomain", "taken-test") and not fetched("Mailbox", "taken")


def test_a_node_is_drained_and_nothing_is_lost(installation: ClusterInstallation, operator: Operator) -> None:
    installation.apply("drained", mailbox("drained"))
    installation.wait_for("Mailbox", "drained")
    (node,) = kubectl("get", "nodes", "-o", "name").split()
    with load(installation, "drained@a.test") as running:
        time.sleep(2)
        drain = ("drain", node, "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=120s")
        kubectl(*drain)
        kubectl("uncordon", node)
        installation.wait_for("MailServer", "main", seconds=120)
        wait(lambda: installation.conditions("Mailbox", "drained")["Ready"]["status"] == "True", 60)
        sent = len(running.acknowledged)
        wait(lambda: len(running.acknowledged) > sent + 5, 60, "mail does not flow again")
    all_arrive(installation, "7/drained", "pw-drained", running.acknowledged)


def rolled_out(image: str) -> None:
    """Wait until all mail pods run this image."""

    def wanted(name: str) -> bool:
        template = fetched("StatefulSet", name)["spec"]["template"]
        return bool(template["spec"]["containers"][0]["image"] == image)

    for name in ("main-smtp", "main-store"):
        wait(lambda name=name: wanted(name), 30, f"{name} is not to run {image}")  # type: ignore[misc]
        kubectl("rollout", "status", f"statefulset/{name}", "-n", NAMESPACE, "--timeout=120s")


def test_an_upgrade_and_a_rollback_under_load_lose_nothing(
    installation: ClusterInstallation, operator: Operator
) -> None:
    installation.apply("upgraded", mailbox("upgraded"))
    installation.wait_for("Mailbox", "upgraded")
    image = fetched("StatefulSet", "main-smtp")["spec"]["template"]["spec"]["containers"][0]["image"]
    other = "mailpods:upgrade-test"
    subprocess.run(
        ["ctr", "images", "tag", "--force", f"docker.io/library/{image}", f"docker.io/library/{other}"],
        check=True,
        capture_output=True,
    )
    with load(installation, "upgraded@a.test") as running:
        operator.install("mail.image.tag=upgrade-test")
        rolled_out(other)
        operator.roll_back()
        rolled_out(image)
        sent = len(running.acknowledged)
        wait(lambda: len(running.acknowledged) > sent + 5, 60, "mail does not flow again")
    all_arrive(installation, "7/upgraded", "pw-upgraded", running.acknowledged)


def test_a_tenant_takes_nothing_of_another(installation: ClusterInstallation) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other", "labels": labels}}
    installation.apply("other", namespace)
    server = {"serverRef": {"name": "main", "namespace": NAMESPACE}}
    stolen = {**domain("a.test"), "spec": {"domainName": "a.test", **server}}
    reach = {
        "domainRef": {"name": "a-test"},
        "passwordSecretRef": {"name": "info-pw"},
    }
    foreign = [stolen, manifest("Mailbox", "info", reach), secret("unused", password="x")]
    for each in foreign:
        each["metadata"]["namespace"] = "other"
        kubectl("apply", "-f", "-", stdin=str(each).replace("'", '"'))

    def ready(kind: str, name: str) -> dict[str, str]:
        found = fetched(kind, name, "other").get("status", {}).get("conditions", [])
        return next((c for c in found if c["type"] == "Ready"), {})

    wait(lambda: ready("MailDomain", "a-test").get("status") == "False", 20)
    assert ready("MailDomain", "a-test")["reason"] == "NamespaceNotAllowed"
    wait(lambda: ready("Mailbox", "info").get("status") == "False", 20)
    installation.wait_for("MailDomain", "a-test")
    installation.deliver("x@example.net", "info@a.test", "still mine")
    wait(lambda: subjects(installation, "7/info", "pw-info")["still mine"] == 1, 20)
    kubectl("delete", "namespace", "other", "--wait", "--timeout=60s")
