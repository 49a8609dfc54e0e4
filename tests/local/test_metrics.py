"""What Prometheus and probes see on the admin ports."""

import json
import re
import time

from mail_operator.local.asking import ask

from tests.support.installation import EmbeddedInstallation, mailbox, wait


def asked(endpoint: str, path: str) -> str:
    """The body of an answer."""
    return ask(endpoint, path, seconds=5).decode()


def values(installation: EmbeddedInstallation, container: str) -> dict[str, float]:
    """Sample -> value."""
    lines = asked(installation.state()["admin"][container], "/metrics").splitlines()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_every_metric_says_what_it_means(installation: EmbeddedInstallation) -> None:
    for container, endpoint in installation.state()["admin"].items():
        text = asked(endpoint, "/metrics")
        samples = set(re.findall(r"^(mail_\w+?)(?:_bucket|_sum|_count|_created|_total)?(?:\{| )", text, re.M))
        explained = dict(re.findall(r"^# HELP (mail_\w+?)(?:_created|_total)? (.+)$", text, re.M))
        assert samples <= explained.keys(), container
        assert all(explained[name].endswith(".") for name in samples), explained
        assert samples or container.endswith("/auth"), container


def test_counters_follow_what_happens(installation: EmbeddedInstallation) -> None:
    installation.apply("metered", mailbox("metered"))
    installation.wait_for("Mailbox", "metered")
    before = values(installation, "main-smtp-0/smtp")
    installation.deliver("x@example.net", "metered@a.test")
    with installation.smtp() as client:
        client.ehlo("x.example")
        client.mail("x@example.net")
        assert client.rcpt("nobody@a.test")[0] == 550
    installation.wait_for_mail("7/metered", "pw-metered", 1)

    def rise(name: str) -> float:
        return values(installation, "main-smtp-0/smtp").get(name, 0.0) - before.get(name, 0.0)

    wait(lambda: rise('mail_delivery_delivered_total{lane="shard-0"}') == 1)
    assert rise("mail_smtp_accepted_total") == 1
    assert rise('mail_smtp_connections_total{listener="smtp"}') == 2
    assert rise('mail_smtp_rejects_total{reason="unknown_recipient"}') == 1
    assert values(installation, "main-store-0/store")["mail_store_accounts"] >= 3


def test_probes_and_the_directory_answer(installation: EmbeddedInstallation) -> None:
    for endpoint in installation.state()["admin"].values():
        assert asked(endpoint, "/livez") == asked(endpoint, "/readyz") == "ok\n"
        told = json.loads(asked(endpoint, "/directory"))
        assert told["problems"] == {} and len(told["hashes"]) > 10


def test_dovecot_s_logins_are_counted(installation: EmbeddedInstallation) -> None:
    def rises(container: str, protocol: str) -> dict[str, float]:
        now = values(installation, container)
        name = 'mail_store_logins_total{protocol="%s",result="%s"}'
        return {result: now[name % (protocol, result)] for result in ("ok", "wrong")}

    installation.apply("counted", mailbox("counted"))
    installation.wait_for("Mailbox", "counted")
    reads, sends = rises("main-store-0/store", "imap"), rises("main-smtp-0/auth", "smtp")
    assert installation.can_log_in("7/counted", "pw-counted") and not installation.can_log_in(
        "7/counted", "wrong"
    )
    with installation.submission("7/counted", "pw-counted"):
        pass
    wait(lambda: rises("main-store-0/store", "imap") == {r: n + 1 for r, n in reads.items()})
    wait(lambda: rises("main-smtp-0/auth", "smtp") == {**sends, "ok": sends["ok"] + 1})


def test_programs_tell_of_space_certificates_and_files(installation: EmbeddedInstallation) -> None:
    smtp, store = values(installation, "main-smtp-0/smtp"), values(installation, "main-store-0/store")
    assert 0 < smtp["mail_spool_free_bytes"] < smtp["mail_spool_size_bytes"]
    assert 0 < store["mail_store_free_bytes"] < store["mail_store_size_bytes"]
    assert smtp["mail_directory_problems"] == store["mail_directory_problems"] == 0
    ends = "mail_tls_certificate_expiry_timestamp_seconds"
    assert smtp[ends] == store[ends] > time.time() + 86400
    assert store["mail_store_up"] == values(installation, "main-smtp-0/auth")["mail_store_up"] == 1
