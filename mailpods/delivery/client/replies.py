"""What servers say, and the ways in which they say nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from mailpods.delivery.client.tls import TlsSession


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its code, and its text with the lines joined by spaces. `urgent`: senders should know now."""

    code: int
    text: str
    urgent: bool = False

    @property
    def ok(self) -> bool:
        """Done."""
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        """Refused for good."""
        return 500 <= self.code < 600

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Disconnected(Exception):
    """The connection failed or was closed: of what was not answered, nothing is known.

    `known`: the replies about the recipients of the message under way that came before, None for each that
    got none. `text_sent`: the server may have taken it all the same; at once it must not get it again.
    """

    sessions: tuple[TlsSession, ...] = ()  # the attempts that it stands for
    known: Sequence[Reply | None] = ()
    text_sent: bool = False


class OutOfStep(Disconnected):
    """The server said more or less than it was asked: which reply answers what is not known any more."""


class Unasked(OutOfStep):
    """The server said something that nobody asked for."""


class NoReply(OutOfStep):
    """Nothing came for too long: a reply may be missing before those that came, which prove nothing then."""


class TlsFailed(Disconnected):
    """The server offered TLS, and no connection came of it; `result` as in TlsSession."""

    def __init__(self, text: str, result: str) -> None:
        super().__init__(text)
        self.result = result


class Unwelcome(Exception):
    """The server does not want to talk to us: its greeting, HELO, TLS or AUTH failed."""

    sessions: tuple[TlsSession, ...] = ()  # as of Disconnected

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class TlsMissing(Unwelcome):
    """It offers no TLS where that is a must."""


class LoginRefused(Unwelcome):
    """It does not take our user name and password."""
