"""Mail that leaves the cluster: signed, and by its own pool where it is a mass mailing; and a deny list."""

import smtplib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dkim  # type: ignore[import-untyped]
import pytest
from aiosmtpd.smtp import Envelope

from tests.cluster.installation import NAMESPACE, ClusterInstallation, fetched, kubectl
from tests.cluster.outside import NEEDED, elsewhere
from tests.local.test_sieve import (  # noqa: F401
    test_a_filter_sends_mail_on_unless_that_is_forbidden,
    test_an_absent_user_s_filter_answers,
)
from tests.support.installation import manifest, message, wait
from tests.support.returned import dsn
from tests.support.world import Sink

pytestmark = NEEDED
POOL = {"spec": {"bulk": {"replicas": 1, "hostname": "news.a.test"}}}


@pytest.fixture(scope="module")
def outside() -> Iterator[Sink]:
    with elsewhere() as sink:
        yield sink


@pytest.fixture
def sending(installation: ClusterInstallation) -> ClusterInstallation:
    """For the stories about filters."""
    return installation


@pytest.fixture
def abroad(outside: Sink) -> Callable[[str], list[Envelope]]:
    """What came out of it for an address of elsewhere.test."""
    return outside.to


def test_mail_leaves_signed_with_the_keys_of_the_status(
    installation: ClusterInstallation, outside: Sink
) -> None:
    records = {
        each["name"].encode(): each["value"].replace('" "', "").strip('"').encode()
        for each in installation.status("MailDomain", "a-test")["dns"]["records"]
        if each["type"] == "TXT"
    }
    with installation.submission("7/info", "pw-info") as client:
        client.send_message(message("info@a.test", "signed@elsewhere.test"))
    (envelope,) = wait(lambda: outside.to("signed@elsewhere.test"), 60)
    assert isinstance(envelope.content, bytes)
    assert all(dkim.DKIM(envelope.content).verify(n, dnsfunc=lambda q, **_: records.get(q)) for n in (0, 1))


@pytest.mark.timeout(240)
def test_mass_mailings_leave_by_pods_of_their_own_as_long_as_there_are_any(
    installation: ClusterInstallation, outside: Sink
) -> None:
    kubectl("patch", "mailserver", "main", "-n", NAMESPACE, "--type=merge", "-p", str(POOL).replace("'", '"'))
    ready = "jsonpath={.status.readyReplicas}=1"
    wait(lambda: fetched("StatefulSet", "main-bulk"), 30)
    kubectl("wait", "statefulset/main-bulk", "-n", NAMESPACE, f"--for={ready}", "--timeout=90s")
    with _bulk() as client:
        client.starttls(context=installation.tls())
        client.login("7/info", "pw-info")
        client.send_message(message("info@a.test", "mass@elsewhere.test"))
    wait(lambda: outside.to("mass@elsewhere.test"), 60)
    pods = {name: fetched("Pod", name)["status"]["podIP"] for name in ("main-bulk-0", "main-smtp-0")}
    assert outside.client("mass@elsewhere.test") == (pods["main-bulk-0"], "news.a.test")
    assert outside.client("signed@elsewhere.test") == (pods["main-smtp-0"], "mail.a.test")
    sender = outside.to("mass@elsewhere.test")[0].mail_from or ""
    with installation.smtp() as client:  # it comes back to the regular server, which tells the pool
        client.ehlo("mx.elsewhere.test")
        client.sendmail("", [sender], dsn("failed", "5.1.1", "550 5.1.1 user unknown"))

    def refused() -> bool:
        with _bulk() as client:
            client.starttls(context=installation.tls())
            client.login("7/info", "pw-info")
            client.mail("info@a.test")
            code, text = client.rcpt("mass@elsewhere.test")
            return code == 550 and b"on the suppression list of your domain: bounce" in text

    wait(refused, 60)
    none = '{"spec": {"bulk": null}}'
    kubectl("patch", "mailserver", "main", "-n", NAMESPACE, "--type=merge", "-p", none)
    for kind, name in (
        ("StatefulSet", "main-bulk"),
        ("Service", "main-bulk"),
        ("NetworkPolicy", "main-bulk"),
    ):
        wait(lambda kind=kind, name=name: not fetched(kind, name), 60)  # type: ignore[misc]
    assert fetched("PersistentVolumeClaim", "spool-main-bulk-0")  # what nobody took stays


@contextmanager
def _bulk() -> Iterator[smtplib.SMTP]:
    address = str(fetched("Service", "main-bulk")["spec"]["clusterIP"])

    def connected() -> smtplib.SMTP | None:
        try:
            return smtplib.SMTP(address, 4587, timeout=20)
        except OSError:  # nodes learn of a new Service with delay
            return None

    with wait(connected, 30) as client:
        yield client


def test_a_deny_list_refuses_and_names_its_rule(installation: ClusterInstallation) -> None:
    deny = [{"name": "no spam", "criteria": {"sender": "spam.test"}}]
    policy = {"serverRef": {"name": "main"}, "lists": {"deny": deny}}
    installation.apply("lists", manifest("RelayPolicy", "lists", policy))
    installation.wait_for("RelayPolicy", "lists")

    def verdict(sender: str) -> tuple[int, bytes]:
        with installation.smtp() as client:
            client.ehlo()
            client.mail(sender)
            return client.rcpt("info@a.test")

    assert verdict("x@spam.test") == (550, b"5.7.1 Refused by rule 'no spam'")
    assert verdict("x@ham.test")[0] == 250
    installation.remove("lists")
