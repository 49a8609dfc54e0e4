"""What Prometheus and probes see on the admin ports."""

import json
import re
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
