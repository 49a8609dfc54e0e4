"""A whole installation for a test: `mailpods up` on manifests in a folder, and its users."""

import imaplib
import json
import os
import poplib
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from email.message import EmailMessage
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError

import yaml
from mail_operator.cli import main as cli
from mail_operator.local.asking import ask_json

from mailpods.directory.endpoints import Place, http_connection, resolve

HOST = "127.0.0.1"
T = TypeVar("T")


def manifest(kind: str, name: str, spec: dict[str, Any], namespace: str = "t", **meta: Any) -> dict[str, Any]:
    """A custom resource."""
    return {
        "apiVersion": "mailpods.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **meta},
        "spec": spec,
    }


def secret(name: str, **values: str) -> dict[str, Any]:
    """A Secret of the tests' namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "t"},
        "stringData": values,
    }


def mailbox(
    name: str, domain: str = "a-test", password: str | None = None, **spec: Any
) -> list[dict[str, Any]]:
    """A Mailbox with the Secret of its password (`pw-<name>` unless given)."""
    return [
        secret(f"{name}-pw", password=password or f"pw-{name}"),
        manifest(
            "Mailbox",
            name,
            {"domainRef": {"name": domain}, "passwordSecretRef": {"name": f"{name}-pw"}, **spec},
        ),
    ]


def server(**spec: Any) -> dict[str, Any]:
    """The MailServer of the tests."""
    return manifest("MailServer", "main", {"hostname": "mail.a.test", **spec})


def domain(name: str, number: int | None = None, **spec: Any) -> dict[str, Any]:
    """A MailDomain; a.test is named a-test."""
    numbered = {} if number is None else {"number": number}
    given = {"domainName": name, "serverRef": {"name": "main"}, **numbered, **spec}
    return manifest("MailDomain", name.replace(".", "-"), given)


def message(sender: str, to: str, subject: str = "hello", body: str = "It works.\n") -> EmailMessage:
    """An ordinary message."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, to, subject
    made.set_content(body)
    return made


