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

from mail_operator.compiler.status import ready_of
from mail_operator.local.ports import Ports
from mail_operator.local.runner import Runner
from mail_operator.local.state import DataFolder
from mail_operator.local.table import render_table

HOST = "127.0.0.1"
START_SECONDS = 60.0
DELIVERY_SECONDS = 15.0


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


def _demo(runner: Runner, ports: Ports) -> None:
    began = time.monotonic()
    _wait(lambda: _is_ready(runner), START_SECONDS, "getting ready")
    print(render_table(runner.statuses, runner.observed, ports))
    print(f"\nReady after {time.monotonic() - began:.1f} s. Now as a user, over TLS with the own authority:")
    print("  (info: login 7/info or info@a.test, password quickstart-info; anna's was made, see the table)")

    names = ("imap", "imaps", "pop3", "pop3s", "smtp", "submission", "submissions")
    port = {name: ports.offered()[name] for name in names}
    certificate = next(v["ca.crt"] for v in runner.observed.secrets.values() if "ca.crt" in v)
    tls = ssl.create_default_context(cadata=certificate.decode())
    tls.check_hostname = False  # the name is the installation's, this machine's is another

    with smtplib.SMTP(HOST, port["submission"]) as client:
        client.starttls(context=tls)
        client.login("7/info", "quickstart-info")
        client.send_message(_message("info@a.test", "anna@a.test", "by submission, STARTTLS"))
    print(f"  info sent to anna over submission (587 -> {port['submission']}), STARTTLS, login 7/info")

    with smtplib.SMTP_SSL(HOST, port["submissions"], context=tls) as client:
        client.login("info@a.test", "quickstart-info")
        client.send_message(_message("info@a.test", "info@a.test", "by submissions, TLS"))
    print(f"  info sent to itself over submissions (465 -> {port['submissions']}), TLS, login info@a.test")

    with smtplib.SMTP(HOST, port["smtp"]) as client:
        client.send_message(_message("someone@example.net", "sales@a.test", "from outside"))
        code, text = client.docmd("MAIL FROM:<someone@example.net>")
        code, text = client.docmd("RCPT TO:<someone@example.com>")
        if code != 550:
            raise DemoFailed(f"an open relay: {code} {text!r}")
    print(f"  a stranger sent to sales@a.test over port 25 -> {port['smtp']}; relaying was refused: {text!r}")

    def arrived() -> bool:
        with imaplib.IMAP4(HOST, port["imap"]) as client:
            client.starttls(ssl_context=tls)
            client.login("7/info", "quickstart-info")
            return int(client.select("INBOX", readonly=True)[1][0] or 0) == 2

    _wait(arrived, DELIVERY_SECONDS, "delivery")
    print("\nWhat info reads over IMAP:")
    with imaplib.IMAP4_SSL(HOST, port["imaps"], ssl_context=tls) as reading:
        reading.login("7/info", "quickstart-info")
        reading.select("INBOX", readonly=True)
        for number in reading.search(None, "ALL")[1][0].split():
            _, found = reading.fetch(number.decode(), "(BODY[HEADER.FIELDS (FROM SUBJECT)])")
            header = found[0][1] if found and isinstance(found[0], tuple) else b""
            print("  " + " | ".join(header.decode().split("\r\n")).strip(" |"))
    print("What info reads over POP3:")
    reader = poplib.POP3_SSL(HOST, port["pop3s"], context=tls)
    reader.user("info@a.test")
    reader.pass_("quickstart-info")
    count, size = reader.stat()
    reader.quit()
    print(f"  {count} messages, {size} bytes")
    if count != 2:
        raise DemoFailed(f"POP3 shows {count} messages, IMAP 2")


def _message(sender: str, to: str, subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message.set_content("It works.\n")
    return message
