"""The one form of a refusal: what a client is told, what is counted, what is logged."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply that refuses. `enhanced` is a status code of RFC 3463, or '' where the text must stand alone;
    `reason` is the label of mail_smtp_rejects_total. `closes` ends the connection behind the reply. `rule` is
    the name of a rule in a RelayPolicy, for the log."""

    code: int
    enhanced: str
    text: str
    reason: str
    closes: bool = False
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}" if self.enhanced else f"{self.code} {self.text}"

    @property
    def line(self) -> bytes:
        """The reply as it goes out, with its CRLF."""
        return f"{self}\r\n".encode()
