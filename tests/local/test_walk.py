"""What a user gets: send by submission, receive from outside, read over IMAP and POP3, with any login."""

import email
import email.policy
import smtplib
import socket
import time
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from mailpods.message.header import settle
from tests.support.installation import (
    EmbeddedInstallation,
    Installation,
    domain,
    mailbox,
    manifest,
    message,
    server,
    wait,
)


def answer(plain: socket.socket, question: bytes, ends_with: bytes) -> bytes:
    """What a server says to one line, up to the reply that holds `ends_with`."""
    plain.sendall(question)
    said = b""
    while ends_with not in said:
        more = plain.recv(4096)
        assert more, said
        said += more
    return said


@pytest.mark.req(
    "R-000-18", "R-000-20", "R-001-06", "R-002-04", "R-001-08", "R-002-16", "R-002-17", "R-002-18"
)
@pytest.mark.req_part("R-001-09", "R-001-10", "R-002-02")
def test_info_writes_to_anna_who_reads_over_imap_and_pop3(installation: Installation) -> None:
    installation.apply("walk", mailbox("walker"), mailbox("reader"))
    installation.wait_for("Mailbox", "reader")
    installation.wait_for("Mailbox", "walker")
    with installation.submission("7/walker", "pw-walker") as client:
        client.send_message(message("walker@a.test", "reader@a.test", "over 587"))
    with smtplib.SMTP_SSL(*installation.address("submissions"), context=installation.tls()) as secure:
        secure.login("walker@a.test", "pw-walker")
        secure.send_message(message("walker@a.test", "reader@a.test", "over 465"))
    found = installation.wait_for_mail("7/reader", "pw-reader", 2)
    assert {email.message_from_bytes(m)["Subject"] for m in found} == {"over 587", "over 465"}
    with installation.pop3("7/reader", "pw-reader") as client3:
        assert client3.stat()[0] == 2
        client3.dele(1)
        client3.quit()
    assert len(installation.inbox("7/reader", "pw-reader")) == 1  # R-001-10: fetched mail may go


@pytest.mark.req("R-001-01")
def test_all_login_forms_lead_to_the_same_mailbox(installation: Installation) -> None:
    installation.apply("forms", mailbox("forms"))
    installation.wait_for("Mailbox", "forms")
    generated = installation.status("Mailbox", "forms")["loginName"]
    assert len(generated) == 6
    for login in ("7/forms", "forms@a.test", "forms@a2.test", generated, "FORMS@A.test"):
        assert installation.can_log_in(login, "pw-forms"), login
        with installation.submission(login, "pw-forms") as client:
            client.send_message(message("forms@a.test", "forms@a.test", login))
    assert len(installation.wait_for_mail("7/forms", "pw-forms", 5)) == 5
    assert not installation.can_log_in("forms", "pw-forms")  # R-000-19: the bare name is no login


@pytest.mark.req("R-000-01", "R-000-02")
def test_domains_have_their_own_people_unless_they_share_them(installation: Installation) -> None:
    installation.apply("shared", mailbox("pat"), mailbox("pat-b", "b-test", localPart="pat"))
    installation.wait_for("Mailbox", "pat")
    installation.wait_for("Mailbox", "pat-b")
    installation.deliver("x@example.net", "pat@a.test", "a")
    installation.deliver("x@example.net", "pat@a2.test", "a2")
    installation.deliver("x@example.net", "pat@b.test", "b")
    ours = installation.wait_for_mail("7/pat", "pw-pat", 2)
    theirs = installation.wait_for_mail("8/pat", "pw-pat-b", 1)
    assert {email.message_from_bytes(m)["Subject"] for m in ours} == {"a", "a2"}
    assert [email.message_from_bytes(m)["Subject"] for m in theirs] == ["b"]


@pytest.mark.req_part("R-001-37")
@pytest.mark.parametrize("service", ["smtp", "submission", "submissions"])
def test_a_stranger_may_not_relay(installation: Installation, service: str) -> None:
    secure = (
        smtplib.SMTP_SSL(*installation.address(service), context=installation.tls())
        if service[-1] == "s"
        else None
    )
    with secure or installation.smtp(service) as client:
        client.ehlo("client.example.net")
        client.mail("x@example.net")
        assert client.rcpt("y@example.org") == (550, b"relay not permitted")
        assert client.rcpt("nobody@a.test")[0] == (550 if service == "smtp" else 530)
        assert client.rcpt("info@a.test")[0] == (250 if service == "smtp" else 530)


