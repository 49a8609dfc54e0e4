"""The dialogue of AUTH (RFC 4954): PLAIN (RFC 4616) and LOGIN. Who is right, Dovecot says."""

from base64 import b64decode
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailpods.identity.dovecot import AuthUnavailable, Login
from mailpods.reception.state import log
from mailpods.refusal import Refusal
from mailpods.smtp import metrics

if TYPE_CHECKING:
    from mailpods.reception.session import Session

MAX_FAILURES = 3  # in one connection

NEEDS_TLS = Refusal(538, "5.7.11", "Encryption required: STARTTLS first", "auth-without-tls")
WRONG = Refusal(535, "5.7.8", "Authentication failed", "authentication-failed")
TOO_MANY = Refusal(421, "4.7.0", "Too many failed logins", "authentication-failed", True)
UNAVAILABLE = Refusal(454, "4.7.0", "Authentication is not available now, try again", "auth-unavailable")


class LoginDialogue:
    """The logins of one session."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._username = b""
        self._failures = 0

    def begin(self, argument: str) -> None:
        """AUTH was said."""
        session = self._session
        mechanism, _, initial = argument.partition(" ")
        if not session.esmtp:
            session.misuse(b"503 5.5.1 EHLO first\r\n", "sequence")
        elif session.facts.account or session.transaction:
            session.misuse(b"503 5.5.1 Not now\r\n", "sequence")
        elif session.facts.settings.server.tls_required and not session.tls:
            session.refuse(NEEDS_TLS)
        elif mechanism.upper() == "PLAIN":
            if initial:
                self._plain(initial.encode())
            else:
                self._ask(b"334 \r\n", self._plain)
        elif mechanism.upper() == "LOGIN":
            if initial:
                self._login_username(initial.encode())
            else:
                self._ask(b"334 VXNlcm5hbWU6\r\n", self._login_username)
        else:
            session.misuse(b"504 5.5.4 Mechanisms are PLAIN and LOGIN\r\n", "syntax")

    def _ask(self, challenge: bytes, consumer: Callable[[bytes], None]) -> None:
        self._session.reply(challenge)
        self._session.expect(consumer)

    def _decoded(self, line: bytes) -> bytes | None:
        """A response, or None if it was answered already: cancelled (`*`) or not base64."""
        if line == b"*":
            self._session.reply(b"501 5.7.0 Cancelled\r\n")
            return None
        try:
            return b"" if line == b"=" else b64decode(line, validate=True)
        except ValueError:
            self._session.misuse(b"501 5.5.2 Not base64\r\n", "syntax")
            return None

    def _plain(self, line: bytes) -> None:
        response = self._decoded(line)
        if response is None:
            return
        parts = response.split(b"\0")
        if len(parts) != 3 or not parts[1] or parts[0] not in (b"", parts[1]):
            self._session.misuse(b"501 5.5.2 Malformed response\r\n", "syntax")
            return
        self._check(parts[1], parts[2])

    def _login_username(self, line: bytes) -> None:
        username = self._decoded(line)
        if username is not None:
            self._username = username
            self._ask(b"334 UGFzc3dvcmQ6\r\n", self._login_password)

    def _login_password(self, line: bytes) -> None:
        password = self._decoded(line)
        if password is not None:
            self._check(self._username, password)

    def _check(self, username: bytes, password: bytes) -> None:
        session = self._session
        if b"\0" in username + password:
            session.misuse(b"501 5.5.2 Malformed response\r\n", "syntax")
            return
        session.suspend(self._checked(Login(username, password, session.ip, session.tls)))

    async def _checked(self, login: Login) -> None:
        session = self._session
        try:
            account = await session.hub.auth.check(login)
        except AuthUnavailable:
            metrics.LOGINS.labels("unavailable").inc()
            session.refuse(UNAVAILABLE)
            return
        if account is None:
            # What was given as user name is not logged: people type passwords into the wrong field.
            metrics.LOGINS.labels("wrong").inc()
            self._failures += 1
            session.refuse(TOO_MANY if self._failures >= MAX_FAILURES else WRONG)
            return
        metrics.LOGINS.labels("ok").inc()
        session.facts.account = account
        log(f"login client={session.ip} account={account}")
        session.reply(b"235 2.7.0 Authentication successful\r\n")