def wait(what: Callable[[], T | None], seconds: float = 20, why: str = "it did not happen") -> T:
    """The first true value of `what`, asked again and again. Fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < end, f"{why} within {seconds} s"
        time.sleep(0.01)


def get(place: Place, path: str) -> bytes:
    """What a program answers, at host and port or at a socket of this machine. Raises HTTPError."""
    connection = http_connection(place, 10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise HTTPError(path, answer.status, body.decode(), answer.headers, None)
        return body
    finally:
        connection.close()


class Installation(ABC):
    """An installation on some ground, manifests applied to it, and its users."""

    elsewhere: tuple[str, int] | None = None  # where a client binds to come from another address
    net: str  # the first three octets of the addresses of strangers, LANs and servers of the world

    def at(self, number: int) -> str:
        """An address of the world: who binds to it reaches the installation, and is reached, from there."""
        return f"{self.net}.{number}"

    @abstractmethod
    def start(self) -> None:
        """Start what was applied, and wait until everything that can be is ready."""

    @abstractmethod
    def govern(self, policy: dict[str, Any]) -> None:
        """Apply the one RelayPolicy of a server; on return all workers judge by it."""

    @abstractmethod
    def tool(self, *words: str, fails: bool = False) -> str:
        """What `mailpods` prints here, given e.g. ("queue", "show"); what it says if it fails."""

    @abstractmethod
    def pod(self, name: str, port: int) -> tuple[str, int]:
        """Where a pod's port is that no Service offers."""

    @abstractmethod
    def apply(self, name: str, *documents: Any) -> None:
        """Apply manifests; `name` is that of their file."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Take away what was applied under this name."""

    @abstractmethod
    def status(self, kind: str, name: str) -> dict[str, Any]:
        """The status of an object, {} if it is not known."""

    @abstractmethod
    def wait_for(self, kind: str, name: str, status: str = "True", seconds: float = 20) -> dict[str, str]:
        """Wait for an object's Ready; returns that condition."""

    @abstractmethod
    def address(self, service: str) -> tuple[str, int]:
        """Host and port of a service: smtp, submission, imaps, bulk, unsubscribe, …"""

    @abstractmethod
    def log(self, container: str) -> str:
        """The log of one container, e.g. main-smtp-0-smtp."""

    @abstractmethod
    def tls(self) -> ssl.SSLContext:
        """A context that trusts the installation's own authority, and nobody else."""

    def conditions(self, kind: str, name: str) -> dict[str, dict[str, str]]:
        """The conditions of an object by type."""
        return {c["type"]: c for c in self.status(kind, name).get("conditions", ())}

    @contextmanager
    def smtp(self, service: str = "smtp") -> Iterator[smtplib.SMTP]:
        """A client of one of the SMTP ports, closed at the end."""
        client = smtplib.SMTP(*self.address(service), timeout=30)
        try:
            yield client
        finally:
            client.close()

    @contextmanager
    def submission(self, login: str, password: str) -> Iterator[smtplib.SMTP]:
        """A client of 587 that logged in after STARTTLS."""
        with self.smtp("submission") as client:
            client.starttls(context=self.tls())
            client.login(login, password)
            yield client

    @contextmanager
    def imap(self, login: str, password: str) -> Iterator[imaplib.IMAP4]:
        """A client of 993, logged in."""
        client = imaplib.IMAP4_SSL(*self.address("imaps"), ssl_context=self.tls(), timeout=30)
        try:
            client.login(login, password)
            yield client
        finally:
            client.shutdown()

    @contextmanager
    def pop3(self, login: str, password: str) -> Iterator[poplib.POP3]:
        """A client of 995, logged in."""
        client = poplib.POP3_SSL(*self.address("pop3s"), context=self.tls(), timeout=30)
        try:
            client.user(login)
            client.pass_(password)
            yield client
        finally:
            client.close()

    def can_log_in(self, login: str, password: str) -> bool:
        """Whether IMAP takes the login."""
        try:
            with self.imap(login, password):
                return True
        except imaplib.IMAP4.error:
            return False

    def inbox(self, login: str, password: str) -> list[bytes]:
        """All messages of the INBOX, whole, in the order of their arrival."""
        with self.imap(login, password) as client:
            if client.select("INBOX", readonly=True)[1] == [b"0"]:
                return []
            _, found = client.fetch("1:*", "(BODY.PEEK[])")
            return [part[1] for part in found if isinstance(part, tuple)]

    def deliver(self, sender: str, to: str, subject: str = "hello") -> None:
        """From outside, over port 25."""
        with self.smtp() as client:
            client.send_message(message(sender, to, subject), sender, [to])

    def wait_for_mail(self, login: str, password: str, count: int, seconds: float = 20) -> list[bytes]:
        """The INBOX once it holds `count` messages."""

        def arrived() -> list[bytes] | None:
            try:
                messages = self.inbox(login, password)
            except OSError:  # the store is not up again yet
                return None
            return messages if len(messages) >= count else None

        found: list[bytes] = wait(arrived, seconds, f"{count} messages did not arrive for {login}")
        assert len(found) == count
        return found


