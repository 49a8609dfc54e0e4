"""What filters of users send, redirects and notices: taken from Dovecot on loopback, and given to smtp pods.

Dovecot cannot log in where it sends, so nobody else may: who connects must be our own user. A 250 is said
once an smtp pod has the message on disk; where none takes it, its delivery fails for now, and is tried again.
"""

import os
import re
import secrets
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailpods.admin.peers import Failures
from mailpods.spool import transfer

ADDRESS = "127.0.0.1"
MAX_LINE = 4096  # bytes of a command
MAX_RECIPIENTS = 1000
SECONDS = 300.0  # that a client may be silent (RFC 5321 §4.5.3.2)
_PATH = re.compile(rb"<([^<>]*)>(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Way:
    """Who takes what is sent: our name, smtp pods (host:port), and the key that they know.

    `accounts`: by the addresses from which they send.
    """

    hostname: str
    pods: Sequence[str]
    key: str | None
    accounts: Mapping[str, str]


@dataclass
class _Transaction:
    sender: str | None = None
    eight_bit: bool = False
    utf8: bool = False
    recipients: list[dict[str, Any]] = field(default_factory=list)


class Outgoing:
    """Listens from the start, on loopback; `port` tells where, 0 takes a free one."""

    def __init__(self, way: Callable[[], Way], log: Callable[[str], None], port: int = 0) -> None:
        class Handler(socketserver.StreamRequestHandler):
            timeout = SECONDS

            def handle(self) -> None:
                if not is_ours(self.client_address[1], self.request.getsockname()[1]):
                    self.wfile.write(b"554 5.7.1 this is for Dovecot alone\r\n")
                    return
                try:
                    _Session(self.rfile.readline, self.wfile.write, way(), log).run()
                except OSError as error:
                    log(f"outgoing: {error}")

        self._server = _Server((ADDRESS, port), Handler)
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        """Begin to take mail, in a daemon thread."""
        threading.Thread(target=self._server.serve_forever, name="outgoing", daemon=True).start()

    def stop(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True


def is_ours(port: int, own_port: int) -> bool:
    """Whether a connection on loopback from this port to ours is held by a process of our user (proc(5))."""
    loopback = f"{struct.unpack('=I', bytes(map(int, ADDRESS.split('.'))))[0]:08X}"
    there = (f"{loopback}:{port:04X}", f"{loopback}:{own_port:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (fields[1], fields[2]) == there:
            return int(fields[7]) == os.geteuid()
    return False


class _Session:
    """One connection of Dovecot's client (RFC 5321)."""

    def __init__(
        self,
        readline: Callable[[int], bytes],
        write: Callable[[bytes], Any],
        way: Way,
        log: Callable[[str], None],
    ) -> None:
        self._readline, self._write, self._way, self._log = readline, write, way, log
        self._mail = _Transaction()

    def run(self) -> None:
        """Until QUIT, or the client goes."""
        self._say("220", f"{self._way.hostname} ESMTP")
        while (line := self._readline(MAX_LINE)) and line.endswith(b"\n"):
            verb, _, rest = line.strip().partition(b" ")
            match verb.upper():
                case b"EHLO":
                    names = (self._way.hostname, "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
                    lines = [f"250{' ' if name == names[-1] else '-'}{name}\r\n" for name in names]
                    self._write("".join(lines).encode())
                case b"HELO" | b"RSET" | b"NOOP":
                    self._mail = _Transaction() if verb.upper() != b"NOOP" else self._mail
                    self._say("250", "2.0.0 Ok")
                case b"MAIL":
                    self._begin(rest)
                case b"RCPT":
                    self._add(rest)
                case b"DATA":
                    self._take()
                case b"QUIT":
                    self._say("221", "2.0.0 Bye")
                    return
                case _:
                    self._say("502", "5.5.1 Not known here")

    def _say(self, code: str, text: str) -> None:
        self._write(f"{code} {text}\r\n".encode())

    def _begin(self, rest: bytes) -> None:
        found = _PATH.fullmatch(rest[len(b"FROM:") :].strip())
        if not found or self._mail.sender is not None:
            self._say("501", "5.5.4 MAIL FROM:<address>, once")
            return
        options = found[2].upper().split()
        self._mail = _Transaction(_text(found[1]), b"BODY=8BITMIME" in options, b"SMTPUTF8" in options)
        self._say("250", "2.1.0 Ok")

    def _add(self, rest: bytes) -> None:
        found = _PATH.fullmatch(rest[len(b"TO:") :].strip())
        address = _text(found[1]) if found else ""
        if self._mail.sender is None or "@" not in address:
            self._say("501", "5.5.4 RCPT TO:<address>, after MAIL")
        elif len(self._mail.recipients) >= MAX_RECIPIENTS:
            self._say("452", "4.5.3 Too many recipients")
        else:
            options = _text(found[2] if found else b"").split()
            named = {name.upper(): value for name, _, value in (each.partition("=") for each in options)}
            local, _, domain = address.rpartition("@")
            self._mail.recipients.append(
                {
                    "address": f"{local}@{domain.lower()}",
                    "notify": named.get("NOTIFY"),
                    "orcpt": named.get("ORCPT"),
                    "attempts": 0,
                    "next_try": time.time(),
                    "reply": "",
                    "reserved": 0,
                }
            )
            self._say("250", "2.1.5 Ok")

    def _take(self) -> None:
        if not self._mail.recipients:
            self._say("503", "5.5.1 RCPT first")
            return
        self._say("354", "End with a dot")
        lines: list[bytes] = []
        size = 0
        while (line := self._readline(-1)) != b".\r\n":
            if not line.endswith(b"\n"):
                raise ConnectionError("Dovecot went away in the middle of a message")
            lines.append(line[1:] if line.startswith(b".") else line)
            size += len(line)
        mail, self._mail = self._mail, _Transaction()
        if size > transfer.MAX_BODY - (1 << 20):
            self._say("552", "5.3.4 Too large")
        elif self._give(mail, b"".join(lines)):
            self._say("250", "2.0.0 Ok")
        else:
            self._say("451", "4.4.1 No smtp pod takes it now")

    def _give(self, mail: _Transaction, body: bytes) -> bool:
        """Have the first smtp pod that can take it. Which one it is does not matter."""
        now = time.time()
        record = {
            "id": f"{int(now):08x}{secrets.token_hex(8)}",
            "sender": mail.sender,
            "received_at": now,
            "client_ip": ADDRESS,
            "helo": self._way.hostname,
            "protocol": "ESMTP",
            "account": self._way.accounts.get(mail.sender or ""),
            "smtputf8": int(mail.utf8),
            "body_8bit": int(mail.eight_bit),
            "size": len(body),
            "warned": 0,
            "campaign": "",
            "recipients": mail.recipients,
        }
        for pod in self._way.pods if self._way.key else ():
            try:
                transfer.give(pod, self._way.key or "", record, body)
            except Failures as error:
                self._log(f"outgoing: {pod} does not take mail: {error}")
            else:
                to = " ".join(f"<{each['address']}>" for each in mail.recipients)
                self._log(f"outgoing: sent id={record['id']} from=<{mail.sender}> to={to}")
                return True
        return False


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()
