"""The store program alone, beside credentials that a test writes: a real Dovecot, and its users."""

import base64
import datetime
import imaplib
import json
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mail_operator.engine.secrets import make_ca, make_certificate
from mail_operator.local.files import write_atomically

from bench.processes import free_port
from mailpods.directory.records import AccountId, Credential, Credentials, StoreSettings
from mailpods.directory.shards import (
    STORE_FILE,
    bucket_of,
    content_hash,
    decode_credentials,
    encode_credentials,
    encode_store,
    file_name,
)
from tests.support.installation import wait

HOST = "127.0.0.1"
USER = "mailpods" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
_PORTS = ("ADMIN", "IMAP", "IMAPS", "POP3", "SIEVE", "LMTP", "QUOTA")


def credential(*logins: str, password: str | None, quota: int | None = None, **services: str) -> Credential:
    """An account of shard 0 that may log in everywhere, unless services are given."""
    hash = None if password is None else f"{{PLAIN}}{password}"
    allowed = services or dict.fromkeys(("imap", "pop3", "sieve", "smtp"), "everywhere")
    return Credential(logins, hash, allowed, quota=quota)  # type: ignore[arg-type]


class StoreProgram:
    """`python -m mailpods.store` with folders of its own, ended by `close()`."""

    def __init__(self, role: str = "store", buckets: int = 1) -> None:
        self.role, self._buckets = role, buckets
        self.folder = Path(tempfile.mkdtemp(prefix="mp-"))  # short: sockets lie below it
        self.folder.chmod(0o755)
        self.state = self.folder / "s"
        for name in ("c", "s", "m", "t"):
            (self.folder / name).mkdir()
            shutil.chown(self.folder / name, USER)
        self.ports = {name: free_port() for name in _PORTS}
        self.settings = StoreSettings("mail.a.test", tls_required=False)
        self.renew_certificate()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        return self.state / "accounts" / "accounts.sqlite"

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def is_up(self) -> bool:
        """Whether it greets clients."""
        try:
            with socket.create_connection((HOST, self.ports["IMAP"]), 10) as client:
                return bool(client.recv(1))
        except OSError:
            return False

    def renew_certificate(self) -> bytes:
        """A certificate of a new authority; in PEM, the host's first."""
        now = datetime.datetime.now(datetime.UTC)
        pair = make_certificate(make_ca("tests", now), ["mail.a.test"], now)
        for name, data in (("tls.key", pair.key), ("tls.crt", pair.certificate)):
            write_atomically(self.folder / "t" / name, data, 0o644)
        return pair.certificate

    def write(self, accounts: Mapping[str, Credential]) -> dict[str, str]:
        """The credentials, as the runner writes them, where they differ; file -> hash."""
        buckets: list[dict[AccountId, Credential]] = [{} for _ in range(self._buckets)]
        for id, each in accounts.items():
            buckets[bucket_of(id, self._buckets)][AccountId(id)] = each
        files = {file_name(n): encode_credentials(Credentials(bucket)) for n, bucket in enumerate(buckets)}
        files[STORE_FILE] = encode_store(self.settings)
        for name, data in files.items():
            write_atomically(self.folder / "c" / name, data, 0o644)
        return {name: content_hash(data) for name, data in files.items()}

    def edit(self, account: str, new: Credential) -> dict[str, str]:
        """Change one account that was told; file -> hash, of the one file that differs then."""
        path = self.folder / "c" / file_name(bucket_of(account, self._buckets))
        there = decode_credentials(path.read_bytes()).accounts
        data = encode_credentials(Credentials({**there, AccountId(account): new}))
        write_atomically(path, data, 0o644)
        return {path.name: content_hash(data)}

    def tell(self, accounts: Mapping[str, Credential], seconds: float = 10) -> None:
        """Write them, and wait until the program says that Dovecot has them."""
        self.wait_for(self.write(accounts), seconds)

    def wait_for(self, hashes: Mapping[str, str], seconds: float = 10) -> None:
        """Wait until the program says that Dovecot has these files."""

        def loaded() -> bool:
            return hashes.items() <= self.directory()["hashes"].items()

        wait(loaded, seconds, "the accounts were not acknowledged")

    def directory(self) -> dict[str, dict[str, str]]:
        """What the program says of its files."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.ports['ADMIN']}/directory") as answer:
                found: dict[str, dict[str, str]] = json.load(answer)
                return found
        except OSError:
            return {"hashes": {}, "problems": {}}

    def start(self) -> None:
        """Start, or start again; it is up when `tell()` returns."""
        command = [
            sys.executable,
            "-m",
            "mailpods.store",
            "--role",
            self.role,
            "--buckets",
            str(self._buckets),
        ]
        for option, name in (("credentials", "c"), ("state", "s"), ("mail", "m"), ("tls", "t")):
            command += [f"--{option}", str(self.folder / name)]
        env = {**os.environ, "BIND": HOST, **{f"PORT_{name}": str(n) for name, n in self.ports.items()}}
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([*command, "--user", USER], env=env, stdout=log, stderr=log)

    def stop(self) -> None:
        """As the kubelet does."""
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.process = None

    def close(self) -> None:
        """End it, and leave nothing but the end of its log, for a failure's report."""
        self.stop()
        print(self.log[-4000:])
        shutil.rmtree(self.folder)

    @contextmanager
    def imap(self, login: str, password: str, source: str = HOST) -> Iterator[imaplib.IMAP4]:
        """A client that logged in from an address of this machine."""
        with socket.create_connection((HOST, self.ports["IMAP"]), 30, (source, 0)) as connection:

            class Client(imaplib.IMAP4):
                def _create_socket(self, timeout: float | None) -> socket.socket:
                    return connection

            client = Client(HOST, 0)
            try:
                client.login(login, password)
                yield client
            finally:
                client.shutdown()

    @contextmanager
    def imaps(self, login: str, password: str) -> Iterator[imaplib.IMAP4_SSL]:
        """A client over TLS that asks for no certificate."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = imaplib.IMAP4_SSL(HOST, self.ports["IMAPS"], ssl_context=context, timeout=30)
        try:
            client.login(login, password)
            yield client
        finally:
            client.shutdown()

    def can_log_in(self, login: str, password: str, source: str = HOST) -> bool:
        """Whether IMAP takes the login."""
        try:
            with self.imap(login, password, source):
                return True
        except imaplib.IMAP4.error:
            return False

    def authenticate(self, login: str, password: str) -> str:
        """Dovecot's answer at the authenticator's socket: OK or FAIL, and its fields."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(self.state / "run" / "auth-client"))
            stream = client.makefile("rwb")
            response = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
            stream.write(b"VERSION\t1\t1\nCPID\t1\n")
            stream.write(f"AUTH\t1\tPLAIN\tservice=smtp\tnologin\trip={HOST}\tresp={response}\n".encode())
            stream.flush()
            for line in stream:
                if line.startswith((b"OK", b"FAIL")):
                    return line.decode().strip()
        raise ConnectionError("Dovecot closed the connection")