def test_a_message_has_so_many_recipients_and_hops(installation: Installation) -> None:
    with installation.smtp() as client:
        client.ehlo("x.example")
        client.mail("x@example.net")
        replies = [client.rcpt("info@a.test")[0] for _ in range(1001)]
        assert replies == [250] * 1000 + [452]
        client.rset()
        hop = "Received: from a.example by b.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        with pytest.raises(smtplib.SMTPDataError, match="loop"):
            client.sendmail("x@example.net", ["info@a.test"], hop * 51 + "Subject: loop\r\n\r\nx\r\n")


@pytest.mark.req("R-003-04")
def test_a_sender_must_be_the_login_s_own(installation: Installation) -> None:
    installation.apply("own", mailbox("own"), manifest("MailAlias", "own-alias", {
        "domainRef": {"name": "a-test"}, "targets": [{"mailboxRef": {"name": "own"}}]}))  # fmt: skip
    installation.wait_for("Mailbox", "own")
    installation.wait_for("MailAlias", "own-alias")
    with installation.submission("7/own", "pw-own") as client:
        assert client.mail("info@a.test")[0] in (550, 553)
        assert client.mail("own@a2.test")[0] == 250
        client.rset()
        assert client.mail("own-alias@a.test")[0] == 250


@pytest.mark.req("R-001-40")
def test_a_message_over_the_limit_is_refused_before_and_after_data(installation: Installation) -> None:
    with installation.smtp() as client:
        client.ehlo("client.example.net")
        assert client.esmtp_features["size"] == "2000000"
        assert client.docmd("MAIL FROM:<x@example.net> SIZE=2000001")[0] == 552
        client.mail("x@example.net")
        client.rcpt("info@a.test")
        code, _ = client.data(b"Subject: x\r\n\r\n" + b"x" * 70 + (b"\r\n" + b"y" * 76) * 27000)
        assert code == 552


@pytest.mark.req("R-000-24", "R-001-05")
def test_a_new_password_acts_within_a_moment_and_drops_no_connection(installation: Installation) -> None:
    installation.apply("changing", mailbox("changing"))
    installation.wait_for("Mailbox", "changing")
    with installation.imap("7/changing", "pw-changing") as kept:
        for n in range(3):  # each is as long as the one before: the trap of same size and second
            new = f"password-{n}"
            installation.apply("changing", mailbox("changing", password=new))
            wait(lambda new=new: installation.can_log_in("7/changing", new), 5)  # type: ignore[misc]
            assert not installation.can_log_in("7/changing", "pw-changing")
            if n:
                assert not installation.can_log_in("7/changing", f"password-{n - 1}")
            assert kept.noop()[0] == "OK"


def test_a_new_mailbox_works_within_a_moment(installation: Installation) -> None:
    began = time.monotonic()
    installation.apply("quick", mailbox("quick"))
    wait(lambda: installation.can_log_in("7/quick", "pw-quick"), 5)
    assert time.monotonic() - began < 5
    installation.wait_for("Mailbox", "quick")
    installation.deliver("x@example.net", "quick@a.test")
    installation.wait_for_mail("7/quick", "pw-quick", 1)


@pytest.mark.req("R-004-01", "R-004-03", "R-004-16")
def test_services_are_off_or_for_the_lan_alone(installation: Installation) -> None:
    services = {"imap": "off", "pop3": "everywhere", "smtp": "lan"}
    installation.apply("services", mailbox("limited", services=services))
    installation.wait_for("Mailbox", "limited")
    assert not installation.can_log_in("7/limited", "pw-limited")
    with installation.pop3("7/limited", "pw-limited"):
        pass
    with installation.smtp("submission") as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.starttls(context=installation.tls())
        client.login("7/limited", "pw-limited")  # 127.0.0.1 is in no LAN here


@pytest.mark.req("R-002-06", "R-002-08", "R-001-16")
def test_an_alias_leads_to_several_and_never_takes_a_mailbox_s_address(installation: Installation) -> None:
    alias = {"domainRef": {"name": "a-test"}, "targets": [
        {"mailboxRef": {"name": "one"}}, {"mailboxRef": {"name": "two"}}]}  # fmt: skip
    installation.apply("aliases", mailbox("one"), mailbox("two"))
    installation.wait_for("Mailbox", "two")
    installation.apply("aliases-2", manifest("MailAlias", "both", alias),
                manifest("MailAlias", "theft", {**alias, "localPart": "one"}))  # fmt: skip
    installation.wait_for("MailAlias", "both")
    refused = installation.wait_for("MailAlias", "theft", "False")
    assert refused["reason"] == "AddressTaken" and "one@a.test" in refused["message"]
    installation.deliver("x@example.net", "both@a.test")
    installation.wait_for_mail("7/one", "pw-one", 1)
    installation.wait_for_mail("7/two", "pw-two", 1)


