"""AUTH as a pure machine (RFC 4954): a line in; a challenge, credentials or a failure out."""

from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Challenge:
    """Reply this; the client's next line is a response."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client gave: for somebody else to judge."""

    username: bytes
    password: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """The dialogue is over: reply this. `reason` is '' where the client itself ended it."""

    reply: bytes
    reason: str = "syntax"


Step = Challenge | Credentials | Failure

UNKNOWN = Failure(b"504 5.5.4 Mechanisms are PLAIN and LOGIN\r\n")
CANCELLED = Failure(b"501 5.7.0 Cancelled\r\n", "")
NOT_BASE64 = Failure(b"501 5.5.2 Not base64\r\n")
MALFORMED = Failure(b"501 5.5.2 Malformed response\r\n")


def _plain(response: bytes) -> Step:
    """RFC 4616."""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1] or parts[0] not in (b"", parts[1]):
        return MALFORMED
    return Credentials(parts[1], parts[2])


def _login(username: bytes, password: bytes) -> Step:
    return MALFORMED if b"\0" in username + password else Credentials(username, password)


# Mechanism -> what is asked, and what the responses to it mean.
MECHANISMS: dict[str, tuple[tuple[bytes, ...], Callable[..., Step]]] = {
    "PLAIN": ((b"334 \r\n",), _plain),
    "LOGIN": ((b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"), _login),
}


class Exchange:
    """One dialogue; `argument` is what stood behind AUTH."""

    def __init__(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        self._challenges, self._judge = MECHANISMS.get(mechanism.upper(), ((), lambda: UNKNOWN))
        self._initial = initial.encode("utf-8", "surrogateescape")
        self._responses: list[bytes] = []

    def begin(self) -> Step:
        """The first step."""
        if not self._challenges:
            return self._judge()
        return self.answer(self._initial) if self._initial else Challenge(self._challenges[0])

    def answer(self, line: bytes) -> Step:
        """The next step, by the client's line without its CRLF."""
        if line == b"*":
            return CANCELLED
        try:
            self._responses.append(b"" if line == b"=" else b64decode(line, validate=True))
        except ValueError:
            return NOT_BASE64
        if len(self._responses) < len(self._challenges):
            return Challenge(self._challenges[len(self._responses)])
        return self._judge(*self._responses)
