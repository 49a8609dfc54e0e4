"""What Prometheus and probes see on the admin ports."""

import json
import re
import time
import urllib.request

from tests.support.installation import Installation, mailbox, wait


def ask(url: str) -> str:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def values(house: Installation, container: str) -> dict[str, float]:
    """Sample -> value."""
    lines = ask(f"{house.state()['admin'][container]}/metrics").splitlines()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_every_metric_says_what_it_means(house: Installation) -> None:
    for container, url in house.state()["admin"].items():
        text = ask(f"{url}/metrics")
        samples = set(re.findall(r"^(mail_\w+?)(?:_bucket|_sum|_count|_created|_total)?(?:\{| )", text, re.M))
        explained = dict(re.findall(r"^# HELP (mail_\w+?)(?:_created|_total)? (.+)$", text, re.M))
        assert samples <= explained.keys(), container
        assert all(explained[name].endswith(".") for name in samples), explained
        assert samples or container.endswith("/auth"), container


def test_counters_follow_what_happens(house: Installation) -> None:
    house.apply("metered", mailbox("metered"))
    house.wait_for("Mailbox", "metered")
    before = values(house, "main-smtp-0/smtp")
    house.deliver("x@example.net", "metered@a.test")
    with house.smtp() as client:
        client.ehlo("x.example")
        client.mail("x@example.net")
        assert client.rcpt("nobody@a.test")[0] == 550
    house.wait_for_mail("7/metered", "pw-metered", 1)

    def rise(name: str) -> float:
        return values(house, "main-smtp-0/smtp").get(name, 0.0) - before.get(name, 0.0)

    wait(lambda: rise('mail_delivery_delivered_total{lane="shard-0"}') == 1)
    assert rise("mail_smtp_accepted_total") == 1
    assert rise('mail_smtp_connections_total{listener="smtp"}') == 2
    assert rise('mail_smtp_rejects_total{reason="unknown_recipient"}') == 1
    assert values(house, "main-store-0/store")["mail_store_accounts"] >= 3


def test_probes_and_the_directory_answer(house: Installation) -> None:
    for url in house.state()["admin"].values():
        assert ask(f"{url}/livez") == ask(f"{url}/readyz") == "ok\n"
        told = json.loads(ask(f"{url}/directory"))
        assert told["problems"] == {} and len(told["hashes"]) > 10


def test_dovecot_s_logins_are_counted(house: Installation) -> None:
    def rises(container: str, protocol: str) -> dict[str, float]:
        now = values(house, container)
        name = 'mail_store_logins_total{protocol="%s",result="%s"}'
        return {result: now[name % (protocol, result)] for result in ("ok", "wrong")}

    house.apply("counted", mailbox("counted"))
    house.wait_for("Mailbox", "counted")
    reads, sends = rises("main-store-0/store", "imap"), rises("main-smtp-0/auth", "smtp")
    assert house.can_log_in("7/counted", "pw-counted") and not house.can_log_in("7/counted", "wrong")
    with house.submission("7/counted", "pw-counted"):
        pass
    wait(lambda: rises("main-store-0/store", "imap") == {r: n + 1 for r, n in reads.items()})
    wait(lambda: rises("main-smtp-0/auth", "smtp") == {**sends, "ok": sends["ok"] + 1})


def test_programs_tell_of_space_certificates_and_files(house: Installation) -> None:
    smtp, store = values(house, "main-smtp-0/smtp"), values(house, "main-store-0/store")
    assert 0 < smtp["mail_spool_free_bytes"] < smtp["mail_spool_size_bytes"]
    assert 0 < store["mail_store_free_bytes"] < store["mail_store_size_bytes"]
    assert smtp["mail_directory_problems"] == store["mail_directory_problems"] == 0
    ends = "mail_tls_certificate_expiry_timestamp_seconds"
    assert smtp[ends] == store[ends] > time.time() + 86400
    assert store["mail_store_up"] == values(house, "main-smtp-0/auth")["mail_store_up"] == 1