class EmbeddedInstallation(Installation):
    """`mailpods up` in a process of its own. Write manifests with `apply()`."""

    elsewhere = ("127.0.0.2", 0)
    net = "127.0.0"

    def __init__(self, folder: Path) -> None:
        self.manifests, self.data = folder / "manifests", folder / "data"
        self.manifests.mkdir(parents=True)
        folder.chmod(0o755)
        self._log = folder / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.options = ["--free-ports"]  # of `up`

    def apply(self, name: str, *documents: Any) -> None:
        """Write one file of manifests, as `kubectl apply` would take them."""
        flat = [d for each in documents for d in (each if isinstance(each, list) else [each])]
        temporary = self.manifests / f".{name}.tmp"
        temporary.write_text(yaml.safe_dump_all(flat))
        temporary.rename(self.manifests / f"{name}.yaml")

    def remove(self, name: str) -> None:
        """Remove a file of manifests."""
        (self.manifests / f"{name}.yaml").unlink()

    def start(self) -> None:
        """Start, or go on."""
        if self.process:
            return
        command = [sys.executable, "-m", "mail_operator.cli.main", "up", str(self.manifests)]
        command += ["--data", str(self.data), *self.options]
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
        self.wait_for("MailServer", "main", seconds=60)

    def govern(self, policy: dict[str, Any]) -> None:
        """Written anew, it is taken up when the hash of the server's settings is another."""
        before = self._settings()
        self.apply("policy", manifest("RelayPolicy", "main", policy))
        if self.process:
            wait(lambda: self._settings() not in (None, before), 10, "the policy was not taken up")

    def _settings(self) -> str | None:
        """The version of the server's settings that all workers have loaded."""
        endpoint = self.state()["admin"].get("main-smtp-0/smtp")
        if endpoint is None:
            return None
        found: str | None = ask_json(endpoint, "/directory")["hashes"].get("server.json")
        return found

    def tool(self, *words: str, fails: bool = False) -> str:
        """In this process."""
        said: dict[bool, StringIO] = {False: StringIO(), True: StringIO()}
        with redirect_stdout(said[False]), redirect_stderr(said[True]):
            failed = bool(cli.main([*words, "--data", str(self.data)]))
        assert failed == fails, said[True].getvalue()
        return said[fails].getvalue()

    def pod(self, name: str, port: int) -> tuple[str, int]:
        """As pods find each other."""
        names = json.loads((self.data / "run" / "resolve.json").read_text())
        (at,) = [at for of, at in names.items() if of.startswith(f"{name}.") and of.endswith(f":{port}")]
        return resolve(at)

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            self.process = None

    def state(self) -> dict[str, Any]:
        """What the runner says of itself."""
        try:
            found: dict[str, Any] = json.loads((self.data / "run" / "status.json").read_text())
        except (FileNotFoundError, ValueError):
            return {"objects": [], "ports": {}, "admin": {}, "queue": {}}
        return found

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """The status of an object, {} if it is not known."""
        rows = self.state()["objects"]
        return next((r["status"] for r in rows if (r["kind"], r["name"]) == (kind, name)), {})

    def wait_for(self, kind: str, name: str, status: str = "True", seconds: float = 20) -> dict[str, str]:
        """Wait for an object's Ready; returns that condition."""

        def reached() -> dict[str, str] | None:
            assert self.process is None or self.process.poll() is None, self.logs()
            ready = self.conditions(kind, name).get("Ready")
            return ready if ready and ready["status"] == status else None

        end = time.monotonic() + seconds
        while (found := reached()) is None:
            assert time.monotonic() < end, f"{kind} {name}: {self.conditions(kind, name)}\n{self.logs()}"
            time.sleep(0.03)
        return found

    def logs(self) -> str:
        """The ends of all logs, for a failure's report."""
        files = [self._log, *sorted((self.data / "logs").glob("*.log"))]
        return "\n".join(
            f"--- {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in files if f.exists()
        )

    def log(self, container: str) -> str:
        """The log of one container, e.g. main-smtp-0-smtp."""
        path = self.data / "logs" / f"{container}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def address(self, service: str) -> tuple[str, int]:
        """Where a service of this machine is."""
        return HOST, self.port(service)

    def port(self, name: str) -> int:
        """This machine's port of a service."""
        return int(self.state()["ports"][name])

    def tls(self) -> ssl.SSLContext:
        """A context that trusts the installation's own authority, and nobody else."""
        files = list(self.data.glob("run/pods/*/tls/ca.crt"))
        context = ssl.create_default_context(cafile=str(files[0]))
        context.check_hostname = False  # the certificate names mail.a.test, not 127.0.0.1
        return context