def test_aliases_that_lead_in_a_circle_are_named_and_harm_nobody(installation: Installation) -> None:
    def leads(name: str, to: str) -> object:
        spec = {"domainRef": {"name": "a-test"}, "targets": [{"address": f"{to}@a.test"}]}
        return manifest("MailAlias", name, spec)

    installation.apply("circle", leads("ring-a", "ring-b"), leads("ring-b", "ring-a"))
    assert installation.wait_for("MailAlias", "ring-a", "False")["reason"] == "AliasCycle"
    with installation.smtp() as client:
        client.ehlo("x.example")
        client.mail("x@example.net")
        assert client.rcpt("ring-a@a.test")[0] == 550
    installation.remove("circle")


@pytest.mark.req("R-000-08", "R-000-09", "R-000-26")
def test_the_domain_administrator_is_there_and_locked_and_its_name_reserved(
    installation: EmbeddedInstallation,
) -> None:
    assert installation.status("MailDomain", "a-test")["admin"] == {"login": "7/maint"}
    for password in ("", "maint", "7/maint"):
        assert not installation.can_log_in("7/maint", password or "x")
    installation.apply("maint", mailbox("maint"))
    wait(lambda: "maint is reserved" in (installation.data.parent / "up.log").read_text())
    installation.remove("maint")


@pytest.mark.req_part("R-001-15")
def test_a_full_mailbox_is_refused_at_rcpt(installation: Installation) -> None:
    installation.apply("full", mailbox("full", quota="100k"))
    installation.wait_for("Mailbox", "full")
    with installation.smtp() as client:
        body = message("x@example.net", "full@a.test", body="x" * 70 + "\n" + ("y" * 70 + "\n") * 1300)
        client.send_message(body)
    installation.wait_for_mail("7/full", "pw-full", 1)
    with installation.smtp() as client:
        client.ehlo("x.example")
        client.docmd("MAIL FROM:<x@example.net> SIZE=50000")
        code, text = client.rcpt("full@a.test")
        assert code == 552, text


def test_special_use_folders_are_there(installation: Installation) -> None:
    with installation.imap("7/info", "pw-info") as client:
        listed = b" ".join(line for line in client.list()[1] if isinstance(line, bytes))
    for use in (b"\\Drafts", b"\\Sent", b"\\Junk", b"\\Trash", b"\\Archive"):
        assert use in listed


def test_a_local_failure_for_good_tells_the_sender_and_a_null_sender_nothing(
    installation: EmbeddedInstallation,
) -> None:
    """A message larger than the quota, whose size the client kept to itself: LMTP refuses it at the end."""

    def send_without_size(client: smtplib.SMTP, sender: str, data: bytes) -> None:
        assert client.docmd(f"MAIL FROM:<{sender}>")[0] == 250
        assert client.rcpt("tiny@a.test")[0] == 250
        assert client.data(data)[0] == 250

    installation.apply("bounce", mailbox("writer"), mailbox("tiny", quota="20k"))
    installation.wait_for("Mailbox", "tiny")
    installation.wait_for("Mailbox", "writer")
    large = message("writer@a.test", "tiny@a.test", "too large", ("z" * 70 + "\n") * 600)
    with installation.submission("7/writer", "pw-writer") as client:
        send_without_size(client, "writer@a.test", large.as_bytes(policy=email.policy.SMTP))
    report = email.message_from_bytes(installation.wait_for_mail("7/writer", "pw-writer", 1)[0])
    assert report.get_content_type() == "multipart/report"
    assert report["Auto-Submitted"] == "auto-replied"
    status = report.get_payload()[1].as_string()  # type: ignore[union-attr,index]
    assert "Action: failed" in status and "tiny@a.test" in status
    with installation.smtp() as outside:
        outside.ehlo("x.example")
        send_without_size(outside, "", large.as_bytes(policy=email.policy.SMTP))
    wait(lambda: installation.log("main-smtp-0-smtp").count("failed id=") >= 2)
    time.sleep(1)
    assert len(installation.inbox("7/writer", "pw-writer")) == 1


