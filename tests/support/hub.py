"""A smarthost for tests: aiosmtpd on a port of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from bench.processes import free_port

HUB = 1  # the last octet of the address of one that stories share


class Hub:
    """A smarthost that wants a login and keeps what it takes."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Envelope]] = []
        self.refuse = False
        self.logins = {"global": "secret"}
        self.failures = 0  # logins that were refused

    async def handle_DATA(self, _: Any, session: Session, envelope: Envelope) -> str:
        """Take a message."""
        if self.refuse:
            return "451 4.3.0 not now"
        self.taken.append((str(session.auth_data), envelope))
        return "250 2.0.0 taken"

    def authenticate(self, _: Any, __: Any, ___: Any, mechanism: str, data: Any) -> AuthResult:
        """Check a login."""
        assert isinstance(data, LoginPassword)
        login, password = data.login.decode(), data.password.decode()
        good = self.logins.get(login) == password
        self.failures += not good
        return AuthResult(success=good, auth_data=login)


@contextmanager
def smarthost(host: str, login: bool = True) -> Iterator[tuple[Hub, int]]:
    """A running one at an address of this machine, and its port. `login`: it wants one."""
    handler, port = Hub(), free_port()
    controller = Controller(
        handler,
        hostname=host,
        port=port,
        authenticator=handler.authenticate,
        auth_require_tls=False,
        auth_required=login,
        decode_data=False,
    )
    controller.start()
    try:
        yield handler, port
    finally:
        controller.stop()
