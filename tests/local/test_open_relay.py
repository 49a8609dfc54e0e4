"""Never an open relay: every combination of listener, network, login, sender, recipient, against a table."""

import itertools
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.installation import Installation, domain, mailbox, manifest, server, wait

STRANGER, LAN, TRUSTED = 2, 40, 60
LISTENERS = ("smtp", "submission", "submissions")
SENDERS = {"own": "info@a.test", "other": "other@a.test", "foreign": "x@sender.test", "null": ""}
RECIPIENTS = {
    "mailbox": "info@a.test",
    "unknown": "nobody@a.test",
    "relayed": "x@relayed.test",
    "elsewhere": "x@sink.test",
    # Old tricks: each is an address elsewhere, or none at all.
    "percent": "x%sink.test@a.test",
    "bang": "sink.test!x@a.test",
    "quoted": '"x@sink.test"@a.test',
}
OK, AUTH, NO_USER, RELAY = 250, 530, 550, 550
_REFUSED = dict.fromkeys(("unknown", "percent", "bang", "quoted"), NO_USER)
# Worked out by hand. Who may relay: whoever logged in, and trusted networks; the LAN where skipLan says so.
MAY = {"mailbox": OK, "relayed": OK, "elsewhere": OK, **_REFUSED}
STRANGERS_25 = {"mailbox": OK, "relayed": OK, "elsewhere": RELAY, **_REFUSED}
# On submission ports a stranger has to log in, whoever the recipient is; elsewhere is refused with the words
# that are the same on every port.
STRANGERS_587 = {**dict.fromkeys(RECIPIENTS, AUTH), "elsewhere": RELAY}


def expected(listener: str, network: int, login: bool, skip_lan: bool, sender: str, recipient: str) -> int:
    if login and sender in ("other", "foreign"):
        return 553  # the sender address belongs to somebody else
    if login or network == TRUSTED or (network == LAN and skip_lan):
        return MAY[recipient]
    return (STRANGERS_25 if listener == "smtp" else STRANGERS_587)[recipient]


@pytest.fixture(scope="module", params=[False, True], ids=["lan-is-foreign", "lan-is-excepted"])
def installation(
    request: pytest.FixtureRequest, module_installation: Installation
) -> tuple[Installation, bool]:
    made, skip = module_installation, bool(request.param)
    policy = {
        "serverRef": {"name": "main"},
        "auth": {"skipLan": skip},
        "lanNetworks": [{"name": "lan", "cidr": made.at(32) + "/28"}],
        "outbound": {"trusted": [{"name": "trusted", "cidr": made.at(TRUSTED) + "/32"}]},
        "inbound": {"domains": [{"name": "relayed", "domain": "relayed.test"}]},
    }
    made.apply("policy", manifest("RelayPolicy", "main", policy))
    made.apply("server", server(), domain("a.test", 7), mailbox("info"), mailbox("other"))
    made.start()
    made.wait_for("Mailbox", "other")
    wait(lambda: all(_takes(made, LAN) == (250 if skip else 550) for _ in range(10)))
    return made, skip


def _takes(installation: Installation, client: int) -> int:
    with _connected(installation, "smtp", client, login=False) as smtp:
        smtp.mail("x@sender.test")
        return smtp.rcpt("x@sink.test")[0]


@contextmanager
def _connected(installation: Installation, listener: str, client: int, login: bool) -> Iterator[smtplib.SMTP]:
    at, source = installation.address(listener), (installation.at(client), 0)
    if listener == "submissions":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(*at, source_address=source, context=installation.tls())
    else:
        smtp = smtplib.SMTP(*at, source_address=source)
    with smtp:
        smtp.ehlo("client.test")
        if login:
            if listener != "submissions":
                smtp.starttls(context=installation.tls())
            smtp.login("7/info", "pw-info")
        yield smtp


@pytest.mark.req("R-001-37", "R-003-02", "R-003-09")
def test_every_combination_is_judged_as_the_table_says(installation: tuple[Installation, bool]) -> None:
    made, skip = installation
    wrong = []
    for listener, network, login in itertools.product(LISTENERS, (STRANGER, LAN, TRUSTED), (False, True)):
        with _connected(made, listener, network, login) as smtp:
            for (sender, from_), (recipient, to) in itertools.product(SENDERS.items(), RECIPIENTS.items()):
                code, text = smtp.docmd(f"MAIL FROM:<{from_}>")
                if code == 250:
                    code, text = smtp.docmd(f"RCPT TO:<{to}>")
                smtp.docmd("RSET")
                wanted = expected(listener, network, login, skip, sender, recipient)
                if code != wanted:
                    wrong.append((listener, network, login, sender, recipient, wanted, code, text))
                if recipient == "elsewhere" and wanted == RELAY:
                    assert text == b"relay not permitted"
    assert wrong == []