@pytest.mark.req("R-000-17")
@pytest.mark.parametrize("policy", ["Delete", "Retain"])
def test_a_domain_s_mail_goes_with_it_where_that_was_asked_for(
    installation: Installation, policy: str
) -> None:
    number = {"Delete": 71, "Retain": 72}[policy]
    name, owner, last = f"{policy}.test".lower(), f"{policy}-test".lower(), f"last-{number}"
    login, password = f"{number}/{last}", f"pw-{last}"
    installation.apply(f"{owner}-domain", domain(name, number, deletionPolicy=policy))
    installation.apply(last, mailbox(last, owner))
    installation.wait_for("Mailbox", last)
    installation.deliver("x@example.net", f"{last}@{name}", "before")
    installation.wait_for_mail(login, password, 1)
    installation.remove(f"{owner}-domain")
    wait(lambda: not installation.can_log_in(login, password), 30)

    def refused() -> bool:
        with installation.smtp() as client:
            client.ehlo("x.example")
            client.mail("x@example.net")
            return client.rcpt(f"{last}@{name}")[0] == 550

    wait(refused)  # the workers of smtp hear of it by themselves, some after the store
    wiped = f"domain {number} was deleted with all its mail: 1 mailboxes are wiped"
    if policy == "Delete":
        wait(lambda: wiped in installation.log("main-store-0-store"), 30, "the mail was not wiped")
        installation.remove(last)
    else:
        installation.wait_for("Mailbox", last, "False")  # or its coming back would be taken for done
    installation.apply(f"{owner}-domain", domain(name, number, deletionPolicy=policy))
    installation.apply(last, mailbox(last, owner))
    installation.wait_for("Mailbox", last)
    assert len(installation.inbox(login, password)) == (policy == "Retain")
    installation.remove(last)


@pytest.fixture
def lonely(installations: Callable[[], EmbeddedInstallation]) -> Iterator[EmbeddedInstallation]:
    made = installations()
    made.apply("server", server(), domain("a.test", 7))
    made.apply("info", mailbox("info"))
    made.start()
    yield made


@pytest.mark.req_part("R-000-16", "R-000-17")
def test_a_removed_mailbox_is_parked_and_comes_back_with_its_mail(lonely: EmbeddedInstallation) -> None:
    lonely.apply("gone", mailbox("gone"))
    lonely.wait_for("Mailbox", "gone")
    lonely.deliver("x@example.net", "gone@a.test")
    lonely.wait_for_mail("7/gone", "pw-gone", 1)
    lonely.remove("gone")
    mail = lonely.data / "volumes" / "mail-main-store-0"
    wait(lambda: not (mail / "7" / "gone").exists() and list(mail.glob(".parked/7@*/gone~*")))
    assert not lonely.can_log_in("7/gone", "pw-gone")
    with lonely.smtp() as client:
        client.ehlo("x.example")
        client.mail("x@example.net")
        assert client.rcpt("gone@a.test")[0] == 550
    lonely.apply("gone", mailbox("gone"))
    lonely.wait_for("Mailbox", "gone")
    assert len(lonely.inbox("7/gone", "pw-gone")) == 1


def test_a_sudden_removal_of_many_is_kept_until_it_is_confirmed(
    installations: Callable[[], EmbeddedInstallation],
) -> None:
    made = installations()
    shortest = server(store={"retentionDays": 0})
    made.apply("server", shortest, domain("a.test", 7))
    made.apply("info", mailbox("info"), mailbox("one"))
    made.apply("many", *(mailbox(f"m{n}") for n in range(12)))
    made.start()
    made.wait_for("Mailbox", "m11", seconds=60)
    for name in ("one", *(f"m{n}" for n in range(12))):
        made.deliver("x@example.net", f"{name}@a.test")
    mail = made.data / "volumes" / "mail-main-store-0"

    def there() -> set[str]:
        return {folder.name for folder in (mail / "7").iterdir() if folder.is_dir()}

    def parked() -> set[str]:
        return {path.name.partition("~")[0] for path in mail.glob(".parked/7@*/*")}

    wait(lambda: len(there()) >= 13)
    made.remove("many")
    wait(lambda: len(parked()) == 12)
    made.apply("info", mailbox("info"))
    wait(lambda: "one" not in there() | parked())  # one alone is purged after its retention, none at all here
    assert len(parked()) == 12
    batch = next(mail.glob(".parked/7@*/*")).name.rpartition("~")[2]
    assert f"mailpods.io/confirm-removal={batch}" in made.log("main-store-0-store")
    shortest["metadata"]["annotations"] = {"mailpods.io/confirm-removal": batch}
    made.apply("server", shortest, domain("a.test", 7))
    wait(lambda: not parked())


