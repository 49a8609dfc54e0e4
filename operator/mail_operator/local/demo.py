"""`./run demo`: applies manifests, sends and reads real mail as users would, says what happened, stops."""

import asyncio
import imaplib
import poplib
import smtplib
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

from mail_operator.compiler.status import ready_of
from mail_operator.kinds.mailbox import Mailbox
from mail_operator.local.ports import Ports
from mail_operator.local.runner import Runner
from mail_operator.local.state import DataFolder
from mail_operator.local.table import render_table

HOST = "127.0.0.1"
START_SECONDS = 60.0
DELIVERY_SECONDS = 15.0


class Account(NamedTuple):
    """Somebody whose password is known, for he is new here or the manifests say it."""

    address: str
    login: str
    password: str
    pop3: bool  # may be read by POP3, too


class DemoFailed(Exception):
    """Something did not work; the message says what."""


def main(arguments: list[str], user: str | None) -> int:
    """Run the demo on the manifests in a folder. Returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="mailpods-demo-") as folder:
        Path(folder).chmod(0o755)
        data = DataFolder(Path(folder) / "data")
        ports = Ports(HOST, None)
        runner = Runner([Path(arguments[0])], data, ports, user)
        running = threading.Thread(target=lambda: asyncio.run(runner.run()))
        running.start()
        try:
            _demo(runner, ports)
        except (DemoFailed, OSError, smtplib.SMTPException, imaplib.IMAP4.error, poplib.error_proto) as error:
            print(f"\nThe demo failed: {error}", file=sys.stderr)
            for log in sorted((data.path / "logs").glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
            return 1
        finally:
            runner.stop()
            running.join()
            data.close()
    print("\nEverything was stopped, nothing was kept. `./run up` does the same, and stays.")
    return 0


def _wait(done: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise DemoFailed(f"{what} took more than {seconds:.0f} s")
        time.sleep(0.02)


def _is_ready(runner: Runner) -> bool:
    ready = [c for status in runner.statuses.values() if (c := ready_of(status))]
    return bool(ready) and all(c["status"] == "True" for c in ready)


def _accounts(runner: Runner) -> list[Account]:
    """Those who may send and read from here."""
    found = []
    for ref, resource in sorted(runner.observed.snapshot.objects.items()):
        if not isinstance(resource, Mailbox) or resource.spec.password_hash:
            continue
        services, status = resource.spec.services, runner.statuses.get(ref, {})
        secret = resource.password_secret() or f"{ref.name}-password"
        password = runner.observed.secrets.get((ref.namespace, secret), {}).get("password")
        if password and services.imap == services.smtp == "everywhere" and "login" in status:
            login, pop3 = str(status["login"]), services.pop3 == "everywhere"
            found.append(Account(str(status["address"]), login, password.decode(), pop3))
    return found


def _demo(runner: Runner, ports: Ports) -> None:
    began = time.monotonic()
    _wait(lambda: _is_ready(runner), START_SECONDS, "getting ready")
    print(render_table(runner.statuses, runner.observed, ports))
    print(f"\nReady after {time.monotonic() - began:.1f} s. Now as a user, over TLS with the own authority:")

    port = ports.offered()
    certificates = [v["ca.crt"].decode() for v in runner.observed.secrets.values() if "ca.crt" in v]
    tls = ssl.create_default_context(cadata="".join(certificates) or None)
    tls.check_hostname = False  # the name is the installation's, this machine's is another
    accounts = _accounts(runner)
    if not accounts:
        _stranger(port["smtp"], None)
        print(
            "  no mailbox here has a password that is known and may be used from everywhere: nobody logs in"
        )
        return
    info, other = accounts[0], accounts[-1]

    with smtplib.SMTP(HOST, port["submission"]) as client:
        client.starttls(context=tls)
        client.login(info.login, info.password)
        client.send_message(_message(info.address, other.address, "by submission, STARTTLS"))
    print(f"  {info.address} sent to {other.address} over submission (587 -> {port['submission']}), STARTTLS")

    with smtplib.SMTP_SSL(HOST, port["submissions"], context=tls) as client:
        client.login(info.login, info.password)
        client.send_message(_message(info.address, info.address, "by submissions, TLS"))
    print(f"  {info.address} sent to itself over submissions (465 -> {port['submissions']}), TLS")
    expected = 1 + (other == info) + _stranger(port["smtp"], info.address)

    def arrived() -> bool:
        with imaplib.IMAP4(HOST, port["imap"]) as client:
            client.starttls(ssl_context=tls)
            client.login(info.login, info.password)
            return int(client.select("INBOX", readonly=True)[1][0] or 0) == expected

    _wait(arrived, DELIVERY_SECONDS, "delivery")
    print(f"\nWhat {info.address} reads over IMAP:")
    with imaplib.IMAP4_SSL(HOST, port["imaps"], ssl_context=tls) as reading:
        reading.login(info.login, info.password)
        reading.select("INBOX", readonly=True)
        for number in reading.search(None, "ALL")[1][0].split():
            _, found = reading.fetch(number.decode(), "(BODY[HEADER.FIELDS (FROM SUBJECT)])")
            header = found[0][1] if found and isinstance(found[0], tuple) else b""
            print("  " + " | ".join(header.decode().split("\r\n")).strip(" |"))
    if not info.pop3:
        return
    print(f"What {info.address} reads over POP3:")
    reader = poplib.POP3_SSL(HOST, port["pop3s"], context=tls)
    reader.user(info.login)
    reader.pass_(info.password)
    count, size = reader.stat()
    reader.quit()
    print(f"  {count} messages, {size} bytes")
    if count != expected:
        raise DemoFailed(f"POP3 shows {count} messages, IMAP {expected}")


def _stranger(port: int, address: str | None) -> bool:
    """Somebody sends to an address here, if one is known, and tries to pass mail on. Whether it was taken."""
    taken, refused = False, "  a stranger's mail was refused, by rules of yours:"
    with smtplib.SMTP(HOST, port) as client:
        if address:
            try:
                client.send_message(_message("someone@example.net", address, "from outside"))
                taken = True
                print(f"  a stranger sent to {address} over port 25 -> {port}")
            except smtplib.SMTPResponseException as error:
                print(f"{refused} {error.smtp_code} {error.smtp_error!r}")
            except smtplib.SMTPRecipientsRefused as error:
                print(f"{refused} {error.recipients}")
        client.rset()
        client.ehlo_or_helo_if_needed()
        said = client.docmd("MAIL FROM:<someone@example.net>")
        if said[0] == 250:
            said = client.docmd("RCPT TO:<someone@example.com>")
    if said[0] < 400:
        raise DemoFailed(f"an open relay: {said[0]} {said[1]!r}")
    print(f"  a stranger may not pass mail on: {said[0]} {said[1].decode(errors='replace')}")
    return taken


def _message(sender: str, to: str, subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message.set_content("It works.\n")
    return message
