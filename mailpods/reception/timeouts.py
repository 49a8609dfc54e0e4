"""How long a client may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds (RFC 5321 §4.5.3.2 asks for five minutes)."""

    command: float = 300
    data: float = 300  # between two pieces of a message
    refused: float = 10  # the same, once it is clear that the message is refused
    handshake: float = 20  # TLS
    greeting: float = 2  # that clients wait for it where those that speak first are refused
    silence: float = 2  # behind what may have been meant as the end of a message
    rate: float = 200  # bytes a second of message text, on an average of …
    rate_window: float = 60
    drain: float = 20  # for transactions under way when the program is told to stop

    def message(self, limit: int) -> float:
        """For a whole message of `limit` bytes at most: a slow line may be slow, but not for ever."""
        return 600 + limit / 32_000