def test_an_empty_folder_of_manifests_changes_nothing(lonely: EmbeddedInstallation) -> None:
    lonely.deliver("x@example.net", "info@a.test")
    lonely.wait_for_mail("7/info", "pw-info", 1)
    for file in lonely.manifests.glob("*.yaml"):
        file.rename(file.with_suffix(".away"))
    wait(lambda: "no manifest is left" in (lonely.data.parent / "up.log").read_text())
    time.sleep(1)
    assert lonely.can_log_in("7/info", "pw-info")
    assert len(lonely.inbox("7/info", "pw-info")) == 1


def test_state_survives_a_restart(lonely: EmbeddedInstallation) -> None:
    lonely.deliver("x@example.net", "info@a.test")
    lonely.wait_for_mail("7/info", "pw-info", 1)
    with lonely.imap("7/info", "pw-info") as client:
        client.select("INBOX")
        before = client.response("UIDVALIDITY")[1]
    lonely.stop()
    lonely.start()
    lonely.wait_for("Mailbox", "info")
    with lonely.imap("7/info", "pw-info") as client:
        client.select("INBOX")
        assert client.response("UIDVALIDITY")[1] == before
    assert len(lonely.inbox("7/info", "pw-info")) == 1


def test_tls_is_needed_for_a_login(installation: Installation) -> None:
    # From another address than the server's: Dovecot takes a connection within one address for safe.
    other = installation.elsewhere
    with socket.create_connection(installation.address("imap"), 10, other) as plain:
        assert b"a NO [PRIVACYREQUIRED]" in answer(plain, b'a LOGIN "7/info" "pw-info"\r\n', b"\r\na ")
    with socket.create_connection(installation.address("pop3"), 10, other) as plain:
        assert b"-ERR [AUTH]" in answer(plain, b"USER 7/info\r\n", b"-ERR")
    with installation.smtp("submission") as plain_smtp:
        plain_smtp.ehlo("x.example")
        assert "auth" not in plain_smtp.esmtp_features
        assert plain_smtp.docmd("AUTH PLAIN AGEAYg==")[0] in (503, 530, 538)


def test_messages_that_nobody_here_wrote_come_back_byte_for_byte(installation: Installation) -> None:
    """The standard library's e-mail test data and the bounces that flufl.bounce collected, through SMTP, come
    back over IMAP and POP3."""
    import test.test_email as corpus  # type: ignore[import-not-found]

    files = sorted((Path(corpus.__file__).parent / "data").glob("msg_*.txt"))
    bounces = [
        Path(str(f.locate())) for f in distribution("flufl.bounce").files or () if f.match("data/*.txt")
    ]
    assert len(files) > 40
    assert len(bounces) > 80
    installation.apply("corpus", mailbox("corpus"))
    installation.wait_for("Mailbox", "corpus")
    sent: dict[bytes, bytes] = {}
    improper = 0
    with installation.smtp() as client:
        client.ehlo("x.example")
        for n, file in enumerate([*files, *bounces]):
            lines = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n").split(b"\n")
            if lines[0].startswith(b"From "):
                del lines[0]  # of an mbox; behind another field it would end the header
            marker = b"X-Corpus: %d" % n
            body = b"\r\n".join([marker, *lines, b""])
            if any(len(line) > 998 for line in lines):
                continue
            assert client.sendmail("x@example.net", ["corpus@a.test"], body, ["BODY=8BITMIME"]) == {}
            header, rest = settle([body])
            sent[marker] = b"".join([header, b"\r\n", *rest])
            improper += sent[marker] != body
    assert improper < 4  # no empty line behind the header, or none at all: see mailpods.message.header
    over_imap = installation.wait_for_mail("7/corpus", "pw-corpus", len(sent), 60)
    with installation.pop3("7/corpus", "pw-corpus") as reader:
        over_pop3 = [b"\r\n".join([*reader.retr(n + 1)[1], b""]) for n in range(len(sent))]
    for found in (over_imap, over_pop3):
        bodies = {b"X-Corpus: " + m.partition(b"X-Corpus: ")[2].partition(b"\r\n")[0]: m for m in found}
        assert bodies.keys() == sent.keys()
        for marker, body in sent.items():
            assert bodies[marker].endswith(b"\r\n" + body), marker
